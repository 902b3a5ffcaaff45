//! The RabbitMQ broker: Celery's queues and exchanges, shared with Celery workers.
//!
//! **What it owns.** A connection for publishing and looking, with publisher confirms; for every node that takes messages a
//! *session* with a connection of its own ([`session`]), looked after by one task ([`keeper`]); and a copy of the cluster's
//! state ([`state`]), which follows a stream.
//!
//! **Where a message is.** In its task queue; in the queue in front of it (`umbel.front.<queue>`), with what it has gone
//! through in a header; in the delayed-delivery ladder ([`delay`]); unacknowledged on a node's session, from its task queue or
//! from the session's holding queue; or in `umbel.dead`. It moves from one to another in one transaction of one channel.
//!
//! **Attempts.** Quorum queues count deliveries themselves. Of a message that a classic queue delivers again it is only known
//! that it is not the first time; it is moved to the front queue with its count before anybody runs it. The fence of an ending
//! is the name of a taking, which only the session that took it can settle, and only while its channel lives.
//!
//! **What bounds it.** Depth by the server; unacknowledged messages by credits, per queue. **When it dies.** RabbitMQ gives what
//! a lost connection held to others, in its order.

mod declare;
mod delay;
mod fanout;
mod hand;
mod inspect;
mod keeper;
mod letters;
mod lines;
mod message;
mod peers;
mod publish;
mod replies;
mod send;
mod session;
mod shared;
mod state;
mod subscription;
mod whole;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use tokio::sync::watch;
use umbel_proto::QueueName;
use umbel_scheduler::{
    Publish, Release,
    revocation::{Revocation, Revoked},
};

use super::{Broker, BrokerError, DeadLetter, Fanout, Held, LiveNode, Peeked, QueueStatus, Subscribe, Subscription};
use crate::amqp::{AmqpOptions, Link, LinkState, Target, error::KIND};
use crate::schedules::{Schedules, amqp::AmqpSchedules};
pub(crate) use declare::Scratch;
pub(crate) use message::Post;
pub(crate) use replies::Reply;
use session::Settle;
pub(crate) use shared::Shared;

/// A broker in a virtual host of RabbitMQ.
pub struct AmqpBroker {
    shared: Arc<Shared>,
    schedules: OnceLock<Arc<AmqpSchedules>>,
}

impl AmqpBroker {
    /// A broker at `target`. It connects in the background and goes on trying for ever; must be called within a runtime.
    pub fn open(target: Target, options: AmqpOptions) -> Self {
        Self { shared: Shared::open(target, options), schedules: OnceLock::new() }
    }

    /// Waits until it has been reached once and knows what is revoked and paused.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn ready(&self) -> Result<(), BrokerError> {
        Ok(self.shared.state.learned().await?)
    }

    /// The state of the connection, now and from now on.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.shared.link.state()
    }

    /// The connection for publishing.
    pub fn link(&self) -> &Link {
        &self.shared.link
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn publish(&self, batch: Vec<Publish>) -> Vec<Result<(), BrokerError>> {
        self.shared.publish(batch).await.into_iter().map(|answer| answer.map_err(Into::into)).collect()
    }

    async fn publish_whole(&self, batch: Vec<Publish>) -> Result<(), BrokerError> {
        Ok(self.shared.publish_whole(&batch).await?)
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Box<dyn Subscription>, BrokerError> {
        Ok(Box::new(subscription::AmqpSubscription::begin(&self.shared, request).await?))
    }

    async fn release(&self, batch: Vec<(Held, Release)>) -> Vec<Result<bool, BrokerError>> {
        let batch = batch.into_iter().map(|(held, release)| Settle { held, release, post: None }).collect();
        self.shared.settle(batch).await.into_iter().map(|answer| answer.map_err(Into::into)).collect()
    }

    async fn send_on(&self, batch: Vec<(Held, Publish)>) -> Vec<Result<bool, BrokerError>> {
        self.shared.send_on(batch).await.into_iter().map(|answer| answer.map_err(Into::into)).collect()
    }

    async fn holds(&self, deliveries: &[Held]) -> Result<Vec<bool>, BrokerError> {
        Ok(deliveries.iter().map(|held| self.shared.holder(held).is_some()).collect())
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

    fn fanout(&self) -> Option<Arc<dyn Fanout>> {
        Some(Arc::new(fanout::AmqpFanout(Arc::clone(&self.shared))))
    }

    fn schedules(&self) -> Option<Arc<dyn Schedules>> {
        // Who never asks for them follows no log.
        Some(self.schedules.get_or_init(|| Arc::new(AmqpSchedules::new(Arc::clone(&self.shared)))).clone())
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        Ok(self.shared.purge(queue).await?)
    }

    async fn peek(&self, queue: &QueueName, limit: usize) -> Result<Vec<Peeked>, BrokerError> {
        Ok(self.shared.peek(queue, limit).await?)
    }

    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), BrokerError> {
        Ok(self.shared.state.pause(queue, paused).await?)
    }

    async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        Ok(self.shared.dead(limit).await?)
    }

    async fn dead_retry(&self, id: &str) -> Result<bool, BrokerError> {
        Ok(self.shared.dead_take(id, true).await?)
    }

    async fn dead_drop(&self, id: &str) -> Result<bool, BrokerError> {
        Ok(self.shared.dead_take(id, false).await?)
    }

    async fn revoke(&self, orders: &[Revocation]) -> Result<(), BrokerError> {
        Ok(self.shared.state.revoke(orders).await?)
    }

    fn revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.shared.state.revoked()
    }
}

impl fmt::Debug for AmqpBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AmqpBroker").field(&self.shared.link).finish()
    }
}
