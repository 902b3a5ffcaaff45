//! A broker in front of another, whose steps fail on demand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use tokio::sync::watch;
use umbel::brokers::{Broker, BrokerError, DeadLetter, Delivery, Held, Peeked, QueueStatus, Returns, Subscribe, Subscription};
use umbel_proto::QueueName;
use umbel_scheduler::{
    Publish, Release,
    revocation::{Revocation, Revoked},
};

/// A switch: on is out of order.
#[derive(Debug, Clone, Default)]
pub(super) struct Outage {
    on: Arc<AtomicBool>,
    struck: Arc<AtomicU64>,
}

impl Outage {
    pub(super) fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// Whether it is on now; counted if it is.
    pub(super) fn strikes(&self) -> bool {
        let on = self.on.load(Ordering::SeqCst);
        self.struck.fetch_add(u64::from(on), Ordering::SeqCst);
        on
    }

    /// How often it has struck.
    pub(super) fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }
}

/// The broker.
#[derive(Debug)]
pub(super) struct Faulty {
    /// The one behind, in order.
    pub(super) inner: Arc<dyn Broker>,
    /// Nothing is handed out.
    pub(super) fetching: Outage,
    /// What is published goes out, and nobody says so.
    pub(super) publishing: Outage,
    /// Nothing is paid.
    pub(super) paying: Outage,
}

impl Faulty {
    /// In front of `inner`, and in order.
    pub(super) fn new(inner: Arc<dyn Broker>) -> Self {
        Self { inner, fetching: Outage::default(), publishing: Outage::default(), paying: Outage::default() }
    }
}

#[derive(Debug)]
struct FaultySubscription {
    inner: Box<dyn Subscription>,
    fetching: Outage,
}

fn away() -> BrokerError {
    BrokerError::Unavailable { kind: "faulty", reason: "the test has switched it off".to_owned() }
}

#[async_trait]
impl Subscription for FaultySubscription {
    async fn fetch(&mut self, max: u32) -> Result<Vec<Delivery>, BrokerError> {
        if self.fetching.strikes() {
            return Err(away());
        }
        self.inner.fetch(max).await
    }
    fn returns(&self) -> Returns {
        self.inner.returns()
    }
    async fn close(self: Box<Self>) -> Result<(), BrokerError> {
        self.inner.close().await
    }
}

#[async_trait]
impl Broker for Faulty {
    fn kind(&self) -> &'static str {
        "faulty"
    }
    async fn publish(&self, batch: Vec<Publish>) -> Vec<Result<(), BrokerError>> {
        let answers = self.inner.publish(batch).await;
        if self.publishing.strikes() { answers.iter().map(|_| Err(away())).collect() } else { answers }
    }
    async fn publish_whole(&self, batch: Vec<Publish>) -> Result<(), BrokerError> {
        self.inner.publish_whole(batch).await?;
        if self.publishing.strikes() { Err(away()) } else { Ok(()) }
    }
    async fn subscribe(&self, request: Subscribe) -> Result<Box<dyn Subscription>, BrokerError> {
        let inner = self.inner.subscribe(request).await?;
        Ok(Box::new(FaultySubscription { inner, fetching: self.fetching.clone() }))
    }
    async fn release(&self, batch: Vec<(Held, Release)>) -> Vec<Result<bool, BrokerError>> {
        if self.paying.strikes() { batch.iter().map(|_| Err(away())).collect() } else { self.inner.release(batch).await }
    }
    async fn send_on(&self, batch: Vec<(Held, Publish)>) -> Vec<Result<bool, BrokerError>> {
        let answers = self.inner.send_on(batch).await;
        if self.publishing.strikes() { answers.iter().map(|_| Err(away())).collect() } else { answers }
    }
    async fn holds(&self, deliveries: &[Held]) -> Result<Vec<bool>, BrokerError> {
        self.inner.holds(deliveries).await
    }
    async fn queues(&self) -> Result<Vec<QueueStatus>, BrokerError> {
        self.inner.queues().await
    }
    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.inner.purge(queue).await
    }
    async fn peek(&self, queue: &QueueName, limit: usize) -> Result<Vec<Peeked>, BrokerError> {
        self.inner.peek(queue, limit).await
    }
    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), BrokerError> {
        self.inner.pause(queue, paused).await
    }
    async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        self.inner.dead(limit).await
    }
    async fn dead_retry(&self, id: &str) -> Result<bool, BrokerError> {
        self.inner.dead_retry(id).await
    }
    async fn dead_drop(&self, id: &str) -> Result<bool, BrokerError> {
        self.inner.dead_drop(id).await
    }
    async fn revoke(&self, orders: &[Revocation]) -> Result<(), BrokerError> {
        self.inner.revoke(orders).await
    }
    fn revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.inner.revoked()
    }
}
