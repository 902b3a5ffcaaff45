//! Every command answers as Celery's workers do, to Celery's own client.

use serde_json::{Value as Json, json};
use umbel::proto::Signature;
use umbel_tests::{servers::redis::RedisServer, wait::until_async};

use super::{VERSIONS, ask, node, said};

/// Goal: the fixed answers are those that were captured from Celery, word for word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_answers_are_celerys() {
    let server = RedisServer::default();
    let _node = node(&server, "w1@host1", &["celery"]).await;
    let unknown = json!({ "error": "unknown task" });
    let expected = [
        (json!(["ping", {}]), json!({ "ok": "pong" })),
        (json!(["ping", {}, { "destination": ["w1@host1"], "limit": 1 }]), json!({ "ok": "pong" })),
        (json!(["ping", {}, { "pattern": "w1*", "matcher": "glob", "limit": 1 }]), json!({ "ok": "pong" })),
        (json!(["ping", {}, { "pattern": "w[1]@.*", "matcher": "pcre", "limit": 1 }]), json!({ "ok": "pong" })),
        (json!(["reserved", {}]), json!([])),
        (json!(["scheduled", {}]), json!([])),
        (json!(["revoke", { "task_id": "a" }]), json!({ "ok": "tasks {'a'} flagged as revoked" })),
        (json!(["revoke", { "task_id": ["b", "a"] }]), json!({ "ok": "tasks {'a', 'b'} flagged as revoked" })),
        (json!(["revoked", {}]), json!(["a", "b"])),
        (json!(["revoke", { "task_id": "nosuch", "terminate": true, "signal": "SIGTERM" }]), json!({ "ok": "terminate: tasks unknown" })),
        (
            json!(["revoke_by_stamped_headers", { "headers": { "customer": ["acme"] }, "terminate": false, "signal": "SIGTERM" }]),
            json!({ "ok": "headers {'customer': ['acme']} flagged as revoked, but not terminated" }),
        ),
        (
            json!(["revoke_by_stamped_headers", { "headers": { "customer": ["acme"] }, "terminate": true, "signal": "SIGTERM" }]),
            json!({ "ok": "headers {'customer': ['acme']} were not terminated" }),
        ),
        (json!(["registered", {}]), json!(["proj.add", "proj.burn", "proj.fail", "proj.limited [rate_limit=10/m]", "proj.wait"])),
        (
            json!(["dump_tasks", { "taskinfoitems": ["max_retries", "acks_late", "_secret"] }]),
            json!(["add", "burn", "fail", "limited", "wait"].map(|name| format!("proj.{name} [max_retries=3 acks_late=True]"))),
        ),
        (json!(["query_task", { "ids": ["nobody"] }]), json!({})),
        (json!(["rate_limit", { "task_name": "proj.add", "rate_limit": "200/m" }]), json!({ "ok": "new rate limit set successfully" })),
        (json!(["rate_limit", { "task_name": "proj.add", "rate_limit": 0 }]), json!({ "ok": "rate limit disabled successfully" })),
        (
            json!(["rate_limit", { "task_name": "proj.add", "rate_limit": "xx" }]),
            json!({ "error": "Invalid rate limit string: ValueError(\"could not convert string to float: 'xx'\")" }),
        ),
        (json!(["rate_limit", { "task_name": "no.such", "rate_limit": "1/s" }]), unknown.clone()),
        (json!(["time_limit", { "task_name": "proj.add", "hard": 120, "soft": 60 }]), json!({ "ok": "time limits set successfully" })),
        (json!(["time_limit", { "task_name": "no.such", "hard": 120, "soft": 60 }]), unknown),
        (
            json!(["add_consumer", { "queue": "extra", "exchange": null, "exchange_type": "direct", "routing_key": null }]),
            json!({ "ok": "add consumer extra" }),
        ),
        (json!(["cancel_consumer", { "queue": "extra" }]), json!({ "ok": "no longer consuming from extra" })),
        (json!(["pool_grow", { "n": 1 }]), json!({ "ok": "pool will grow" })),
        (json!(["pool_shrink", { "n": 1 }]), json!({ "ok": "pool will shrink" })),
        (json!(["pool_restart", {}]), json!({ "ok": "reload started" })),
        (json!(["autoscale", { "max": 5, "min": 1 }]), json!({ "error": "ValueError('Autoscale not enabled')" })),
        (json!(["enable_events", {}]), json!({ "ok": "task events enabled" })),
        (json!(["enable_events", {}]), json!({ "ok": "task events already enabled" })),
        (json!(["disable_events", {}]), json!({ "ok": "task events disabled" })),
        (json!(["disable_events", {}]), json!({ "ok": "task events already disabled" })),
        (json!(["heartbeat", {}]), Json::Null),
        (json!(["election", { "id": "E1", "topic": "none", "action": null }]), Json::Null),
        (json!(["hello", { "from_node": "w1@host1" }]), Json::Null),
        (json!(["no_such_command", {}]), json!({ "error": "KeyError('no_such_command')" })),
        (
            json!(["enable_events", { "foo": 1 }]),
            json!({ "error": "TypeError(\"enable_events() got an unexpected keyword argument 'foo'\")" }),
        ),
        (json!(["objgraph", {}]), json!({ "error": "ImportError('Requires the objgraph library')" })),
    ];
    // One answer is enough to end the wait of a command that one node answers.
    let commands: Vec<Json> = expected
        .iter()
        .map(|(command, _)| {
            let mut command = command.clone();
            if command.as_array().unwrap().len() == 2 {
                command.as_array_mut().unwrap().push(json!({ "limit": 1 }));
            }
            command
        })
        .collect();
    let answers = ask("5.7", &server, json!(commands)).await;
    for ((command, wanted), answer) in expected.iter().zip(&answers) {
        let told = answer.get("w1@host1").unwrap_or_else(|| panic!("no answer to {command}"));
        assert_eq!(told, wanted, "{command}");
    }
    let others = json!([
        ["ping", {}, { "destination": ["nobody@x"], "timeout": 0.3 }],
        ["ping", {}, { "pattern": "w2*", "matcher": "glob", "timeout": 0.3 }]
    ]);
    assert_eq!(ask("5.7", &server, others).await, [json!({}), json!({})], "nobody who was not meant answers");
}

/// Goal: the shape of what depends on the node is Celery's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_is_and_has_is_told_in_celerys_shape() {
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["celery", "other"]).await;
    let client = node.client();
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(client.submit(Signature::new("proj.wait")).await.unwrap().id().to_owned());
    }
    until_async("both run", || async { (node.report().await?.running().count() == 2).then_some(()) }).await;
    let waiting = client.submit(Signature::new("proj.add").arg(1).arg(2)).await.unwrap().id().to_owned();
    let later = client.submit(Signature::new("proj.add").arg(3).arg(4).set("countdown", 900)).await.unwrap().id().to_owned();
    until_async("the third waits", || async { node.report().await?.pools[0].as_ref().filter(|pool| pool.waiting == 1).map(drop) }).await;
    for version in VERSIONS {
        let one = json!({ "limit": 1 });
        let ids = json!({ "ids": [running[0], waiting, later, "nobody"] });
        let asked = json!([
            ["active", {}, one], ["active", { "safe": true }, one], ["reserved", {}, one], ["scheduled", {}, one], ["query_task", ids, one],
            ["stats", {}, one], ["active_queues", {}, one], ["conf", {}, one], ["report", {}, one], ["clock", {}, one], ["memsample", {}, one]
        ]);
        let answers: Vec<Json> = ask(version, &server, asked).await.into_iter().map(|answer| answer["w1@host1"].clone()).collect();
        let [active, safe, reserved, scheduled, queried, stats, queues, conf, report, clock, memory] = &answers[..] else {
            panic!("{answers:?}")
        };
        let keys = ["id", "name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged", "delivery_info", "worker_pid"];
        assert_eq!(active.as_array().unwrap().len(), 2, "{active}");
        let info = &active[0];
        assert_eq!(info.as_object().unwrap().keys().collect::<Vec<_>>(), keys, "{info}");
        assert_eq!((&info["args"], &info["kwargs"], &info["hostname"]), (&json!([]), &json!({}), &json!("w1@host1")));
        assert_eq!(info["worker_pid"], json!(std::process::id()));
        assert!(info["time_start"].as_f64().is_some_and(|start| start > 1e9), "{info}");
        assert_eq!(info["delivery_info"], json!({ "exchange": "", "routing_key": "celery", "priority": 0, "redelivered": false }));
        assert_eq!(safe[0]["args"], json!("()"));
        assert_eq!(reserved[0]["id"], json!(waiting));
        assert_eq!(
            (&reserved[0]["args"], &reserved[0]["time_start"], &reserved[0]["worker_pid"]),
            (&json!([1, 2]), &Json::Null, &Json::Null)
        );
        assert_eq!((&scheduled[0]["request"]["id"], &scheduled[0]["priority"]), (&json!(later), &json!(6)));
        assert!(scheduled[0]["eta"].as_str().is_some_and(|eta| eta.contains('T')), "{scheduled}");
        let states: Vec<&Json> = [&running[0], &waiting, &later].iter().map(|id| &queried[id.as_str()][0]).collect();
        assert_eq!(states, [&json!("active"), &json!("reserved"), &json!("scheduled")]);
        assert!(queried.get("nobody").is_none());
        assert_eq!(stats["total"], json!({ "proj.wait": 2 }));
        assert_eq!((&stats["pool"]["max-concurrency"], stats["pool"]["processes"].as_array().unwrap().len()), (&json!(2), 2));
        assert!(stats["uptime"].as_u64().is_some() && stats["clock"].as_str().is_some() && stats["rusage"]["utime"].as_f64().is_some());
        assert!(stats["prefetch_count"].as_u64() == Some(8) && stats["pid"] == json!(std::process::id()), "{stats}");
        assert_eq!(queues.as_array().unwrap().iter().map(|queue| &queue["name"]).collect::<Vec<_>>(), [&json!("celery"), &json!("other")]);
        assert_eq!(queues[0]["exchange"]["type"], json!("direct"));
        assert_eq!((queues[0].as_object().unwrap().len(), &queues[0]["routing_key"]), (18, &json!("celery")));
        assert_eq!(conf["task_default_queue"], json!("celery"));
        assert!(report["ok"].as_str().unwrap().contains("umbel"));
        assert!(clock["clock"].as_i64().is_some_and(|clock| clock > 0));
        assert!(memory.as_str().is_some_and(|memory| memory.ends_with("MB")));
    }
}

/// Goal: a worker that starts learns what is revoked, in the form that each version reads, and nodes learn from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_are_exchanged_with_workers_that_start() {
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["celery"]).await;
    said("5.7", &server, "w1@host1", "revoke", json!({ "task_id": "ours" })).await;
    for (number, theirs) in [json!({ "of56": 1_795_239_933.0 }), json!(["of57"])].into_iter().enumerate() {
        let told = said("5.6", &server, "w1@host1", "hello", json!({ "from_node": "other@x", "revoked": theirs })).await;
        assert_eq!(told["revoked"].as_array().unwrap().len(), number + 2, "{told}");
        assert!(told["clock"].as_i64().is_some());
    }
    let mut revoked = node.broker().revoked();
    let known = revoked.wait_for(|revoked| revoked.iter().count() == 3).await.unwrap().clone();
    assert!(known.iter().all(|(order, _)| !order.ends()), "none of them ends what runs");
}

/// Goal: commands are answered while every slot is busy and both processors burn.
/// Method: as many pings as a busy minute has, one after the other, by the command line's own client; the time they take is
/// measured by the bench, here they only have to be answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_node_answers() {
    const COUNT: usize = 60;
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["celery"]).await;
    for _ in 0..4 {
        node.client().submit(Signature::new("proj.burn")).await.unwrap();
    }
    until_async("both slots burn", || async { (node.report().await?.running().count() == 2).then_some(()) }).await;
    let commands = ["ping", "active", "reserved", "stats"];
    let asked: Vec<Json> =
        (0..COUNT).map(|number| json!([commands[number % 4], {}, { "destination": ["w1@host1"], "timeout": 30.0 }])).collect();
    let answers = ask("5.7", &server, json!(asked)).await;
    let answered = answers.iter().filter(|answer| answer.get("w1@host1").is_some()).count();
    assert_eq!(answered, COUNT);
    assert_eq!(answers[1]["w1@host1"].as_array().unwrap().len(), 2, "it says what burns");
    said("5.7", &server, "w1@host1", "revoke", {
        let ids: Vec<Json> = answers[1]["w1@host1"].as_array().unwrap().iter().map(|task| task["id"].clone()).collect();
        json!({ "task_id": ids, "terminate": true })
    })
    .await;
}
