//! The Redis broker: kombu's queues, shared with Celery workers, without kombu's holes.
//!
//! **What it owns.** Two connections to the broker's database: one for commands, one that hears of changes
//! ([`tracking`](crate::redis::tracking)). Per node a *session*, which holds messages by a lease of the server's clock.
//!
//! **Where a message is.** In a queue's list, in the schedule, or in `unacked` under a field that is new at each taking: so
//! the field itself is the fence, and a Celery worker that restores an entry ends the attempt of whoever held it. Taking and
//! recording are one script. What lies between a queue and a task's ending is thus always in exactly one place on the server.
//!
//! **Urgency.** As for Celery on Redis, 0 is the most urgent priority, and priorities fall into kombu's steps.
//!
//! **What bounds it.** Depth by the server's memory; a script moves at most [`subscription::SLICE`] messages. **When it dies.**
//! A session that is not renewed is given up by the first node that sees its lease end; what it held goes back to the front of
//! its queues, in order. A session that others have given up begins anew under another name.

mod declare;
mod fanout;
mod inspect;
mod keeper;
mod leaving;
mod letters;
mod nodes;
mod publish;
mod rescue;
mod revoked;
mod session;
mod shared;
mod subscription;
mod tunings;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;
use umbel_proto::{QueueName, TaskName};
use umbel_scheduler::{
    Publish, Release,
    revocation::{Revocation, Revoked},
    tuning::{Tuning, Tunings},
};

use super::{Broker, BrokerError, DeadLetter, Fanout, Held, LiveNode, Peeked, QueueStatus, Subscribe, Subscription};
use crate::{
    limits::{Limits, RedisLimits},
    redis::{Link, LinkState, RedisOptions, Target, error::KIND},
    schedules::{Schedules, redis::RedisSchedules},
};
use publish::Settle;
pub(crate) use publish::{COMMITS, Payment, Posting};
pub(crate) use shared::Shared;

/// A broker in a Redis database.
pub struct RedisBroker {
    shared: Arc<Shared>,
}

impl RedisBroker {
    /// A broker at `target`. It connects in the background and goes on trying for ever; must be called within a runtime.
    pub fn open(target: Target, options: RedisOptions) -> Self {
        Self { shared: Shared::open(target, options) }
    }

    /// Waits until it has been reached once and knows what is revoked.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn ready(&self) -> Result<(), BrokerError> {
        Ok(self.shared.learn_revoked().await?)
    }

    /// The state of the connection, now and from now on.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.shared.link.state()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The connection for commands.
    pub fn link(&self) -> &Link {
        &self.shared.link
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn publish(&self, batch: Vec<Publish>) -> Vec<Result<(), BrokerError>> {
        self.shared.publish(batch).await
    }

    async fn publish_whole(&self, batch: Vec<Publish>) -> Result<(), BrokerError> {
        Ok(self.shared.publish_whole(&batch).await?)
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Box<dyn Subscription>, BrokerError> {
        Ok(Box::new(subscription::RedisSubscription::begin(&self.shared, request).await?))
    }

    async fn release(&self, batch: Vec<(Held, Release)>) -> Vec<Result<bool, BrokerError>> {
        self.shared.settle(batch.into_iter().map(|(held, release)| Settle { held, release, instead: None }).collect()).await
    }

    async fn send_on(&self, batch: Vec<(Held, Publish)>) -> Vec<Result<bool, BrokerError>> {
        let moves = batch.into_iter().map(|(held, publish)| Settle { held, release: Release::Ack, instead: Some(publish) });
        self.shared.settle(moves.collect()).await
    }

    async fn holds(&self, deliveries: &[Held]) -> Result<Vec<bool>, BrokerError> {
        Ok(self.shared.holds(deliveries).await?)
    }

    async fn waits(&self, queues: &[QueueName]) -> Result<bool, BrokerError> {
        Ok(self.shared.waits(queues).await?)
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, BrokerError> {
        Ok(self.shared.queues().await?)
    }

    async fn nodes(&self) -> Result<Option<Vec<LiveNode>>, BrokerError> {
        Ok(Some(self.shared.nodes().await?))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        Ok(self.shared.purge(queue).await?)
    }

    async fn peek(&self, queue: &QueueName, limit: usize) -> Result<Vec<Peeked>, BrokerError> {
        Ok(self.shared.peek(queue, limit).await?)
    }

    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), BrokerError> {
        Ok(self.shared.pause(queue, paused).await?)
    }

    async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        Ok(self.shared.dead(limit).await?)
    }

    async fn dead_retry(&self, id: &str) -> Result<bool, BrokerError> {
        Ok(self.shared.dead_retry(id).await?)
    }

    async fn dead_drop(&self, id: &str) -> Result<bool, BrokerError> {
        Ok(self.shared.dead_drop(id).await?)
    }

    async fn revoke(&self, orders: &[Revocation]) -> Result<(), BrokerError> {
        Ok(self.shared.revoke(orders).await?)
    }

    fn limits(&self) -> Option<Arc<dyn Limits>> {
        let keys = &self.shared.keys;
        let limits = RedisLimits::new(self.shared.link.clone(), keys.prefix(), Some(keys.kombu.unacked().to_owned()));
        Some(Arc::new(limits.told_by(self.shared.tracking.clone())))
    }

    fn revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.shared.revoked.subscribe()
    }

    async fn tune(&self, task: &TaskName, tuning: &Tuning) -> Result<bool, BrokerError> {
        self.shared.tune(task, tuning).await?;
        Ok(true)
    }

    fn tunings(&self) -> Option<watch::Receiver<Arc<Tunings>>> {
        Some(self.shared.tunings.subscribe())
    }

    fn fanout(&self) -> Option<Arc<dyn Fanout>> {
        Some(Arc::new(fanout::RedisFanout::new(Arc::clone(&self.shared))))
    }

    fn schedules(&self) -> Option<Arc<dyn Schedules>> {
        Some(Arc::new(RedisSchedules::new(Arc::clone(&self.shared))))
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisBroker").field(&self.shared.link).finish()
    }
}
