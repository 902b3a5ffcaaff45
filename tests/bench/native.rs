//! Native tasks that do nothing, with results, on the embedded store, against the store's own limit in the same run.

use std::{sync::Arc, time::Instant};

use serde_json::json;
use umbel::{
    NativeExecutor,
    brokers::Backbone,
    embedded::{Store, StoreOptions},
    node::Node,
    proto::TaskId,
};
use umbel_tests::wait::until_async;

use crate::{
    print,
    store::{CREDITS, Rates, enqueue, raw},
    tasks,
};

/// Slots of the node. With the prefetch multiplier they make four times [`CREDITS`], so that taking one batch overlaps with
/// committing the ones before it.
const SLOTS: u32 = 64;

#[umbel::task(name = "noop")]
async fn noop(_padding: String, number: i64) -> i64 {
    number
}

/// Enqueues as the raw measure does, then starts a node and waits until the last ending is durable.
async fn native(count: usize) -> Rates {
    let store = Store::temporary(StoreOptions::default()).unwrap();
    let Backbone { broker, backend, ledger } = Backbone::embedded(store).unwrap();
    let enqueued = enqueue(&broker, count).await;
    let executor = NativeExecutor::builder().task(noop).build();
    let begun = Instant::now();
    let node = Node::builder()
        .concurrency(SLOTS as usize)
        .prefetch_multiplier(CREDITS * 4 / SLOTS)
        .backbone(Arc::clone(&broker), Arc::clone(&backend), ledger)
        .executor(Arc::new(executor))
        .start()
        .await
        .unwrap();
    until_async("everything has ended", || async {
        let queues = broker.queues().await.unwrap();
        queues.iter().all(|queue| queue.ready + queue.held == 0).then_some(())
    })
    .await;
    let drained = begun.elapsed();
    drop(node);
    let ids: Vec<TaskId> = (0..count).map(|number| TaskId::derive("bench", &number.to_string())).collect();
    let stored = backend.get(&ids).await.unwrap().into_iter().flatten().filter(|record| record.status.is_ready()).count();
    assert_eq!(stored, count, "some results are not there");
    Rates::new(count, enqueued, drained)
}

/// Raw, native, raw: the ratio is to the mean of the two.
pub(crate) async fn run() {
    let count = tasks() / 2 * 2;
    let before = raw(count).await;
    let native = native(count).await;
    let after = raw(count).await;
    let ratio = |native: f64, before: f64, after: f64| (native / ((before + after) / 2.0) * 100.0).round() / 100.0;
    let figures = json!({
        "tasks": count,
        "enqueue_per_s": native.enqueue,
        "drain_per_s": native.drain,
        "whole_per_s": native.whole,
        "raw_drain_per_s": [before.drain, after.drain],
        "raw_whole_per_s": [before.whole, after.whole],
        "drain_ratio": ratio(native.drain, before.drain, after.drain),
        "whole_ratio": ratio(native.whole, before.whole, after.whole),
    });
    print("native_noop", figures);
}
