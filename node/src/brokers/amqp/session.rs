//! A node's session: a connection of its own, on which everything the node takes is held.
//!
//! Who takes from here holds nothing by a clock: RabbitMQ gives a message to somebody else when this connection or its channel
//! ends, and not before. That is the fence. Each taking has a name of its own, made of the session and a number, so an
//! ending in the name of an earlier session or an earlier taking finds nothing to end; and settling is a transaction
//! (`keeper.rs`), so an answer that says "done" has been given by the server that still knew the delivery.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use umbel_proto::{NodeId, QueueName};
use umbel_scheduler::Release;

use super::{
    super::{About, Held, Returns},
    Shared,
    hand::Hand,
    keeper,
    message::Post,
};
use crate::amqp::error::AmqpError;

static SUBSCRIPTIONS: AtomicU64 = AtomicU64::new(1);

/// What the keeper is asked to do.
pub(super) enum Order {
    /// Settle deliveries; an answer for each.
    Release(Vec<Settle>, oneshot::Sender<Result<Vec<bool>, AmqpError>>),
    /// Make room for up to `max` messages of these queues. The answer comes when what was there already has come.
    Widen { queues: Vec<QueueName>, max: u32, done: oneshot::Sender<()> },
    /// A subscription is gone; the queues that nobody wants any more.
    Left { unwanted: Vec<QueueName> },
    /// A subscription says goodbye: what it holds goes back.
    Goodbye { subscription: u64, unwanted: Vec<QueueName>, last: bool, done: oneshot::Sender<()> },
}

/// How a delivery is settled.
#[derive(Debug)]
pub(super) struct Settle {
    pub(super) held: Held,
    pub(super) release: Release,
    /// What goes out in the same transaction as an acknowledgement.
    pub(super) post: Option<Post>,
}

/// A handle of a session. The keeper lives on for one lease after the last subscription has gone.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) node: NodeId,
    /// Its name among all sessions.
    pub(super) id: String,
    pub(super) hand: Arc<Hand>,
    pub(super) lease: Duration,
    pub(super) about: About,
    orders: mpsc::UnboundedSender<Order>,
    returns: Returns,
    members: Mutex<Members>,
}

/// Who uses it.
#[derive(Debug, Default)]
struct Members {
    closed: bool,
    subscriptions: Vec<(u64, Vec<QueueName>)>,
}

impl Session {
    /// Connects, and starts the keeper.
    pub(super) async fn begin(shared: &Arc<Shared>, node: NodeId, lease: Duration, about: About) -> Result<Arc<Self>, AmqpError> {
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (returns, given_back) = Returns::new();
        let hand = Arc::new(Hand::new(id.clone()));
        let session = Arc::new(Self { node, id, hand, lease, about, orders, returns, members: Mutex::default() });
        keeper::start(shared, &session, inbox, given_back).await?;
        Ok(session)
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a subscription to these queues, if the session still goes on; its number.
    pub(super) fn enter(&self, queues: &[QueueName]) -> Option<u64> {
        let mut members = self.members();
        if members.closed || self.hand.is_dead() {
            return None;
        }
        let number = SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed);
        members.subscriptions.push((number, queues.to_vec()));
        Some(number)
    }

    /// Takes a subscription out: what nobody wants any more, and whether it was the last.
    fn take_out(&self, subscription: u64) -> Option<(Vec<QueueName>, bool)> {
        let mut members = self.members();
        let at = members.subscriptions.iter().position(|(number, _)| *number == subscription)?;
        let (_, queues) = members.subscriptions.remove(at);
        let wanted = |queue: &QueueName| members.subscriptions.iter().any(|(_, queues)| queues.contains(queue));
        let unwanted = queues.into_iter().filter(|queue| !wanted(queue)).collect();
        Some((unwanted, members.subscriptions.is_empty()))
    }

    /// A subscription is dropped.
    pub(super) fn leave(&self, subscription: u64) {
        if let Some((unwanted, _)) = self.take_out(subscription) {
            let _ = self.orders.send(Order::Left { unwanted });
        }
    }

    /// A subscription says goodbye.
    pub(super) async fn goodbye(&self, subscription: u64) {
        let Some((unwanted, last)) = self.take_out(subscription) else { return };
        if last {
            self.members().closed = true;
        }
        let (done, finished) = oneshot::channel();
        let _ = self.orders.send(Order::Goodbye { subscription, unwanted, last, done });
        let _ = finished.await;
    }

    /// Ends it if nobody uses it; whether it has.
    pub(super) fn close_unused(&self) -> bool {
        let mut members = self.members();
        members.closed |= members.subscriptions.is_empty();
        members.closed
    }

    /// Whether anybody uses it.
    pub(super) fn is_used(&self) -> bool {
        !self.members().subscriptions.is_empty()
    }

    /// The queues it takes from.
    pub(super) fn queues(&self) -> Vec<QueueName> {
        let members = self.members();
        let mut queues: Vec<_> = members.subscriptions.iter().flat_map(|(_, queues)| queues.iter().cloned()).collect();
        queues.sort();
        queues.dedup();
        queues
    }

    pub(super) fn returns(&self) -> Returns {
        self.returns.clone()
    }

    /// How many consumers of a queue it has on the server.
    pub(super) fn consumers(&self, queue: &QueueName) -> u32 {
        self.hand.lock().consumers.get(queue).copied().unwrap_or(0)
    }

    /// Asks for room.
    pub(super) fn widen(&self, queues: Vec<QueueName>, max: u32) -> oneshot::Receiver<()> {
        let (done, finished) = oneshot::channel();
        let _ = self.orders.send(Order::Widen { queues, max, done });
        finished
    }

    /// Settles.
    pub(super) async fn release(&self, batch: Vec<Settle>) -> Result<Vec<bool>, AmqpError> {
        let count = batch.len();
        let (answer, answered) = oneshot::channel();
        if self.orders.send(Order::Release(batch, answer)).is_err() {
            // The session has ended, and everything it held is somebody else's.
            return Ok(vec![false; count]);
        }
        answered.await.unwrap_or_else(|_| Err(AmqpError::Unavailable("the session ended before it had answered".to_owned())))
    }
}
