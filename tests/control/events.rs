//! Events, heard by Celery's own receiver; and those of others, heard here.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};
use umbel::{
    actors::beat::BeatOptions,
    brokers::Backbone,
    proto::{Event, Signature, event::Action},
    scheduler::{
        beat::{Entry, Source, tick_id},
        schedule::When,
    },
    telling::Description,
};
use umbel_tests::{
    servers::redis::RedisServer,
    wait::{soon, until, until_async},
};

use super::{VERSIONS, described, environment, folder, node, python, said, variables};

/// A receiver of Celery's that writes what it hears, a line each.
struct Receiver {
    child: std::process::Child,
    file: tempfile::NamedTempFile,
}

impl Receiver {
    fn start(version: &str, server: &RedisServer) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(environment(version).join("bin/python"));
        command.env_clear().envs(variables(server)).current_dir(folder()).arg("receive.py").arg(file.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let receiver = Self { child, file };
        // kombu listens with its first look for messages, of which it says nothing.
        let probe = super::hostile::envelope(r#"{"type":"worker-probe","hostname":"test"}"#);
        until("it receives", || {
            server.run(&["PUBLISH", "/0.celeryev/worker.probe", &probe]);
            receiver.heard().iter().any(|event| event["type"] == "worker-probe").then_some(())
        });
        receiver
    }

    fn heard(&self) -> Vec<Json> {
        let text = std::fs::read_to_string(self.file.path()).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn of(&self, kind: &str) -> Vec<Json> {
        self.heard().into_iter().filter(|event| event["type"] == kind).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Goal: workers and tasks are told of with all of Celery's fields, tasks only when somebody wants it, and logical clocks grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celerys_receiver_hears_workers_and_tasks() {
    for version in VERSIONS {
        let server = RedisServer::default();
        let receiver = Receiver::start(version, &server);
        let node = node(&server, "w1@host1", &["celery"]).await;
        let client = node.client();
        let quiet = client.submit(Signature::new("proj.add").arg(1).arg(1)).await.unwrap();
        quiet.get::<i64>(Duration::from_secs(60)).await.unwrap();
        said(version, &server, "w1@host1", "enable_events", json!({})).await;
        let good = client.submit(Signature::new("proj.add").arg(2).arg(3)).await.unwrap().id().to_owned();
        let bad = client.submit(Signature::new("proj.fail")).await.unwrap().id().to_owned();
        let told =
            |kind: &'static str, id: String| until(kind, || receiver.of(kind).into_iter().find(|event| event["uuid"] == id.as_str()));
        let succeeded = told("task-succeeded", good.clone());
        assert_eq!(succeeded["result"], json!("5"));
        assert!(succeeded["runtime"].as_f64().is_some() && succeeded["timestamp"].as_f64().is_some_and(|at| at > 1e9), "{succeeded}");
        let received = told("task-received", good.clone());
        for key in ["hostname", "utcoffset", "pid", "clock", "name", "args", "kwargs", "root_id", "parent_id", "retries", "eta", "expires"]
        {
            assert!(received.get(key).is_some(), "{key}: {received}");
        }
        assert_eq!((&received["name"], &received["hostname"]), (&json!("proj.add"), &json!("w1@host1")));
        told("task-started", good.clone());
        let failed = told("task-failed", bad);
        assert!(failed["exception"].as_str().is_some_and(|text| text.contains("no")) && failed.get("traceback").is_some(), "{failed}");
        assert!(receiver.heard().iter().all(|event| event["uuid"] != quiet.id()), "nothing is told that nobody asked for");
        for kind in ["worker-online", "worker-heartbeat"] {
            let state = until(kind, || receiver.of(kind).into_iter().next());
            for key in ["freq", "active", "processed", "sw_ident", "sw_ver", "sw_sys"] {
                assert!(state.get(key).is_some(), "{key}: {state}");
            }
            assert_eq!(state["loadavg"].as_array().map(Vec::len), Some(3));
        }
        let clocks: Vec<i64> =
            receiver.heard().iter().filter(|event| event["hostname"] == "w1@host1").filter_map(|event| event["clock"].as_i64()).collect();
        assert!(clocks.is_sorted(), "{clocks:?}");
        let beats = receiver.of("worker-heartbeat").len();
        said(version, &server, "w1@host1", "heartbeat", json!({})).await;
        until("a heartbeat that was asked for", || (receiver.of("worker-heartbeat").len() > beats).then_some(()));
        node.shutdown(umbel::Shutdown::Cold);
        soon("its end", node.wait()).await.unwrap();
        until("its farewell", || receiver.of("worker-offline").into_iter().next());
    }
}

/// Goal: what Celery's workers and clients tell is heard by nodes, and shows in their list of tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_heard() {
    let server = RedisServer::default();
    let node = node(&server, "w1@host1", &["mine"]).await;
    let mut heard = node.heard();
    let index = umbel::http::index::TaskIndex::default();
    let following = tokio::spawn(index.clone().hear(node.heard()));
    let worker = celery_worker("5.7", &server, "old@host1");
    let id = python("5.7", &server, "send.py", &json!(["proj.add", [2, 2]])).await.as_str().unwrap().to_owned();
    let row = until_async("the task of Celery's worker is listed", || async { index.get(&id).filter(|row| row.state == "SUCCESS") }).await;
    assert_eq!((row.name.as_str(), row.result.as_deref(), row.node.as_deref()), ("proj.add", Some("4"), Some("old@host1")));
    let beat = |event: &Event| matches!(event.action, Action::WorkerHeartbeat(_)) && event.hostname == "old@host1";
    soon("its heartbeat", async { while !beat(&heard.recv().await.unwrap()) {} }).await;
    drop(worker);
    following.abort();
}

/// A Celery worker that tells of its tasks.
pub(super) fn celery_worker(version: &str, server: &RedisServer, name: &str) -> impl Drop {
    struct Worker(std::process::Child);
    impl Drop for Worker {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut command = Command::new(environment(version).join("bin/python"));
    command.env_clear().envs(variables(server)).current_dir(folder()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.args(["-m", "celery", "-A", "config.celery", "worker", "-P", "solo", "-E", "-n", name]);
    Worker(command.spawn().unwrap())
}

/// Goal: of all who are told of an election exactly one does it, and Celery's workers do not wait for a node in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elections_are_won_by_one() {
    let server = RedisServer::default();
    let nodes = [node(&server, "w1@host1", &["celery"]).await, node(&server, "w2@host1", &["celery"]).await];
    let mut heard = nodes[0].heard();
    soon("the other's heartbeat", async { while !matches!(heard.recv().await.unwrap().action, Action::WorkerHeartbeat(_)) {} }).await;
    let action = json!({ "task": "proj.add", "args": [20, 22], "kwargs": {}, "options": { "task_id": "elected" }, "subtask_type": null, "immutable": false });
    let asked = json!([["election", { "id": "E1", "topic": "task", "action": action }, { "limit": 2 }]]);
    super::ask("5.7", &server, asked).await;
    let backend = nodes[0].backend();
    let record = until_async("the winner has sent it", || async { backend.get(&["elected".into()]).await.unwrap().remove(0) }).await;
    assert_eq!(record.result, umbel::Value::Int(42));
    let succeeded: u64 = nodes.iter().map(|node| node.facts().counters().total(umbel::facts::Kind::Succeeded)).sum();
    assert_eq!(succeeded, 1);
}

/// Goal: a node that was started to tell of its tasks does so from the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_can_be_on_from_the_start() {
    let server = RedisServer::default();
    let receiver = Receiver::start("5.7", &server);
    let node = described(&server, "w1@host1", &["celery"], Description { task_events: true, ..Description::default() }).await;
    let id = node.client().submit(Signature::new("proj.add").arg(1).arg(1)).await.unwrap().id().to_owned();
    until("it is told", || receiver.of("task-succeeded").into_iter().find(|event| event["uuid"] == id.as_str()));
    assert_eq!(said("5.7", &server, "w1@host1", "enable_events", json!({})).await, json!({ "ok": "task events already enabled" }));
}

/// Goal: every scheduled task that is sent is told of with all of Celery's fields, where somebody asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_beat_sends_is_told() {
    let server = RedisServer::default();
    let receiver = Receiver::start("5.7", &server);
    let mut entry = Entry::new("often", "proj.add", When::Every { every_ms: 200, relative: false });
    entry.source = Source::Config;
    entry.args = vec![2.into(), 3.into()];
    entry.options.insert("queue".to_owned(), "often".into());
    let options = BeatOptions { declared: [(Source::Config, vec![entry])].into(), ..BeatOptions::default() };
    let Backbone { broker, backend, ledger } = super::backbone(&server);
    let description = Description { sent_events: true, ..Description::default() };
    let builder = umbel::Node::builder().name("beat@host1").queues(["other"]).backbone(broker, backend, ledger).task(super::add);
    let node = soon("the node", builder.describe(description).beat(options).start()).await.unwrap();
    let sent = until("it is told", || receiver.of("task-sent").into_iter().next());
    let schedules = node.broker().schedules().unwrap();
    let due = until_async("it is counted", || async { schedules.book().await.ok().map(|book| book.entries[0].mark.due) }).await;
    let ids: Vec<String> = (0..1_000).map(|back| tick_id("often", due - back * 200).to_string()).collect();
    assert!(ids.iter().any(|id| sent["uuid"] == id.as_str()), "{sent}");
    for (key, value) in [("name", "proj.add"), ("args", "(2, 3)"), ("kwargs", "{}"), ("queue", "often"), ("routing_key", "often")] {
        assert_eq!(sent[key], value, "{key}: {sent}");
    }
    for key in ["root_id", "parent_id", "retries", "eta", "expires", "exchange", "hostname", "clock", "timestamp"] {
        assert!(sent.get(key).is_some(), "{key}: {sent}");
    }
    let report = until_async("it reports", || async { node.report().await?.beat.filter(|beat| beat.next.is_some()) }).await;
    assert!(report.last_tick.is_some() && report.lag_ms.is_some(), "{report:?}");
}
