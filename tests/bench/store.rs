//! The embedded store by itself, without a node: what its disk, its file format and its one writer can do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use umbel::{
    brokers::{Broker, Subscribe, embedded::EmbeddedBroker},
    embedded::{Store, StoreOptions},
    scheduler::Release,
};

use crate::{call, print, tasks};

/// How many messages a publish carries, and how many publishers there are.
pub(crate) const PUBLISH_BATCH: usize = 100;
pub(crate) const PUBLISHERS: usize = 4;
/// How many messages a node holds at most in these measures, and thus the largest batch it takes.
pub(crate) const CREDITS: u32 = 512;

/// A rate of each phase, and of a message's whole life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) enqueue: f64,
    pub(crate) drain: f64,
    pub(crate) whole: f64,
}

impl Rates {
    pub(crate) fn new(count: usize, enqueue: Duration, drain: Duration) -> Self {
        let per_second = |time: Duration| (count as f64 / time.as_secs_f64()).round();
        Self { enqueue: per_second(enqueue), drain: per_second(drain), whole: per_second(enqueue + drain) }
    }
}

/// Publishes `count` messages and returns how long that took.
pub(crate) async fn enqueue(broker: &Arc<dyn Broker>, count: usize) -> Duration {
    let begun = Instant::now();
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let broker = Arc::clone(broker);
        tokio::spawn(async move {
            let mine: Vec<usize> = (publisher..count).step_by(PUBLISHERS).collect();
            for chunk in mine.chunks(PUBLISH_BATCH) {
                for answer in broker.publish(chunk.iter().map(|number| call("celery", "noop", *number)).collect()).await {
                    answer.unwrap();
                }
            }
        })
    });
    futures::future::try_join_all(publishers).await.unwrap();
    begun.elapsed()
}

/// Takes and acknowledges `count` messages, by two subscribers at a time.
async fn drain(broker: &Arc<dyn Broker>, count: usize) -> Duration {
    let begun = Instant::now();
    let takers = (0..2).map(|taker| {
        let broker = Arc::clone(broker);
        tokio::spawn(async move {
            let request = Subscribe::new(format!("taker{taker}"), ["celery"], Duration::from_secs(60));
            let mut subscription = broker.subscribe(request).await.unwrap();
            let mut left = count / 2;
            while left > 0 {
                let taken = subscription.fetch((CREDITS / 2).min(left as u32)).await.unwrap();
                left -= taken.len();
                for answer in broker.release(taken.into_iter().map(|delivery| (delivery.held, Release::Ack)).collect()).await {
                    assert!(answer.unwrap());
                }
            }
        })
    });
    futures::future::try_join_all(takers).await.unwrap();
    begun.elapsed()
}

/// The store's own rate: publish, take, acknowledge, each durable, in the batches a node uses. `count` is even.
pub(crate) async fn raw(count: usize) -> Rates {
    let store = Store::temporary(StoreOptions::default()).unwrap();
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(store).unwrap());
    let enqueued = enqueue(&broker, count).await;
    let drained = drain(&broker, count).await;
    Rates::new(count, enqueued, drained)
}

/// Enqueueing by 1, 16 and 128 callers that each wait for their own fsync.
async fn callers(callers: usize, each: usize) -> (f64, Duration, Duration) {
    let store = Store::temporary(StoreOptions::default()).unwrap();
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(store).unwrap());
    let begun = Instant::now();
    let tasks = (0..callers).map(|caller| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(each);
            for number in 0..each {
                let begun = Instant::now();
                broker.publish(vec![call("celery", "noop", caller * each + number)]).await.remove(0).unwrap();
                times.push(begun.elapsed());
            }
            times
        })
    });
    let mut times: Vec<Duration> = futures::future::try_join_all(tasks).await.unwrap().into_iter().flatten().collect();
    let rate = (times.len() as f64 / begun.elapsed().as_secs_f64()).round();
    times.sort_unstable();
    (rate, times[times.len() / 2], times[times.len() * 99 / 100])
}

/// All figures of the store alone.
pub(crate) async fn run() {
    for count in [1, 16, 128] {
        let (rate, p50, p99) = callers(count, 20_000 / count.max(8)).await;
        let micros = |time: Duration| time.as_micros() as u64;
        print("store_enqueue", json!({ "callers": count, "per_s": rate, "p50_us": micros(p50), "p99_us": micros(p99) }));
    }
    let rates = raw(tasks() / 2 * 2).await;
    print("store_raw", json!({ "tasks": tasks(), "enqueue_per_s": rates.enqueue, "drain_per_s": rates.drain, "whole_per_s": rates.whole }));
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A million waiting messages: memory, and the time to open the file again, after an ordinary end and after a crash.
pub(crate) async fn backlog() {
    const COUNT: usize = 1_000_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (rate, grown) = {
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(store).unwrap());
        enqueue(&broker, 1000).await;
        let before = resident();
        let took = enqueue(&broker, COUNT).await;
        let queues = broker.queues().await.unwrap();
        assert_eq!(queues[0].ready as usize, COUNT + 1000);
        // A copy of the open file is what a crash leaves. Its pages go to the disk now, not with the first fsync of recovery.
        let crashed = directory.path().join("crashed");
        std::fs::copy(&path, &crashed).unwrap();
        std::fs::File::open(&crashed).unwrap().sync_all().unwrap();
        ((COUNT as f64 / took.as_secs_f64()).round(), resident().saturating_sub(before))
    };
    let open = |path: &std::path::Path| {
        let begun = Instant::now();
        let store = Store::open(path, StoreOptions::default()).unwrap();
        (begun.elapsed(), store)
    };
    let (reopened, _store) = open(&path);
    let (recovered, store) = open(&directory.path().join("crashed"));
    let begun = Instant::now();
    let queues = EmbeddedBroker::new(store).unwrap().queues().await.unwrap();
    assert_eq!(queues[0].ready as usize, COUNT + 1000);
    let figures = json!({
        "messages": COUNT,
        "enqueue_per_s": rate,
        "grown_kb": grown,
        "file_mb": std::fs::metadata(&path).unwrap().len() >> 20,
        "reopen_ms": reopened.as_millis() as u64,
        "recover_ms": recovered.as_millis() as u64,
        "queues_us": begun.elapsed().as_micros() as u64,
    });
    print("store_backlog", figures);
}
