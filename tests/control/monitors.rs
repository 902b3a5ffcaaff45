//! What others have built on Celery's control and events, unchanged: Flower, and celery-exporter.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};
use umbel::{Node, http::remote::Remote, proto::Signature, telling::Description};
use umbel_tests::{
    servers::redis::{RedisServer, free_port},
    wait::until_async,
};

use super::{described, environment, folder, python, variables};

/// A program that is scraped or asked over HTTP. Dropping it kills it; a test that fails shows what it said.
struct Monitor {
    child: Child,
    remote: Remote,
    said: tempfile::NamedTempFile,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the monitor said:\n{}", std::fs::read_to_string(self.said.path()).unwrap_or_default());
        }
    }
}

impl Monitor {
    fn start(mut command: Command, port: u16) -> Self {
        let said = tempfile::NamedTempFile::new().unwrap();
        // Both append: what the other has written is not written over.
        let append = || Stdio::from(std::fs::File::options().append(true).open(said.path()).unwrap());
        let child = command.stdin(Stdio::null()).stdout(append()).stderr(append()).spawn().unwrap();
        Self { said, child, remote: Remote::Listening { address: SocketAddr::from(([127, 0, 0, 1], port)), token: None } }
    }

    /// The answer's text, if there is a good one.
    async fn try_ask(&self, method: &str, path: &str) -> Option<String> {
        let (status, body) = self.remote.raw(method.parse().unwrap(), path, None).await.ok()?;
        status.is_success().then(|| String::from_utf8_lossy(&body).into_owned())
    }

    async fn ask(&self, method: &str, path: &str) -> Json {
        let (status, body) = self.remote.raw(method.parse().unwrap(), path, None).await.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"))
    }
}

fn exporter(server: &RedisServer) -> Monitor {
    let port = free_port();
    let mut command = Command::new(environment("exporter").join("bin/python"));
    command.env_clear().args(["-c", "from src.cli import cli; cli()", "--broker-url", &server.url(0), "--host", "127.0.0.1", "--port"]);
    command.arg(port.to_string());
    Monitor::start(command, port)
}

/// The families of a scrape and their types, and of each sample its name and the keys of its labels. What the Python client
/// adds of its own (`_created`) is none of the exporter's.
fn shape(scrape: &str) -> BTreeSet<String> {
    let mut shape = BTreeSet::new();
    for line in scrape.lines().filter(|line| line.contains("celery_") && !line.contains("_created")) {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            shape.insert(family.to_owned());
        } else if !line.starts_with('#') {
            let (name, labels) = line.split_once('{').map_or((line.split(' ').next().unwrap_or(line), ""), |(name, rest)| (name, rest));
            let labels = labels.split('}').next().unwrap_or_default();
            let keys: Vec<&str> = labels.split(',').filter_map(|label| label.split_once('=')).map(|(key, _)| key).collect();
            shape.insert(format!("{name} {}", keys.join(",")));
        }
    }
    shape
}

/// What the exporter says after the same traffic: three tasks that succeed, one that fails.
async fn scraped(server: &RedisServer) -> String {
    let exporter = exporter(server);
    until_async("the exporter hears the worker", || async {
        let scrape = exporter.try_ask("GET", "/metrics").await?;
        scrape.contains("celery_worker_up{hostname=\"host1\"} 1.0").then_some(())
    })
    .await;
    for (name, args) in [("proj.add", json!([1, 1])), ("proj.add", json!([2, 2])), ("proj.add", json!([3, 3])), ("proj.fail", json!([]))] {
        python("5.7", server, "send.py", &json!([name, args])).await;
    }
    until_async("everything has been counted", || async {
        let scrape = exporter.try_ask("GET", "/metrics").await?;
        let has = |what: &str, name: &str, count: &str| {
            scrape.lines().any(|line| line.starts_with(what) && line.contains(name) && line.contains("host1") && line.ends_with(count))
        };
        let counted = has("celery_task_succeeded_total{", "proj.add", " 3.0") && has("celery_task_failed_total{", "proj.fail", " 1.0");
        (counted && scrape.contains("celery_active_process_count{")).then_some(scrape)
    })
    .await
}

/// Goal: celery-exporter exports of a node what it exports of Celery's worker: the same names, types and labels, and the same
/// counts of what succeeded and failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_exporter_sees_no_difference() {
    let (of_celery, of_nodes) = (RedisServer::default(), RedisServer::default());
    let worker = super::events::celery_worker("5.7", &of_celery, "w1@host1");
    let celerys = scraped(&of_celery).await;
    drop(worker);
    let _node = described(&of_nodes, "w1@host1", &["celery"], Description { task_events: true, ..Description::default() }).await;
    let ours = scraped(&of_nodes).await;
    assert_eq!(shape(&ours), shape(&celerys), "{ours}\n{celerys}");
}

async fn submitted(node: &Node, name: &str) -> String {
    node.client().submit(Signature::new(name)).await.unwrap().id().to_owned()
}

/// Goal: Flower lists nodes, their tasks and queues, and its buttons work: grow, shrink, add and cancel a queue, rate limit,
/// time limit, revoke and terminate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flower_and_its_buttons_work() {
    let server = RedisServer::default();
    let node = described(&server, "w1@host1", &["celery"], Description { task_events: true, ..Description::default() }).await;
    let port = free_port();
    let mut command = Command::new(environment("flower").join("bin/python"));
    command.env_clear().envs(variables(&server)).current_dir(folder()).env("FLOWER_UNAUTHENTICATED_API", "true");
    command.args(["-m", "celery", "-A", "config.celery", "flower", "--address=127.0.0.1"]).arg(format!("--port={port}"));
    let flower = Monitor::start(command, port);
    let parts = ["active_queues", "conf", "registered", "stats", "active", "reserved", "scheduled", "revoked"];
    let worker = until_async("Flower knows the node", || async {
        // Of all workers together it asks only what they are; what each has to do it asks of one.
        let text = flower.try_ask("GET", "/api/workers?refresh=1&workername=w1@host1").await?;
        let worker = serde_json::from_str::<Json>(&text).ok()?.get("w1@host1").cloned()?;
        // It asks for one thing after the other.
        parts.iter().all(|part| worker.get(part).is_some()).then_some(worker)
    })
    .await;
    assert_eq!(worker["active_queues"][0]["name"], json!("celery"));
    assert!(worker["registered"].as_array().unwrap().contains(&json!("proj.limited [rate_limit=10/m]")));

    let id = python("5.7", &server, "send.py", &json!(["proj.add", [20, 22]])).await.as_str().unwrap().to_owned();
    until_async("Flower lists the task", || async {
        let tasks = serde_json::from_str::<Json>(&flower.try_ask("GET", "/api/tasks").await?).ok()?;
        (tasks[&id]["state"] == "SUCCESS" && tasks[&id]["worker"] == "w1@host1" && tasks[&id]["result"] == "42").then_some(())
    })
    .await;
    let lengths = flower.ask("GET", "/api/queues/length").await;
    assert_eq!(lengths["active_queues"], json!([{ "name": "celery", "messages": 0 }]));

    let slots = |count: usize| {
        let node = node.clone();
        async move {
            until_async("the pool has its size", || async { (node.report().await?.pools[0].as_ref()?.slots == count).then_some(()) }).await
        }
    };
    flower.ask("POST", "/api/worker/pool/grow/w1@host1?n=2").await;
    slots(4).await;
    flower.ask("POST", "/api/worker/pool/shrink/w1@host1?n=1").await;
    slots(3).await;
    flower.ask("POST", "/api/worker/queue/add-consumer/w1@host1?queue=extra").await;
    until_async("it takes from it", || async { (node.report().await?.queues.len() == 2).then_some(()) }).await;
    flower.ask("POST", "/api/worker/queue/cancel-consumer/w1@host1?queue=extra").await;
    until_async("it does not any more", || async { (node.report().await?.queues.len() == 1).then_some(()) }).await;
    let limited = flower.ask("POST", "/api/task/rate-limit/proj.add?workername=w1@host1&ratelimit=5%2Fm").await;
    assert_eq!(limited["message"], json!("new rate limit set successfully"));
    let limited = flower.ask("POST", "/api/task/timeout/proj.add?workername=w1@host1&soft=3&hard=4").await;
    assert_eq!(limited["message"], json!("time limits set successfully"));
    let id = submitted(&node, "proj.wait").await;
    until_async("it runs", || async { (node.report().await?.running().count() == 1).then_some(()) }).await;
    flower.ask("POST", &format!("/api/task/revoke/{id}?terminate=true&signal=SIGTERM")).await;
    until_async("it is terminated", || async { (node.report().await?.running().count() == 0).then_some(()) }).await;
    let registered = flower.ask("GET", "/api/workers?refresh=1&workername=w1@host1").await;
    let registered = registered["w1@host1"]["registered"].as_array().unwrap().clone();
    assert!(registered.contains(&json!("proj.add [rate_limit=5/m]")), "{registered:?}");
    flower.ask("POST", "/api/worker/shutdown/w1@host1").await;
    tokio::time::timeout(Duration::from_secs(60), node.wait()).await.unwrap().unwrap();
}
