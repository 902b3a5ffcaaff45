//! Beat between Celery and nodes: Celery's workers run what a node sends, and a node notices Celery's own beat.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use umbel::{
    Node,
    actors::beat::BeatOptions,
    brokers::Backbone,
    embedded::StoreOptions,
    redis::RedisOptions,
    scheduler::{
        beat::{Entry, Source},
        schedule::When,
    },
};
use umbel_tests::{
    servers::redis::RedisServer,
    wait::{soon, until_async},
};

use super::{VERSIONS, python};

#[umbel::task(name = "add")]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

/// A process that is killed with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn celery(version: &str, server: &RedisServer, folder: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(python(version));
    command.env_clear().env("BROKER", server.url(0)).env("BACKEND", server.url(1)).env("VISIBILITY", "3600");
    command.env("SCHEDULE", folder.join("schedule")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("compat")).args(["-m", "celery"]).args(arguments);
    Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Adds two numbers three times a second.
fn often(name: &str, numbers: [i64; 2]) -> Entry {
    let mut entry = Entry::new(name, "add", When::Every { every_ms: 300, relative: false });
    entry.source = Source::Config;
    entry.args = numbers.map(Into::into).into();
    entry.options.insert("queue".to_owned(), "celery".into());
    entry
}

async fn node(server: &RedisServer, queues: &[&str], entries: Vec<Entry>) -> Node {
    let opened = Backbone::open_with(&server.url(0), Some(&server.url(1)), StoreOptions::default(), RedisOptions::default());
    let Backbone { broker, backend, ledger } = opened.unwrap();
    let options = BeatOptions { declared: [(Source::Config, entries)].into(), ..BeatOptions::default() };
    let builder = Node::builder().name("beat@test").queues(queues.iter().copied()).backbone(broker, backend, ledger).task(add);
    soon("the node", builder.beat(options).start()).await.unwrap()
}

/// Goal: workers of every version of Celery run the ticks of a node, and their results lie under the ticks' ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celerys_workers_run_what_a_node_sends() {
    for version in VERSIONS {
        let server = RedisServer::default();
        let folder = tempfile::tempdir().unwrap();
        let node = node(&server, &[], vec![often("sum", [20, 22])]).await;
        let worker = ["-A", "fleet", "worker", "-P", "solo", "-Q", "celery", "-n", "w@test", "--without-gossip", "--without-mingle"];
        let _worker = celery(version, &server, folder.path(), &worker);
        let schedules = node.broker().schedules().unwrap();
        let mark = until_async("a tick is sent", || async {
            let book = schedules.book().await.ok()?;
            book.entries.first().filter(|kept| kept.mark.runs > 0).map(|kept| kept.mark.clone())
        })
        .await;
        let id = umbel::scheduler::beat::tick_id("sum", mark.due);
        let value: i64 = soon("the result", node.client().result(id).get(Duration::from_secs(60))).await.unwrap();
        assert_eq!(value, 42, "celery {version}");
    }
}

/// Goal: a `celery beat` that runs beside is noticed and told of, because everything would be sent twice. (Celery marks the
/// messages of its beat from 5.7 on; an older one is told by its rhythm, where it sends what is sent here.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celerys_own_beat_is_noticed() {
    for (version, marked) in [("5.7", true), ("5.6", false)] {
        let server = RedisServer::default();
        let folder = tempfile::tempdir().unwrap();
        let node = node(&server, &["celery"], vec![often("tick", [1, 1])]).await;
        let _beat = celery(version, &server, folder.path(), &["-A", "beats", "beat"]);
        let foreign = until_async("the other beat is noticed", || async { node.report().await?.beat?.foreign }).await;
        assert_eq!((foreign.task.as_str(), foreign.marked), ("add", marked), "celery {version}");
        assert!(foreign.origin.as_deref().is_some_and(|origin| origin.starts_with("gen")), "{foreign:?}");
    }
}

/// Goal: `node -A app beat` takes the place of `celery -A app beat`: the application's `beat_schedule` is sent as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applications_schedule_is_sent() {
    for version in VERSIONS {
        let server = RedisServer::default();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder.path());
        command.env("BROKER", server.url(0)).env("SCHEDULE", folder.path().join("schedule")).env("PYTHONDONTWRITEBYTECODE", "1");
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("compat"));
        command.args(["-A", "beats", "-b", &server.url(0), "beat", "--listen", "127.0.0.1:0", "--python"]).arg(python(version));
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let _node = Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let told = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        let sent = until_async("a tick is sent", || async {
            let messages: Vec<String> = server.ask(&["LRANGE", "celery", "0", "-1"]);
            assert!(!told().contains("error:"), "{}", told());
            messages.last().map(|message| serde_json::from_str::<serde_json::Value>(message).unwrap())
        })
        .await;
        assert_eq!((&sent["headers"]["task"], &sent["headers"]["argsrepr"]), (&"add".into(), &"(1, 1)".into()), "celery {version}");
    }
}
