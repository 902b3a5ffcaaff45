//! One fleet of Celery and nodes on one Redis server: the same queues, results and chords.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};
use umbel::{
    Node, TaskFailure, TaskResult, Value,
    brokers::{Backbone, Broker, Subscribe, redis::RedisBroker},
    embedded::StoreOptions,
    redis::{RedisOptions, Target},
};
use umbel_tests::{
    servers::redis::RedisServer,
    wait::{soon, until, until_async},
};

use super::{VERSIONS, python};

#[umbel::task(name = "add")]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[umbel::task(name = "total")]
async fn total(numbers: Vec<i64>) -> i64 {
    numbers.into_iter().sum()
}

#[umbel::task(name = "echo")]
async fn echo(value: Value) -> Value {
    value
}

#[umbel::task(name = "fail")]
async fn fail(value: Option<Value>) -> TaskResult<Value> {
    drop(value);
    Err(TaskFailure::new("ValueError", "bad"))
}

#[umbel::task(name = "hang")]
async fn hang(seconds: f64) -> String {
    format!("ended by a node, not after {seconds} s")
}

/// Messages in one database, results in another, as most shops have it.
fn environment(server: &RedisServer, visibility: f64) -> Vec<(&'static str, String)> {
    vec![("BROKER", server.url(0)), ("BACKEND", server.url(1)), ("VISIBILITY", visibility.to_string())]
}

pub(super) fn celery(version: &str, server: &RedisServer, visibility: f64) -> Command {
    let mut command = Command::new(python(version));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    command.env_clear().envs(environment(server, visibility)).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder);
    command.stdin(Stdio::null());
    command
}

/// Runs a client to its end and reads what it tells.
pub(super) async fn client(version: &str, server: &RedisServer, arguments: &[&str]) -> Json {
    let mut command = celery(version, server, 3600.0);
    command.arg("fleet.py").args(arguments);
    let output = soon("the client", tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A Celery worker of one process.
pub(super) struct Worker(Child);

impl Worker {
    pub(super) fn start(version: &str, server: &RedisServer, queues: &str, visibility: f64) -> Self {
        Self::start_with(version, server, queues, visibility, &[])
    }

    /// With more of an environment.
    pub(super) fn start_with(version: &str, server: &RedisServer, queues: &str, visibility: f64, more: &[(&str, String)]) -> Self {
        let mut command = celery(version, server, visibility);
        command.envs(more.iter().map(|(name, value)| (name, value)));
        command.args(["-m", "celery", "-A", "fleet", "worker", "-P", "solo", "-Q", queues, "-n"]);
        command.arg(format!("{}@test", version.replace('.', "-"))).args(["--without-gossip", "--without-mingle"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn backbone(server: &RedisServer, options: RedisOptions) -> Backbone {
    Backbone::open_with(&server.url(0), Some(&server.url(1)), StoreOptions::default(), options).unwrap()
}

async fn node(name: &str, server: &RedisServer, queue: &str, options: RedisOptions) -> Node {
    let Backbone { broker, backend, ledger } = backbone(server, options);
    let builder = Node::builder().name(name).queues([queue]).concurrency(2).backbone(broker, backend, ledger);
    let builder = builder.task(add).task(total).task(echo).task(fail).task(hang);
    soon("the node", builder.start()).await.unwrap()
}

fn expected_basics() -> Json {
    json!({
        "value": 5, "state": "SUCCESS", "failure": ["ValueError", "bad"], "failed_state": "FAILURE",
        "group": [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22], "chain": 15, "expired": ["TaskRevokedError", "expired"],
        "eta": 3, "early": false, "unicode": true,
    })
}

/// Chords, the failed one aside: its text names a task by its id.
fn check_chords(mut told: Json, who: &str) {
    let failed = told.as_object_mut().unwrap().remove("failed").unwrap();
    assert_eq!(failed[0], "ChordError", "{who}: {failed}");
    assert!(failed[1].as_str().unwrap().ends_with("raised ValueError('bad')"), "{who}: {failed}");
    assert_eq!(told, json!({ "chord": 90, "then": 112, "nested": 26, "many": vec![20; 20] }), "{who}");
}

/// Nothing of a chord is left that does not go by itself, and nothing is held or waiting.
fn check_left(server: &RedisServer, who: &str) {
    for key in ["unacked", "unacked_index", "nodes", "workers"] {
        let kind: String = server.ask(&["TYPE", key]);
        assert_eq!(kind, "none", "{who}: {key} is left");
    }
}

/// Celery's client with nodes only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_clients_use_nodes() {
    for version in VERSIONS {
        let server = RedisServer::default();
        let _node = node("node", &server, "nodes", RedisOptions::default()).await;
        assert_eq!(client(version, &server, &["basics", "nodes"]).await, expected_basics(), "celery {version}");
        check_chords(client(version, &server, &["chords", "nodes"]).await, version);
        until("everything is acknowledged", || (server.ask::<String>(&["TYPE", "unacked"]) == "none").then_some(()));
        check_left(&server, version);
    }
}

/// Members of the same groups, chains and chords run by Celery's workers of both versions and by nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_and_nodes_share_workflows() {
    let server = RedisServer::default();
    let _workers = VERSIONS.map(|version| Worker::start(version, &server, "workers", 3600.0));
    let _nodes =
        (node("one", &server, "nodes", RedisOptions::default()).await, node("two", &server, "nodes", RedisOptions::default()).await);
    for version in VERSIONS {
        for queues in ["nodes,workers", "workers,nodes"] {
            let who = format!("celery {version}, {queues}");
            assert_eq!(client(version, &server, &["basics", queues]).await, expected_basics(), "{who}");
            check_chords(client(version, &server, &["chords", queues]).await, &who);
        }
    }
    until("everything is acknowledged", || (server.ask::<String>(&["TYPE", "unacked"]) == "none").then_some(()));
    check_left(&server, "the fleet");
}

/// What a node held when it died, and no other node is there, a Celery worker restores and runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_takes_over_from_a_dead_node() {
    let server = RedisServer::default();
    let submitted = client("5.6", &server, &["submit", "shared", "0"]).await;
    let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    let request = Subscribe::new("dying", ["shared"], Duration::from_millis(500));
    let mut subscription = soon("subscribing", broker.subscribe(request)).await.unwrap();
    let taken = soon("the message", subscription.fetch(10)).await.unwrap();
    assert_eq!(taken.len(), 1);
    drop(subscription);
    // The last refresh has to be older than the visibility timeout.
    until("the entry is stale", || {
        let (now, _): (f64, f64) = server.ask(&["TIME"]);
        let scores: Vec<String> = server.ask(&["ZRANGE", "unacked_index", "0", "0", "WITHSCORES"]);
        (now - scores[1].parse::<f64>().unwrap() >= 2.0).then_some(())
    });
    let _worker = Worker::start("5.7", &server, "shared", 1.0);
    let told = client("5.6", &server, &["get", "shared", submitted["id"].as_str().unwrap()]).await;
    assert_eq!(told["value"], "ended");
    // The dead node's ending means nothing any more.
    let released = broker.release(vec![(taken[0].held.clone(), umbel::scheduler::Release::Ack)]).await.remove(0).unwrap();
    assert!(!released);
}

/// What a Celery worker held when it was killed, a node restores after the same visibility timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_over_from_a_dead_worker() {
    let server = RedisServer::default();
    let worker = Worker::start("5.7", &server, "shared", 1.0);
    let submitted = client("5.7", &server, &["submit", "shared", "600"]).await;
    until("the worker holds it", || (server.ask::<u64>(&["HLEN", "unacked"]) == 1).then_some(()));
    worker.kill();
    until("the entry is stale", || {
        let (now, _): (f64, f64) = server.ask(&["TIME"]);
        let scores: Vec<String> = server.ask(&["ZRANGE", "unacked_index", "0", "0", "WITHSCORES"]);
        (now - scores[1].parse::<f64>().unwrap() >= 2.0).then_some(())
    });
    let options = RedisOptions { visibility_timeout: Duration::from_secs(1), ..RedisOptions::default() };
    let _node = node("heir", &server, "shared", options).await;
    let told = client("5.7", &server, &["get", "shared", submitted["id"].as_str().unwrap()]).await;
    assert!(told["value"].as_str().unwrap().starts_with("ended by a node"), "{told}");
}

/// A live node's messages are left alone by a Celery worker, however short its visibility timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_leaves_a_live_nodes_messages_alone() {
    let server = RedisServer::default();
    client("5.6", &server, &["submit", "shared", "0"]).await;
    let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    let request = Subscribe::new("alive", ["shared"], Duration::from_millis(2500));
    let mut subscription = soon("subscribing", broker.subscribe(request)).await.unwrap();
    let taken = soon("the message", subscription.fetch(10)).await.unwrap();
    let (begun, _): (u64, u64) = server.ask(&["TIME"]);
    // Its first sweep is at its start; whoever answers from it has swept.
    until("time passes", || (server.ask::<(u64, u64)>(&["TIME"]).0 >= begun + 4).then_some(()));
    let _worker = Worker::start("5.6", &server, "shared,other", 2.0);
    let other = client("5.6", &server, &["submit", "other", "0"]).await;
    assert_eq!(client("5.6", &server, &["get", "other", other["id"].as_str().unwrap()]).await["value"], "ended");
    let released = broker.release(vec![(taken[0].held.clone(), umbel::scheduler::Release::Ack)]).await.remove(0).unwrap();
    assert!(released, "a Celery worker took it away");
}

/// A revocation stops what a Celery client has sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_is_told_to_celery() {
    let server = RedisServer::default();
    let submitted = client("5.7", &server, &["submit", "nodes", "0"]).await;
    let id = submitted["id"].as_str().unwrap();
    let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    until_async("the order is given", || async { broker.revoke(&[umbel::scheduler::revocation::Revocation::Task(id.into())]).await.ok() })
        .await;
    let _node = node("node", &server, "nodes", RedisOptions::default()).await;
    assert_eq!(client("5.7", &server, &["get", "nodes", id]).await["value"], json!(["TaskRevokedError", "revoked"]));
}
