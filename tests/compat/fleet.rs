//! One queue, served by a Celery 5.6 worker, a Celery 5.7 worker and two nodes that know the same tasks by the same names.
//!
//! `UMBEL_FLEET_TASKS` and `UMBEL_FLEET_CHORDS` set how much work there is (400 and 30 by default; 5000 and 500 are the full
//! run). `UMBEL_LONG_TASK_SECS` sets how long the long tasks of the other test run (9 by default, 60 in full; what is
//! scheduled is due after twice that).

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value as Json;
use umbel::{Context, Node, brokers::Backbone, redis::RedisOptions};
use umbel_tests::{
    servers::{endings::Endings, redis::RedisServer},
    wait::{soon, until},
};

use super::{
    VERSIONS,
    redis::{Worker, backbone, celery, client},
};

/// Longer than anything here takes; the client's own waits are what bounds it.
const WITHIN: Duration = Duration::from_secs(280);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

static LEDGER: OnceLock<File> = OnceLock::new();

fn ran(ctx: &Context) {
    if let Some(mut ledger) = LEDGER.get() {
        ledger.write_all(format!("node {}\n", ctx.task_id()).as_bytes()).unwrap();
    }
}

#[umbel::task(name = "add")]
async fn add(ctx: Context, a: i64, b: i64) -> i64 {
    ran(&ctx);
    // Slow enough that Celery's workers get their share.
    tokio::time::sleep(Duration::from_millis(4)).await; // workload
    a + b
}

#[umbel::task(name = "total")]
async fn total(ctx: Context, numbers: Vec<i64>) -> i64 {
    ran(&ctx);
    numbers.into_iter().sum()
}

async fn node(name: &str, server: &RedisServer) -> Node {
    let Backbone { broker, backend, ledger } = backbone(server, RedisOptions::default());
    let builder = Node::builder().name(name).queues(["shared"]).concurrency(1).prefetch_multiplier(1);
    soon("the node", builder.backbone(broker, backend, ledger).task(add).task(total).start()).await.unwrap()
}

fn lines(ledger: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(ledger).unwrap();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(who, id)| (who.to_owned(), id.to_owned())).collect()
}

/// Goal: everything is correct, nothing is lost, nothing runs twice, and everybody has had a share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_fleet_works_one_queue_off() {
    let (tasks, chords) = (setting("UMBEL_FLEET_TASKS", 400), setting("UMBEL_FLEET_CHORDS", 30));
    let server = RedisServer::default();
    let endings = Endings::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger");
    assert!(LEDGER.set(OpenOptions::new().create(true).append(true).open(&ledger).unwrap()).is_ok());
    let environment = [("LEDGER", ledger.display().to_string()), ("WAIT", WITHIN.as_secs().to_string())];
    let _workers = VERSIONS.map(|version| Worker::start_with(version, &server, "shared", 3600.0, &environment));
    let _nodes = (node("one", &server).await, node("two", &server).await);
    let mut ids = Vec::new();
    for version in VERSIONS {
        // Both clients' messages, each half of the work.
        let mut command = celery(version, &server, 3600.0);
        command.envs(environment.clone()).args(["fleet.py", "fleet", "shared"]);
        command.args([(tasks / 2).to_string(), (chords / 2).to_string()]);
        let output = tokio::time::timeout(WITHIN, tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["wrong"], serde_json::json!([]), "celery {version}");
        ids.extend(told["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    until("everything is acknowledged", || (server.ask::<String>(&["TYPE", "unacked"]) == "none").then_some(()));
    let lines = lines(&ledger);
    let mut runs: BTreeMap<&str, u32> = BTreeMap::new();
    let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
    for (who, id) in &lines {
        *runs.entry(id).or_default() += 1;
        *shares.entry(who).or_default() += 1;
    }
    println!("{tasks} tasks, {chords} chords, {} ids; shares: {shares:?}", ids.len());
    assert!(ids.iter().all(|id| runs.get(id.as_str()) == Some(&1)), "a task did not run, or ran twice");
    assert_eq!(runs.len(), ids.len(), "tasks that nobody sent");
    until("the last result is heard", || (endings.count() >= ids.len()).then_some(()));
    assert_eq!(endings.doubled(), Vec::<String>::new(), "finished twice");
    assert!(shares.len() == 2, "Celery or the nodes did nothing: {shares:?}");
}

static LONG: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
static ENDED: AtomicU32 = AtomicU32::new(0);

#[umbel::task(name = "hang")]
async fn long(ctx: Context, seconds: f64) -> String {
    *LONG.lock().unwrap().entry(ctx.task_id().to_string()).or_default() += 1;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await; // workload
    ENDED.fetch_add(1, Ordering::Relaxed);
    "ended".to_owned()
}

/// Goal: tasks and waits much longer than the visibility timeout start once each, while a Celery worker beside the node looks
/// for stale messages every second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_visibility_timeout_means_nothing_to_a_node() {
    let (visibility, seconds) = (5, setting("UMBEL_LONG_TASK_SECS", 9));
    let server = RedisServer::default();
    let endings = Endings::of(&server);
    let options = RedisOptions { visibility_timeout: Duration::from_secs(visibility), ..RedisOptions::default() };
    let Backbone { broker, backend, ledger } = backbone(&server, options);
    let builder = Node::builder().name("long").queues(["long"]).concurrency(4).backbone(broker, backend, ledger);
    let _node = soon("the node", builder.task(long).start()).await.unwrap();
    let _workers = VERSIONS.map(|version| Worker::start(version, &server, "other", visibility as f64));
    let mut ids = Vec::new();
    for version in VERSIONS {
        for countdown in [None, Some((2 * seconds).to_string())] {
            let seconds = seconds.to_string();
            let mut arguments = vec!["submit", "long", if countdown.is_some() { "0.1" } else { &seconds }];
            arguments.extend(countdown.as_deref());
            ids.push(client(version, &server, &arguments).await["id"].as_str().unwrap().to_owned());
        }
    }
    let begun = std::time::Instant::now();
    while ENDED.load(Ordering::Relaxed) < 4 {
        assert!(begun.elapsed() < Duration::from_secs(60 + 3 * seconds), "not ended: {:?}", LONG.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await; // workload: the tasks are longer than other waits may be
    }
    until("everything is acknowledged", || (server.ask::<String>(&["TYPE", "unacked"]) == "none").then_some(()));
    let runs = LONG.lock().unwrap().clone();
    println!("visibility timeout {visibility} s, tasks of {seconds} s, scheduled for {} s: {runs:?}", 2 * seconds);
    assert!(ids.iter().all(|id| runs.get(id) == Some(&1)) && runs.len() == 4, "{runs:?}");
    assert_eq!(endings.doubled(), Vec::<String>::new(), "finished twice");
}
