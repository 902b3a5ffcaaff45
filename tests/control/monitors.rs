//! What others have built on Celery's control and events, unchanged: celery-exporter.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use serde_json::json;
use umbel::{http::remote::Remote, telling::Description};
use umbel_tests::{
    servers::redis::{RedisServer, free_port},
    wait::until_async,
};

use super::{described, environment, python};

/// A program that is scraped or asked over HTTP. Dropping it kills it.
struct Monitor {
    child: Child,
    remote: Remote,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Monitor {
    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, remote: Remote::Listening { address: SocketAddr::from(([127, 0, 0, 1], port)), token: None } }
    }

    /// The answer's text, if there is a good one.
    async fn try_ask(&self, method: &str, path: &str) -> Option<String> {
        let (status, body) = self.remote.raw(method.parse().unwrap(), path, None).await.ok()?;
        status.is_success().then(|| String::from_utf8_lossy(&body).into_owned())
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
