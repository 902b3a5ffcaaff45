//! Whoever can write to the broker can send anything. It harms nothing.

use serde_json::json;
use umbel::{proto::Signature, telling::Description};
use umbel_tests::{
    servers::redis::RedisServer,
    wait::{until, until_async},
};

use super::{described, node, said};

/// An envelope around a body, as kombu writes it.
pub(super) fn envelope(body: &str) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(body);
    json!({
        "body": body, "content-encoding": "utf-8", "content-type": "application/json", "headers": { "clock": 1 },
        "properties": { "delivery_mode": 1, "delivery_info": { "exchange": "celery.pidbox", "routing_key": "" }, "priority": 0,
                        "body_encoding": "base64", "delivery_tag": "t" },
    })
    .to_string()
}

/// Goal: commands and events that are no such thing, or ask for what nobody should get, are dropped; the node answers and works
/// as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_messages_harm_nothing() {
    let server = RedisServer::default();
    let node = described(&server, "w1@host1", &["celery"], Description { task_events: true, ..Description::default() }).await;
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let huge = format!(r#"{{"method":"ping","arguments":{{"x":"{}"}}}}"#, "y".repeat(1 << 20));
    let reply = |exchange: &str, key: &str| {
        json!({ "method": "ping", "arguments": {}, "ticket": "t", "reply_to": { "exchange": exchange, "routing_key": key } }).to_string()
    };
    let commands = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        r#"{"method":7}"#.to_owned(),
        r#"{"method":"ping","arguments":[1]}"#.to_owned(),
        r#"{"method":"ping","destination":{"a":1}}"#.to_owned(),
        r#"{"method":"ping","pattern":"(((((a*)*)*)*)*)*b","matcher":"pcre"}"#.to_owned(),
        r#"{"method":"ping","pattern":"[","matcher":"glob"}"#.to_owned(),
        r#"{"method":"revoke","arguments":{"task_id":{"a":1},"signal":"SIGNONSENSE"}}"#.to_owned(),
        r#"{"method":"rate_limit","arguments":{"task_name":null,"rate_limit":[]}}"#.to_owned(),
        r#"{"method":"pool_grow","arguments":{"n":-9223372036854775808}}"#.to_owned(),
        r#"{"method":"pool_shrink","arguments":{"n":99999999}}"#.to_owned(),
        r#"{"method":"add_consumer","arguments":{"queue":""}}"#.to_owned(),
        r#"{"method":"time_limit","arguments":{"task_name":"proj.add","soft":-1,"hard":1e308}}"#.to_owned(),
        r#"{"method":"election","arguments":{"id":null,"topic":{},"action":"x"}}"#.to_owned(),
        r#"{"method":"hello","arguments":{"from_node":[],"revoked":"x"}}"#.to_owned(),
        // Answers are not sent into queues of tasks.
        reply("", "celery"),
        reply("celery", "celery"),
        deep,
        huge,
    ];
    for command in &commands {
        server.run(&["PUBLISH", "/0.celery.pidbox", command]);
        server.run(&["PUBLISH", "/0.celery.pidbox", &envelope(command)]);
    }
    for event in [
        "",
        "null",
        "[[]]",
        r#"{"type":"worker-heartbeat"}"#,
        r#"[{"type":"task-sent","hostname":1}]"#,
        r#"{"type":"x","hostname":"y","clock":9223372036854775807}"#,
    ] {
        server.run(&["PUBLISH", "/0.celeryev/task.multi", event]);
        server.run(&["PUBLISH", "/0.celeryev/worker.heartbeat", &envelope(event)]);
    }
    assert_eq!(said("5.7", &server, "w1@host1", "ping", json!({})).await, json!({ "ok": "pong" }));
    let sum = node.client().submit(Signature::new("proj.add").arg(1).arg(1)).await.unwrap();
    assert_eq!(sum.get::<i64>(std::time::Duration::from_secs(60)).await.unwrap(), 2);
    assert!(node.broker().dead(10).await.unwrap().is_empty(), "an answer was sent into a queue of tasks");
    let report = node.report().await.unwrap();
    assert_eq!((report.restarts["control"], report.restarts["events"]), (0, 0));
}

/// Goal: of a flood of commands only so many are carried out, and what is sent afterwards is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_commands_is_cut() {
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["celery"]).await;
    let publish = "for i = 1, 20000 do redis.call('PUBLISH', '/0.celery.pidbox', ARGV[1]) end return 1";
    server.run(&["EVAL", publish, "0", &envelope(r#"{"method":"heartbeat","arguments":{}}"#)]);
    until_async("it answers again", || async {
        let answer = said("5.7", &server, "w1@host1", "ping", json!({})).await;
        (answer == json!({ "ok": "pong" })).then_some(())
    })
    .await;
    assert_eq!(node.report().await.unwrap().restarts["control"], 0);
}

/// Goal: a panic of the actor costs its answer, and nothing else: it is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remote_control_is_started_again() {
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["celery"]).await;
    server.cut();
    server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("it hears again", || {
        let listening: Vec<(String, u64)> = server.ask(&["PUBSUB", "NUMSUB", "/0.celery.pidbox"]);
        listening.iter().any(|(_, count)| *count > 0).then_some(())
    });
    until_async("it answers again", || async {
        let answer = said("5.7", &server, "w1@host1", "ping", json!({})).await;
        (answer == json!({ "ok": "pong" })).then_some(())
    })
    .await;
    drop(node);
}
