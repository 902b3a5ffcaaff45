//! The broker seam: where messages wait.
//!
//! **What a contributor writes.** A [`Broker`] that takes tasks and keeps them, and a [`Subscription`] that hands them out.
//! Neither ever sees an actor. The consumer actor hosts the subscription: it calls [`Subscription::fetch`] with the number of
//! credits it has, and hands what comes to the gate.
//!
//! **What it must promise.** A message that was published (the call returned `Ok`) is at every instant in exactly one place:
//! waiting in a queue, in the schedule, held by a node, or a dead letter. Taking a message and recording who holds it is one
//! step. Each taking has an attempt number, one higher than the last; only the newest may end the task. A node holds by a
//! lease that it renews; when the lease ends, what it held goes back to the front of its queues in the order it was taken.
//! What is published as a whole, or sent on in the place of a delivery, is one step.
//! Within a queue and priority, messages leave in the order they came; 9 is the most urgent priority, 0 the default.
//!
//! **What bounds it.** `fetch` never returns more than it was asked for. Depth is bounded by the store, not by memory.
//!
//! **When it dies.** Every operation answers with a [`BrokerError`]; a transient one means "ask again", and the caller does,
//! with jitter, for ever. An outage is a state, never a crash.
//!
//! The proof for every implementation is `tests/src/conformance/broker.rs`.

pub mod amqp;
pub mod embedded;
pub mod fanout;
pub(crate) mod idle;
mod nodes;
mod open;
pub mod redis;

use std::{fmt, sync::Arc, time::Duration};

use crate::limits::Limits;
use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use umbel_proto::{DeliveryTag, Envelope, Millis, NodeId, QueueName, TaskName};
use umbel_scheduler::{
    DeadReason, Publish, Release,
    revocation::{Revocation, Revoked},
    tuning::{Tuning, Tunings},
};

use crate::schedules::Schedules;

pub use self::{
    fanout::Fanout,
    nodes::{About, LiveNode},
    open::{Backbone, BackboneError},
};

/// A store of waiting messages.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// What it is called in URLs, metrics and tables.
    fn kind(&self) -> &'static str;

    /// Keeps messages; an answer for each. `Ok` means durable.
    async fn publish(&self, batch: Vec<Publish>) -> Vec<Result<(), BrokerError>>;

    /// Keeps messages that belong together: all of them or none, also when the sender dies meanwhile.
    async fn publish_whole(&self, batch: Vec<Publish>) -> Result<(), BrokerError>;

    /// Begins to take messages for a node.
    async fn subscribe(&self, request: Subscribe) -> Result<Box<dyn Subscription>, BrokerError>;

    /// Settles deliveries; an answer for each. `Ok(false)`: not held at that attempt any more, nothing happened.
    async fn release(&self, batch: Vec<(Held, Release)>) -> Vec<Result<bool, BrokerError>>;

    /// Sends messages in the place of deliveries, each in one step with the acknowledgement of its delivery; answers as
    /// [`Broker::release`].
    async fn send_on(&self, batch: Vec<(Held, Publish)>) -> Vec<Result<bool, BrokerError>>;

    /// Which deliveries are held at their attempt now, as far as the broker can tell before they are settled. What it cannot
    /// tell counts as held. The queues in the names are not looked at.
    async fn holds(&self, deliveries: &[Held]) -> Result<Vec<bool>, BrokerError> {
        Ok(vec![true; deliveries.len()])
    }

    /// Whether a message waits in one of the queues that is not paused; asked again and again, so it should cost little.
    async fn waits(&self, queues: &[QueueName]) -> Result<bool, BrokerError> {
        let found = self.queues().await?;
        Ok(found.iter().any(|queue| queue.ready > 0 && !queue.paused && queues.contains(&queue.name)))
    }

    /// Every queue that has messages, is consumed or is paused, by name.
    async fn queues(&self) -> Result<Vec<QueueStatus>, BrokerError>;

    /// The nodes that hold a lease now, by name; `None` where the broker cannot tell.
    async fn nodes(&self) -> Result<Option<Vec<LiveNode>>, BrokerError> {
        Ok(None)
    }

    /// Removes every waiting and scheduled message of a queue and says how many there were. What is held stays.
    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError>;

    /// The next messages of a queue, without taking them.
    async fn peek(&self, queue: &QueueName, limit: usize) -> Result<Vec<Peeked>, BrokerError>;

    /// Stops or resumes handing out a queue's messages, durably and for every node.
    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), BrokerError>;

    /// Dead letters, newest first.
    async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError>;

    /// Puts a dead letter back into its queue as if it were new; `false` when there is none of that id.
    async fn dead_retry(&self, id: &str) -> Result<bool, BrokerError>;

    /// Removes a dead letter; `false` when there is none of that id.
    async fn dead_drop(&self, id: &str) -> Result<bool, BrokerError>;

    /// Gives orders not to run things, durably and for every node.
    async fn revoke(&self, orders: &[Revocation]) -> Result<(), BrokerError>;

    /// Who counts for limits that hold for all nodes on this broker; `None` where it cannot.
    fn limits(&self) -> Option<Arc<dyn Limits>> {
        None
    }

    /// What is revoked, now and from now on.
    fn revoked(&self) -> watch::Receiver<Arc<Revoked>>;

    /// Changes the options of a task, durably and for every node; what the change does not mention stays. `false` where the
    /// broker keeps no such thing.
    async fn tune(&self, _task: &TaskName, _tuning: &Tuning) -> Result<bool, BrokerError> {
        Ok(false)
    }

    /// What was changed of tasks, now and from now on; `None` where the broker keeps no such thing.
    fn tunings(&self) -> Option<watch::Receiver<Arc<Tunings>>> {
        None
    }

    /// The part for messages that are no tasks, if this broker has one: remote control and events need it.
    fn fanout(&self) -> Option<Arc<dyn Fanout>> {
        None
    }

    /// Where schedules are kept beside the queues, if they can be: beat needs it.
    fn schedules(&self) -> Option<Arc<dyn Schedules>> {
        None
    }
}

/// Messages being handed to one node.
#[async_trait]
pub trait Subscription: Send + fmt::Debug {
    /// Waits until there is at least one message and takes up to `max` (at least 1), spread fairly over the queues.
    ///
    /// Dropping the future loses nothing: what it has taken by then goes back, or comes with the next call.
    async fn fetch(&mut self, max: u32) -> Result<Vec<Delivery>, BrokerError>;

    /// Where deliveries go that were dropped before they were settled.
    fn returns(&self) -> Returns;

    /// Takes from these queues from now on; from none, until it is told others: nobody fetches then, and what has been taken and not
    /// handed out goes back. What has been handed out stays held.
    async fn take_from(&mut self, _queues: &[QueueName]) -> Result<(), BrokerError> {
        Err(BrokerError::Refused { kind: "this", reason: "a subscription keeps the queues it was begun with".to_owned() })
    }

    /// Gives everything still held back to the front of its queues and ends the lease.
    async fn close(self: Box<Self>) -> Result<(), BrokerError>;
}

/// What a node wants.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// Who it is.
    pub node: NodeId,
    /// From where.
    pub queues: Vec<QueueName>,
    /// How long a silent node keeps what it holds.
    pub lease: Duration,
    /// What it says of itself to others; see [`Broker::nodes`].
    pub about: About,
}

impl Subscribe {
    /// What a node without an address of its own wants.
    pub fn new<Q: Into<QueueName>>(node: impl Into<NodeId>, queues: impl IntoIterator<Item = Q>, lease: Duration) -> Self {
        Self { node: node.into(), queues: queues.into_iter().map(Into::into).collect(), lease, about: About::default() }
    }
}

/// One taking of one message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What is held.
    pub held: Held,
    /// How many executors have died under it.
    pub crashes: u32,
    /// Whether it was acknowledged early by a node that died before the ending.
    pub lost: bool,
    /// The message, or why the transport's form of it cannot be read.
    pub envelope: Result<Envelope, umbel_proto::DecodeError>,
}

/// The name of one taking of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The queue it came from.
    pub queue: QueueName,
    /// The delivery.
    pub tag: DeliveryTag,
    /// Which taking of the message this is; 1 is the first.
    pub attempt: u32,
}

/// Takes back deliveries without waiting. Unbounded in type, bounded by the credits that every delivery holds.
#[derive(Debug, Clone)]
pub struct Returns(mpsc::UnboundedSender<Held>);

impl Returns {
    /// A pair; the receiver belongs to the broker.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Held>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Gives one back, to the front of its queue. Several come back in no order among themselves; what has to keep its order is
    /// given back by [`Subscription::close`] or the end of the lease. When the broker's side is gone, the lease gives it back
    /// instead.
    pub fn give_back(&self, held: Held) {
        let _ = self.0.send(held);
    }
}

/// What is known of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// Its name.
    pub name: QueueName,
    /// Messages waiting.
    pub ready: u64,
    /// Messages held by nodes.
    pub held: u64,
    /// Messages waiting for their time.
    pub scheduled: u64,
    /// When the oldest waiting message came.
    pub oldest: Option<Millis>,
    /// How many nodes take from it.
    pub consumers: u32,
    /// Whether it is paused.
    pub paused: bool,
}

/// A waiting message, seen from outside.
#[derive(Debug, Clone)]
pub struct Peeked {
    /// The message.
    pub envelope: Result<Envelope, umbel_proto::DecodeError>,
    /// When it will be delivered, if it is scheduled.
    pub due: Option<Millis>,
    /// How often it has been taken.
    pub attempts: u32,
}

/// A message that nobody will run.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its id among the dead letters.
    pub id: String,
    /// The queue it came from.
    pub queue: QueueName,
    /// Why it is here.
    pub reason: DeadReason,
    /// The reason in words.
    pub detail: String,
    /// When it came here.
    pub at: Millis,
    /// How often it was taken.
    pub attempts: u32,
    /// The message.
    pub envelope: Result<Envelope, umbel_proto::DecodeError>,
}

/// What can go wrong with a broker.
#[derive(Debug, Clone, Error)]
pub enum BrokerError {
    /// It cannot be reached or does not answer now; the same call may work later.
    #[error("the {kind} broker is not available: {reason}")]
    Unavailable {
        /// Which kind of broker.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// It refuses this very request, now and later.
    #[error("the {kind} broker refuses: {reason}")]
    Refused {
        /// Which kind of broker.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// The subscription is over.
    #[error("the subscription is closed")]
    Closed,
}

impl BrokerError {
    /// Whether the same call may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
