//! What remote control changes is changed: slots, queues, limits, revocations, what runs.

use std::{path::Path, time::Duration};

use serde_json::{Value as Json, json};
use umbel::{
    Node,
    proto::{Signature, TaskId},
    telling::{Allow, Description},
};
use umbel_tests::{
    servers::redis::RedisServer,
    wait::{soon, until, until_async},
};

use super::{ask, celery, described, node, said, scaled};

async fn running(node: &Node, count: usize) {
    until_async("tasks run", || async { (node.report().await?.running().count() == count).then_some(()) }).await;
}

/// Goal: a pool grows and shrinks while it works: more run at once, fewer when what runs has ended, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_grows_and_shrinks() {
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["celery"]).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(node.client().submit(Signature::new("proj.wait")).await.unwrap().id().to_owned());
    }
    running(&node, 2).await;
    said("5.7", &server, "w1@host1", "pool_grow", json!({ "n": 2 })).await;
    running(&node, 4).await;
    let stats = said("5.7", &server, "w1@host1", "stats", json!({})).await;
    assert_eq!((&stats["pool"]["max-concurrency"], &stats["prefetch_count"]), (&json!(4), &json!(16)));
    said("5.7", &server, "w1@host1", "pool_shrink", json!({ "n": "3" })).await;
    let active = said("5.7", &server, "w1@host1", "active", json!({})).await;
    let active: Vec<Json> = active.as_array().unwrap().iter().map(|task| task["id"].clone()).collect();
    assert_eq!(active.len(), 4, "what runs is not ended by shrinking");
    said("5.7", &server, "w1@host1", "revoke", json!({ "task_id": active, "terminate": true })).await;
    running(&node, 1).await;
    let report = node.report().await.unwrap();
    assert_eq!((report.pools[0].as_ref().unwrap().slots, report.credits.total), (1, 4));
    let sum = node.client().submit(Signature::new("proj.add").arg(1).arg(2)).await.unwrap();
    said("5.7", &server, "w1@host1", "revoke", json!({ "task_id": ids, "terminate": true })).await;
    assert_eq!(sum.get::<i64>(Duration::from_secs(60)).await.unwrap(), 3, "the last slot still works");
    said("5.7", &server, "w1@host1", "pool_restart", json!({})).await;
    let sum = node.client().submit(Signature::new("proj.add").arg(2).arg(2)).await.unwrap();
    assert_eq!(sum.get::<i64>(Duration::from_secs(60)).await.unwrap(), 4, "another slot in its place works");
}

/// Goal: a pool whose size follows its work has as many slots as there are tasks, within bounds that change while it works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_follows_its_work() {
    let server = RedisServer::default();
    let node = scaled(&server, "w1@host1", "4,1").await;
    let slots = || async { Some(node.report().await?.pools[0].as_ref()?.slots) };
    assert_eq!(slots().await, Some(1));
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(node.client().submit(Signature::new("proj.wait")).await.unwrap().id().to_owned());
    }
    running(&node, 4).await;
    let stats = said("5.7", &server, "w1@host1", "stats", json!({})).await;
    assert_eq!(stats["autoscaler"], json!({ "max": 4, "min": 1, "current": 4, "qty": 8 }));
    for (method, arguments, answer) in [
        ("pool_grow", json!({ "n": 1 }), "pool_grow is not supported with autoscale. Adjust autoscale range instead."),
        ("pool_shrink", json!({}), "pool_shrink is not supported with autoscale. Adjust autoscale range instead."),
        (
            "autoscale",
            json!({ "max": 1, "min": 2 }),
            "ValueError('the most, 1, is less than the least, 2; the most comes first, as in `10,3`')",
        ),
    ] {
        assert_eq!(said("5.7", &server, "w1@host1", method, arguments).await, json!({ "error": answer }));
    }
    let more = celery("5.7", &server, &["control", "autoscale", "6", "2"]).await;
    assert!(more.stdout.contains("autoscale now max=6 min=2"), "{}", more.stdout);
    running(&node, 6).await;
    assert_eq!(said("5.7", &server, "w1@host1", "autoscale", json!({ "max": 3 })).await, json!({ "ok": "autoscale now max=3 min=2" }));
    until_async("the pool is smaller", || async { (slots().await == Some(3)).then_some(()) }).await;
    assert_eq!(node.report().await.unwrap().running().count(), 6, "what runs is not ended by shrinking");
    said("5.7", &server, "w1@host1", "revoke", json!({ "task_id": ids, "terminate": true })).await;
    let sum = node.client().submit(Signature::new("proj.add").arg(1).arg(2)).await.unwrap();
    assert_eq!(sum.get::<i64>(Duration::from_secs(60)).await.unwrap(), 3, "what is left still works");
}

/// Goal: a node takes from a queue when it is told to, and no more when it is told not to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_come_and_go() {
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["celery"]).await;
    let client = node.client();
    let to_extra = || Signature::new("proj.add").arg(1).arg(1).set("queue", "extra");
    let early = client.submit(to_extra()).await.unwrap();
    said("5.7", &server, "w1@host1", "add_consumer", json!({ "queue": "extra" })).await;
    assert_eq!(early.get::<i64>(Duration::from_secs(60)).await.unwrap(), 2);
    let queues = said("5.7", &server, "w1@host1", "active_queues", json!({})).await;
    assert_eq!(queues[1]["name"], json!("extra"));
    said("5.7", &server, "w1@host1", "cancel_consumer", json!({ "queue": "extra" })).await;
    until_async("the broker knows that nobody takes from it", || async {
        let nodes = node.broker().nodes().await.unwrap().unwrap();
        nodes[0].queues.iter().all(|queue| queue.as_str() != "extra").then_some(())
    })
    .await;
    let late = client.submit(to_extra()).await.unwrap();
    let other = client.submit(Signature::new("proj.add").arg(2).arg(2)).await.unwrap();
    assert_eq!(other.get::<i64>(Duration::from_secs(60)).await.unwrap(), 4);
    assert_eq!(node.broker().peek(&"extra".into(), 9).await.unwrap().len(), 1, "{} waits", late.id());
}

/// Goal: a limit that is set for everybody holds on nodes that start later; one that is set for one node does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_outlive_the_node_they_were_set_on() {
    let server = RedisServer::default();
    let first = node(&server, "w1@host1", &["one"]).await;
    let limit = |task: &str, rate: &str| json!({ "task_name": task, "rate_limit": rate });
    ask(
        "5.7",
        &server,
        json!([
            ["rate_limit", limit("proj.add", "7/h"), { "limit": 1 }],
            ["time_limit", { "task_name": "proj.add", "soft": 1, "hard": 2 }, { "limit": 1 }],
            ["rate_limit", limit("proj.fail", "5/m"), { "destination": ["w1@host1"] }]
        ]),
    )
    .await;
    let told = said("5.7", &server, "w1@host1", "registered", json!({})).await;
    let told: Vec<&str> = told.as_array().unwrap().iter().filter_map(Json::as_str).collect();
    assert!(told.contains(&"proj.add [rate_limit=7/h]") && told.contains(&"proj.fail [rate_limit=5/m]"), "{told:?}");
    let _second = node(&server, "w2@host1", &["two"]).await;
    let items = json!({ "taskinfoitems": ["rate_limit", "soft_time_limit", "time_limit"] });
    let told = &ask("5.7", &server, json!([["registered", items, { "destination": ["w2@host1"] }]])).await[0]["w2@host1"];
    let told: Vec<&str> = told.as_array().unwrap().iter().filter_map(Json::as_str).collect();
    assert!(told.contains(&"proj.add [rate_limit=7/h soft_time_limit=1 time_limit=2]") && told.contains(&"proj.fail"), "{told:?}");
    // And it is the limit that tasks are held by: lifting it lets those go that wait.
    let client = first.client();
    let to_one = || Signature::new("proj.limited").set("queue", "one");
    ask("5.7", &server, json!([["rate_limit", limit("proj.limited", "13/m"), { "destination": ["w1@host1"] }]])).await;
    let sums = [client.submit(to_one()).await.unwrap(), client.submit(to_one()).await.unwrap()];
    ask("5.7", &server, json!([["rate_limit", limit("proj.limited", "0"), { "limit": 2 }]])).await;
    until_async("nobody waits any more", || async { first.report().await?.gate.filter(|gate| gate.limited == 0).map(drop) }).await;
    for sum in sums {
        soon("a task without a limit", sum.get::<Option<i64>>(Duration::from_secs(60))).await.unwrap();
    }
}

/// Goal: a revoked task does not start, also on a node that starts later and by its stamp; one that runs goes on unless it is
/// to be terminated; whoever waits for one that has not begun is told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_tasks_do_not_start() {
    let server = RedisServer::default();
    let first = node(&server, "w1@host1", &["celery"]).await;
    let client = first.client();
    let runs = client.submit(Signature::new("proj.wait")).await.unwrap();
    running(&first, 1).await;
    let waits = client.submit(Signature::new("proj.add").arg(1).arg(1).set("queue", "later")).await.unwrap();
    let mut stamped = Signature::new("proj.add").arg(1).arg(1).set("queue", "later");
    stamped = stamped.set("stamped_headers", json_value(json!(["customer"]))).set("customer", "acme");
    let stamped = client.submit(stamped).await.unwrap();
    let ids = [runs.id(), waits.id()];
    said("5.7", &server, "w1@host1", "revoke", json!({ "task_id": ids })).await;
    said("5.7", &server, "w1@host1", "revoke_by_stamped_headers", json!({ "headers": { "customer": ["acme"] } })).await;
    let state = |id: &str| {
        let (backend, id) = (first.backend(), TaskId::from(id));
        async move { backend.get(&[id]).await.unwrap().remove(0).map(|record| record.status.as_str().to_owned()) }
    };
    assert_eq!(state(waits.id()).await.as_deref(), Some("REVOKED"));
    assert_eq!(state(runs.id()).await, None, "what runs is left alone");
    running(&first, 1).await;
    let _second = node(&server, "w2@host1", &["later"]).await;
    until_async("the stamped one is refused", || async { (state(stamped.id()).await.as_deref() == Some("REVOKED")).then_some(()) }).await;
    let told = said("5.7", &server, "w1@host1", "terminate", json!({ "task_id": [runs.id()], "signal": "SIGKILL" })).await;
    assert_eq!(told, json!({ "ok": format!("terminate: {}", runs.id()) }));
    until_async("it is terminated", || async { (state(runs.id()).await.as_deref() == Some("REVOKED")).then_some(()) }).await;
}

fn json_value(json: Json) -> umbel::Value {
    umbel::Value::from_serialize(&json).unwrap()
}

/// Goal: terminating a command ends its grandchildren too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminating_a_command_ends_its_grandchildren() {
    let server = RedisServer::default();
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!("sh -c 'sleep 600 & echo $! >> {0}; wait' & echo $! >> {0}; sleep 600 & echo $! >> {0}; wait", pids.display());
    let config = format!("[tasks.\"proj.tree\"]\ncommand = [\"sh\", \"-c\", {script:?}]\n\n[http]\nlisten = \"127.0.0.1:0\"\n");
    std::fs::write(folder.path().join("umbel.toml"), config).unwrap();
    let _worker = super::seed::Worker::start(&server, folder.path(), "w1@host1", "celery");
    let sent = ask("5.7", &server, json!([["ping", {}, { "destination": ["w1@host1"], "timeout": 30.0 }]])).await;
    assert_eq!(sent[0]["w1@host1"], json!({ "ok": "pong" }));
    let broker = super::backbone(&server);
    let client = umbel::Client::new(
        broker.broker.clone(),
        broker.backend.clone(),
        broker.ledger.clone(),
        std::sync::Arc::default(),
        Default::default(),
    );
    let id = client.submit(Signature::new("proj.tree")).await.unwrap().id().to_owned();
    let processes = until("all of them run", || {
        let text = std::fs::read_to_string(&pids).unwrap_or_default();
        let found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (found.len() == 3).then_some(found)
    });
    let active = said("5.7", &server, "w1@host1", "active", json!({})).await;
    let shell = active[0]["worker_pid"].as_u64().unwrap();
    assert!(Path::new(&format!("/proc/{shell}")).exists() && shell != u64::from(std::process::id()), "{active}");
    let told = said("5.7", &server, "w1@host1", "revoke", json!({ "task_id": [id], "terminate": true, "signal": "SIGTERM" })).await;
    assert_eq!(told, json!({ "ok": format!("terminate: {id}") }));
    until("none of them is left", || {
        let alive = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        (!processes.iter().any(alive)).then_some(())
    });
}

/// Goal: an allow list leaves looking open and refuses what changes something; a node that may not be controlled is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_controlled_can_be_limited() {
    let server = RedisServer::default();
    let allow = Allow::Only(vec!["revoke".to_owned()]);
    let node = described(&server, "w1@host1", &["celery"], Description { allow, ..Description::default() }).await;
    let answers = ask(
        "5.7",
        &server,
        json!([["ping", {}, { "limit": 1 }], ["shutdown", {}, { "limit": 1 }], ["revoke", { "task_id": "a" }, { "limit": 1 }]]),
    )
    .await;
    assert_eq!(answers[0]["w1@host1"], json!({ "ok": "pong" }));
    assert!(answers[1]["w1@host1"]["error"].as_str().unwrap().contains("not allowed"), "{answers:?}");
    assert!(answers[2]["w1@host1"].get("ok").is_some());
    assert!(node.report().await.is_some(), "it runs on");
}

/// Goal: a node that is told to stop finishes what it has, says farewell, and leaves no queue behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_is_warm_and_leaves_nothing_behind() {
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["celery"]).await;
    let answers = ask("5.7", &server, json!([["shutdown", {}, { "timeout": 0.3 }]])).await;
    assert_eq!(answers, [json!({})], "nobody answers to it");
    soon("its end", node.wait()).await.unwrap();
    let bound: Vec<String> = server.ask(&["SMEMBERS", "_kombu.binding.celery.pidbox"]);
    assert!(bound.is_empty(), "{bound:?}");
}
