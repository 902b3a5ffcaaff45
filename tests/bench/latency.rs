//! From publish to start at low load, and the way through workflows: what one task waits for, not how many there are.
//!
//! The tasks stamp themselves with one monotonic clock, so that nobody pays a round trip to be counted.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use umbel::{
    Client, Node, Signature, SignatureExt,
    brokers::Backbone,
    embedded::{Store, StoreOptions},
    redis::RedisOptions,
};
use umbel_tests::servers::redis::RedisServer;

use crate::print;

/// Bounds every wait of a measure.
const PATIENCE: Duration = Duration::from_secs(300);
/// Tasks a second at low load, and at more.
const RATE: u64 = 200;
const RATE_MAX: u64 = 1_000;
/// How long low load lasts.
const SECONDS: u64 = 10;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
static STARTS: LazyLock<Vec<AtomicU64>> = LazyLock::new(|| (0..RATE_MAX * SECONDS).map(|_| AtomicU64::new(0)).collect());
static LAST_END: AtomicU64 = AtomicU64::new(0);
static BODY_START: AtomicU64 = AtomicU64::new(0);

fn now() -> u64 {
    EPOCH.elapsed().as_nanos() as u64
}

#[umbel::task(name = "stamp")]
async fn stamp(number: usize, _padding: String) -> usize {
    STARTS[number].store(now(), Ordering::Relaxed);
    number
}

#[umbel::task(name = "part")]
async fn part(number: i64) -> i64 {
    LAST_END.fetch_max(now(), Ordering::Relaxed);
    number
}

#[umbel::task(name = "body")]
async fn body(numbers: Vec<i64>) -> i64 {
    BODY_START.store(now(), Ordering::Relaxed);
    numbers.into_iter().sum()
}

#[umbel::task(name = "hop")]
async fn hop(number: i64) -> i64 {
    number + 1
}

/// How late it starts, in microseconds since `at`, which is in milliseconds since 1970.
#[umbel::task(name = "due")]
async fn due(number: usize, at: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    STARTS[number].store((now - at * 1_000).max(0) as u64 * 1_000, Ordering::Relaxed);
    number as i64
}

/// What a measure stands on; a server goes with it.
struct Ground {
    backbone: Backbone,
    on: &'static str,
    _server: Option<RedisServer>,
}

impl Ground {
    fn embedded() -> Self {
        let store = Store::temporary(StoreOptions::default()).unwrap();
        Self { backbone: Backbone::embedded(store).unwrap(), on: "embedded", _server: None }
    }

    /// Messages in one database, results in another.
    fn redis() -> Self {
        let server = RedisServer::default();
        let backbone = Backbone::open_with(&server.url(0), Some(&server.url(1)), StoreOptions::default(), RedisOptions::default()).unwrap();
        Self { backbone, on: "redis", _server: Some(server) }
    }
}

async fn node(ground: &Ground) -> (Node, Client) {
    let backbone = ground.backbone.clone();
    let node = Node::builder()
        .concurrency(16)
        .backbone(backbone.broker, backbone.backend, backbone.ledger)
        .task(stamp)
        .task(part)
        .task(body)
        .task(hop)
        .task(due)
        .start()
        .await
        .unwrap();
    let client = node.client();
    (node, client)
}

/// The measures of this file on Redis.
pub(crate) async fn redis() {
    for rate in [RATE, RATE_MAX] {
        publish_to_start(Ground::redis(), rate).await;
    }
    all_workflows(Ground::redis()).await;
    scheduled(Ground::redis()).await;
}

/// Publish to start at [`RATE`] a second.
pub(crate) async fn run() {
    publish_to_start(Ground::embedded(), RATE).await;
}

/// From the call of `submit`, and from its return, when the task is durable, to the start of the task.
async fn publish_to_start(ground: Ground, rate: u64) {
    let (node, client) = node(&ground).await;
    let padding = "x".repeat(300);
    let mut clock = tokio::time::interval(Duration::from_nanos(1_000_000_000 / rate));
    let mut called = Vec::new();
    let mut waits = Vec::new();
    for number in 0..(rate * SECONDS) as usize {
        clock.tick().await;
        let (client, padding, begun) = (client.clone(), padding.clone(), now());
        called.push(begun);
        waits.push(tokio::spawn(async move {
            let result = client.submit(stamp::s(number, padding)).await.unwrap();
            (now(), result)
        }));
    }
    let mut from_call = Vec::new();
    let mut from_durable = Vec::new();
    for (number, wait) in waits.into_iter().enumerate() {
        let (durable, result) = wait.await.unwrap();
        result.value(PATIENCE).await.unwrap();
        let started = STARTS[number].load(Ordering::Relaxed);
        from_call.push(started.saturating_sub(called[number]));
        from_durable.push(started.saturating_sub(durable));
    }
    drop(node);
    print(
        "publish_to_start",
        json!({ "on": ground.on, "per_s": rate, "tasks": from_call.len(), "from_call_ms": spread(from_call), "from_durable_ms": spread(from_durable) }),
    );
}

fn spread(mut nanos: Vec<u64>) -> Value {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    let rounded = |ms: f64| (ms * 1_000.0).round() / 1_000.0;
    json!({ "p50": rounded(at(0.5)), "p99": rounded(at(0.99)), "max": rounded(at(1.0)) })
}

/// Lateness of tasks that become due at [`RATE_MAX`] a second.
async fn scheduled(ground: Ground) {
    let (node, client) = node(&ground).await;
    let count = (RATE_MAX * SECONDS) as usize;
    let first = umbel::clock::now() + 20_000;
    let calls = (0..count).map(|number| {
        let at = first + number as i64 * 1_000 / RATE_MAX as i64;
        let eta = umbel::proto::Timestamp::from_millis(at);
        due::s(number, at).eta(eta.as_str())
    });
    let result = client.submit(Signature::group(calls)).await.unwrap();
    result.get::<Vec<i64>>(PATIENCE).await.unwrap();
    let late: Vec<u64> = STARTS.iter().take(count).map(|start| start.load(Ordering::Relaxed)).collect();
    drop(node);
    print("eta", json!({ "on": ground.on, "due_per_s": RATE_MAX, "tasks": count, "late_ms": spread(late) }));
}

/// Chords of 1,000 and 10,000, a chain of 200, a group of 5,000.
pub(crate) async fn workflows() {
    all_workflows(Ground::embedded()).await;
}

async fn all_workflows(ground: Ground) {
    let (node, client) = node(&ground).await;
    for size in [1_000_i64, 10_000] {
        let header = (0..size).map(part::s);
        let begun = Instant::now();
        let result = client.submit(Signature::chord(header, body::partial())).await.unwrap();
        let submitted = begun.elapsed();
        let sum: i64 = result.get(PATIENCE).await.unwrap();
        assert_eq!(sum, size * (size - 1) / 2);
        let gap = BODY_START.load(Ordering::Relaxed).saturating_sub(LAST_END.swap(0, Ordering::Relaxed));
        let figures = json!({
            "on": ground.on,
            "size": size,
            "submit_ms": submitted.as_millis() as u64,
            "whole_ms": begun.elapsed().as_millis() as u64,
            "last_header_to_body_ms": (gap as f64 / 1e4).round() / 100.0,
        });
        print("chord", figures);
    }
    let begun = Instant::now();
    let steps = std::iter::once(hop::s(0)).chain((1..200).map(|_| hop::partial()));
    let result = client.submit(Signature::chain(steps)).await.unwrap();
    assert_eq!(result.get::<i64>(PATIENCE).await.unwrap(), 200);
    let whole = begun.elapsed();
    print(
        "chain",
        json!({ "on": ground.on, "steps": 200, "whole_ms": whole.as_millis() as u64, "hop_ms": (whole.as_micros() as f64 / 200.0).round() / 1e3 }),
    );
    let begun = Instant::now();
    let result = client.submit(Signature::group((0..5_000).map(part::s))).await.unwrap();
    let values: Vec<i64> = result.get(PATIENCE).await.unwrap();
    assert_eq!(values, (0..5_000).collect::<Vec<_>>());
    let secs = begun.elapsed().as_secs_f64();
    print("group", json!({ "on": ground.on, "size": 5_000, "whole_ms": (secs * 1e3) as u64, "per_s": (5_000.0 / secs).round() }));
    drop(node);
}
