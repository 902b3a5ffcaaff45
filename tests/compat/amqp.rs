//! One fleet of Celery and nodes on RabbitMQ: the same queues, exchanges, results and chords.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};
use umbel::{
    Client, Node, Signature, TaskFailure, TaskResult, Value, amqp::AmqpOptions, brokers::Backbone, client::KnownTasks, redis::RedisOptions,
};
use umbel_tests::{
    servers::{endings::Endings, rabbit::Vhost, redis::RedisServer},
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

/// A run of [`noted`] is over, or about to be.
static RAN: tokio::sync::Notify = tokio::sync::Notify::const_new();

#[umbel::task(name = "noted")]
async fn noted(value: i64) -> i64 {
    RAN.notify_one();
    value
}

#[umbel::task(name = "hang")]
async fn hang(seconds: f64) -> String {
    format!("ended by a node, not after {seconds} s")
}

/// Messages in RabbitMQ; results wherever `backend` says.
struct Place {
    vhost: Vhost,
    redis: RedisServer,
}

impl Place {
    fn new() -> Self {
        Self { vhost: Vhost::new(), redis: RedisServer::default() }
    }

    fn results(&self) -> String {
        self.redis.url(1)
    }

    fn celery(&self, version: &str, backend: &str) -> Command {
        let mut command = Command::new(python(version));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
        command.env_clear().envs([("BROKER", self.vhost.url()), ("BACKEND", backend.to_owned())]);
        command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder).stdin(Stdio::null());
        command
    }

    /// Runs a client to its end and reads what it tells.
    async fn client(&self, version: &str, backend: &str, arguments: &[&str]) -> Json {
        let mut command = self.celery(version, backend);
        command.arg("fleet.py").args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn worker(&self, version: &str, queues: &str) -> Worker {
        let mut command = self.celery(version, &self.results());
        command.args(["-m", "celery", "-A", "fleet", "worker", "-P", "solo", "-Q", queues, "-n"]);
        command.arg(format!("{}@test", version.replace('.', "-"))).args(["--without-gossip", "--without-mingle"]);
        Worker(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn backbone(&self, backend: Option<&str>) -> Backbone {
        Backbone::amqp(&self.vhost.url(), backend, AmqpOptions::default(), RedisOptions::default()).unwrap()
    }

    async fn node(&self, name: &str, backend: &str, queue: &str) -> Node {
        let Backbone { broker, backend, ledger } = self.backbone(Some(backend));
        let builder = Node::builder().name(name).queues([queue]).concurrency(2).backbone(broker, backend, ledger);
        let builder = builder.task(add).task(total).task(echo).task(fail).task(hang).task(noted);
        soon("the node", builder.start()).await.unwrap()
    }

    /// Nothing waits or is held in a queue of tasks.
    async fn is_empty(&self) {
        let backbone = self.backbone(None);
        until_async("everything is acknowledged", || async {
            let queues = backbone.broker.queues().await.ok()?;
            queues.iter().all(|queue| queue.ready + queue.held + queue.scheduled == 0).then_some(())
        })
        .await;
    }
}

/// A Celery worker of one process.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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

/// Celery's clients with nodes only, results in Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_clients_use_nodes() {
    let place = Place::new();
    let _node = place.node("node", &place.results(), "nodes").await;
    for version in VERSIONS {
        assert_eq!(place.client(version, &place.results(), &["basics", "nodes"]).await, expected_basics(), "celery {version}");
        check_chords(place.client(version, &place.results(), &["chords", "nodes"]).await, version);
    }
    place.is_empty().await;
}

/// Members of the same groups, chains and chords run by Celery's workers of both versions and by nodes. The queues of the one
/// are declared first by the workers, those of the other by the nodes, and nobody is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_and_nodes_share_workflows() {
    let place = Place::new();
    let _first = place.worker("5.6", "workers");
    until("the worker has declared its queue", || {
        let queues = place.vhost.manage("GET", &format!("/api/queues/{}", place.vhost.name()), "");
        queues.as_array().into_iter().flatten().any(|queue| queue["name"] == "workers").then_some(())
    });
    let _nodes = (place.node("one", &place.results(), "nodes").await, place.node("two", &place.results(), "workers").await);
    let _second = place.worker("5.7", "nodes");
    for (version, queues) in [("5.6", "nodes,workers"), ("5.7", "workers,nodes")] {
        let who = format!("celery {version}, {queues}");
        assert_eq!(place.client(version, &place.results(), &["basics", queues]).await, expected_basics(), "{who}");
        check_chords(place.client(version, &place.results(), &["chords", queues]).await, &who);
    }
    let refused = place.vhost.refused_declarations();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Many tasks and chords in a fleet of two workers and two nodes: all correct, none lost, none finished twice.
/// `UMBEL_FLEET_TASKS` says how many tasks; a tenth of it are chords.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_fleet_finishes_everything_once() {
    let tasks: usize = std::env::var("UMBEL_FLEET_TASKS").map_or(200, |text| text.parse().unwrap());
    let chords = tasks / 10;
    let place = Place::new();
    let endings = Endings::of(&place.redis);
    let _workers = VERSIONS.map(|version| place.worker(version, "shared"));
    let _nodes = (place.node("one", &place.results(), "shared").await, place.node("two", &place.results(), "shared").await);
    let told = place.client("5.7", &place.results(), &["bulk", "shared", &tasks.to_string(), &chords.to_string()]).await;
    assert_eq!(told, json!({ "tasks": [], "chords": [] }));
    place.is_empty().await;
    assert_eq!(endings.count(), tasks + 4 * chords);
    assert_eq!(endings.doubled(), Vec::<String>::new());
}

/// Results as messages: Celery's clients hear from nodes, and a node's own client does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_messages() {
    let place = Place::new();
    let node = place.node("node", "rpc://", "nodes").await;
    for version in VERSIONS {
        let mut expected = expected_basics();
        // Its result is a message like the others.
        expected["state"] = "SUCCESS".into();
        assert_eq!(place.client(version, "rpc://", &["basics", "nodes"]).await, expected, "celery {version}");
    }
    let sum: i64 = soon("the sum", node.client().submit(add::s(2, 3).set("queue", "nodes")))
        .await
        .unwrap()
        .get(Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(sum, 5);
}

/// A client that connects anew has no queue for results for a moment; what ends in it is told all the same. Celery's client of 5.6.3
/// does that after each second that it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_waits_for_its_client() {
    let place = Place::new();
    let node = place.node("node", "rpc://", "nodes").await;
    let vhost = place.vhost.name();
    let message = json!({
        "routing_key": "nodes", "payload": "[[5], {}, {}]", "payload_encoding": "string",
        "properties": {
            "content_type": "application/json", "content_encoding": "utf-8", "reply_to": "client", "correlation_id": "five",
            "headers": { "id": "five", "task": "noted", "lang": "py", "root_id": "five" },
        },
    });
    let sent = place.vhost.manage("POST", &format!("/api/exchanges/{vhost}/amq.default/publish"), &message.to_string());
    assert_eq!(sent["routed"], true);
    soon("the task to run", RAN.notified()).await;
    until_async("the end of the task, its result sent before", || async {
        let queues = node.client().queues().await.unwrap();
        queues.iter().all(|queue| queue.ready + queue.held == 0).then_some(())
    })
    .await;
    place.vhost.manage("PUT", &format!("/api/queues/{vhost}/client"), r#"{"auto_delete": true}"#);
    let get = json!({ "count": 1, "ackmode": "ack_requeue_false", "encoding": "auto" }).to_string();
    let heard = until("the result", || place.vhost.manage("POST", &format!("/api/queues/{vhost}/client/get"), &get).get(0).cloned());
    let result: Json = serde_json::from_str(heard["payload"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&heard["properties"]["correlation_id"], &result["status"], &result["result"]),
        (&json!("five"), &json!("SUCCESS"), &json!(5))
    );
}

/// Without a result store everything works but chords, which are refused before anything is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chords_without_a_store_are_refused() {
    let place = Place::new();
    for backend in [None, Some("rpc://")] {
        let Backbone { broker, backend, ledger } = place.backbone(backend);
        let client = Client::new(broker.clone(), backend, ledger, std::sync::Arc::default(), KnownTasks::default());
        let chord = Signature::chord([add::s(1, 2), add::s(3, 4)], total::partial());
        let refused = soon("the refusal", client.submit(chord)).await.unwrap_err().to_string();
        assert!(refused.contains("CELERY_RESULT_BACKEND"), "{refused}");
        soon("a task", client.submit(add::s(1, 2))).await.unwrap();
        until_async("the task waits", || async {
            let queues = broker.queues().await.ok()?;
            queues.iter().find(|queue| queue.name.as_str() == "celery").map(|queue| assert!(queue.ready >= 1))
        })
        .await;
    }
}

/// Everything of that name or beginning with it, as the server describes it, without what is not declared.
fn declared(vhost: &Vhost, prefix: &str) -> Json {
    let list = |what: &str| vhost.manage("GET", &format!("/api/{what}/{}", vhost.name()), "");
    let begins = |name: &Json| name.as_str().is_some_and(|name| name.starts_with(prefix));
    let pick =
        |item: &Json, keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect::<serde_json::Map<_, _>>();
    let queues: Vec<_> = list("queues").as_array().unwrap().iter().filter(|queue| begins(&queue["name"])).cloned().collect();
    let queues: Vec<_> = queues.iter().map(|queue| pick(queue, &["name", "durable", "auto_delete", "exclusive", "arguments"])).collect();
    let exchanges: Vec<_> = list("exchanges").as_array().unwrap().iter().filter(|exchange| begins(&exchange["name"])).cloned().collect();
    let exchanges: Vec<_> =
        exchanges.iter().map(|exchange| pick(exchange, &["name", "type", "durable", "auto_delete", "internal", "arguments"])).collect();
    // Those between things of that name: a node binds its task queues to the foot of the ladder besides.
    let bindings = list("bindings");
    let both = |binding: &&Json| begins(&binding["source"]) && begins(&binding["destination"]);
    let mut bindings: Vec<String> = bindings
        .as_array()
        .unwrap()
        .iter()
        .filter(both)
        .map(|binding| Json::from(pick(binding, &["source", "destination", "destination_type", "routing_key"])).to_string())
        .collect();
    bindings.sort();
    json!({ "queues": queues, "exchanges": exchanges, "bindings": bindings })
}

/// What a node declares is, in every property, what Celery declares: task queues, and the delayed-delivery queues; and each can
/// declare after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declarations_are_celerys() {
    let (celery, node) = (Place::new(), Place::new());
    celery.client("5.7", "rpc://", &["delayed", "shared", "quorum"]).await;
    let _worker = celery.worker("5.7", "shared");
    until("the worker has declared its queue", || {
        (declared(&celery.vhost, "shared")["bindings"].as_array().is_some_and(|bindings| !bindings.is_empty())).then_some(())
    });
    let Backbone { broker, .. } = node.backbone(None);
    let later = umbel_tests::conformance::making::scheduled("shared", "later", umbel_tests::conformance::making::now() + 100_000);
    until_async("the message is accepted", || async { broker.publish(vec![later.clone()]).await.remove(0).ok() }).await;
    for prefix in ["shared", "celery_delayed"] {
        assert_eq!(declared(&node.vhost, prefix), declared(&celery.vhost, prefix));
    }
    node.client("5.6", "rpc://", &["delayed", "shared", "quorum"]).await;
    let Backbone { broker, .. } = celery.backbone(None);
    until_async("the message is accepted", || async { broker.publish(vec![later.clone()]).await.remove(0).ok() }).await;
    for place in [&node, &celery] {
        assert_eq!(place.vhost.refused_declarations(), Vec::<String>::new());
    }
}
