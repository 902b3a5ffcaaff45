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
    Client, Node, Signature,
    embedded::{Store, StoreOptions},
};

use crate::print;

/// Bounds every wait of a measure.
const PATIENCE: Duration = Duration::from_secs(300);
/// Tasks a second at low load.
const RATE: u64 = 200;
/// How long low load lasts.
const SECONDS: u64 = 10;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
static STARTS: LazyLock<Vec<AtomicU64>> = LazyLock::new(|| (0..RATE * SECONDS).map(|_| AtomicU64::new(0)).collect());
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

async fn node() -> (Node, Client) {
    let store = Store::temporary(StoreOptions::default()).unwrap();
    let backbone = umbel::brokers::Backbone::embedded(store).unwrap();
    let node = Node::builder()
        .concurrency(16)
        .backbone(backbone.broker, backbone.backend, backbone.ledger)
        .task(stamp)
        .task(part)
        .task(body)
        .task(hop)
        .start()
        .await
        .unwrap();
    let client = node.client();
    (node, client)
}

/// Publish to start at [`RATE`] a second: from the call of `submit`, and from its return, when the task is durable.
pub(crate) async fn run() {
    let (node, client) = node().await;
    let padding = "x".repeat(300);
    let mut clock = tokio::time::interval(Duration::from_nanos(1_000_000_000 / RATE));
    let mut called = Vec::new();
    let mut waits = Vec::new();
    for number in 0..(RATE * SECONDS) as usize {
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
        json!({ "per_s": RATE, "tasks": from_call.len(), "from_call_ms": spread(from_call), "from_durable_ms": spread(from_durable) }),
    );
}

fn spread(mut nanos: Vec<u64>) -> Value {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    let rounded = |ms: f64| (ms * 1_000.0).round() / 1_000.0;
    json!({ "p50": rounded(at(0.5)), "p99": rounded(at(0.99)), "max": rounded(at(1.0)) })
}

/// Chords of 1,000 and 10,000, a chain of 200, a group of 5,000.
pub(crate) async fn workflows() {
    let (node, client) = node().await;
    for size in [1_000_i64, 10_000] {
        let header = (0..size).map(part::s);
        let begun = Instant::now();
        let result = client.submit(Signature::chord(header, body::partial())).await.unwrap();
        let submitted = begun.elapsed();
        let sum: i64 = result.get(PATIENCE).await.unwrap();
        assert_eq!(sum, size * (size - 1) / 2);
        let gap = BODY_START.load(Ordering::Relaxed).saturating_sub(LAST_END.swap(0, Ordering::Relaxed));
        let figures = json!({
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
        json!({ "steps": 200, "whole_ms": whole.as_millis() as u64, "hop_ms": (whole.as_micros() as f64 / 200.0).round() / 1e3 }),
    );
    let begun = Instant::now();
    let result = client.submit(Signature::group((0..5_000).map(part::s))).await.unwrap();
    let values: Vec<i64> = result.get(PATIENCE).await.unwrap();
    assert_eq!(values, (0..5_000).collect::<Vec<_>>());
    let secs = begun.elapsed().as_secs_f64();
    print("group", json!({ "size": 5_000, "whole_ms": (secs * 1e3) as u64, "per_s": (5_000.0 / secs).round() }));
    drop(node);
}
