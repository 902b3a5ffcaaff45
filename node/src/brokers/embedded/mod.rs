//! The embedded broker: queues in the [`Store`] of this process.
//!
//! **What it owns.** Nothing but a reference to the store and the list of revocations in memory. **Who sends to it.** The
//! consumer, the client, the commands. **What it sends on.** Changes to the store's writer.
//!
//! **What bounds it.** The store's inbox: who publishes faster than the disk takes waits for room.
//!
//! **When it dies.** It cannot: an error of the disk is an answer ([`BrokerError::Unavailable`]), and the store opens its file
//! again by itself. Everything held by a process that died is back in its queues when the file is opened next.
//!
//! A message goes to the queue named by its routing key when it is sent to the default exchange (as AMQP has it), and to
//! [`Route::queue`] when it is sent to a named one: this broker has no exchanges, the sender has resolved them.
//!
//! A scheduled message keeps the place in its queue that it had when it was published: once it is due, it goes before whatever
//! was published after it, however long the queue is. So does a retried one.
//!
//! [`Route::queue`]: umbel_scheduler::Route::queue

mod fanout;
mod subscription;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use umbel_proto::{DeliveryTag, Millis, QueueName, TaskName};
use umbel_scheduler::{
    Publish, Release,
    revocation::{Revocation, Revoked},
    tuning::{Tuning, Tunings},
};

use self::{fanout::EmbeddedFanout, subscription::EmbeddedSubscription};
use super::{Broker, BrokerError, DeadLetter, Fanout, Held, LiveNode, Peeked, QueueStatus, Subscribe, Subscription};
use crate::{
    embedded::{self, KIND, NewMessage, Seq, Store, StoreError, encode_envelope},
    limits::{Limits, LocalLimits},
    schedules::{Schedules, embedded::EmbeddedSchedules},
};

/// Queues in a file.
#[derive(Debug)]
pub struct EmbeddedBroker {
    store: Arc<Store>,
    revoked: watch::Sender<Arc<Revoked>>,
    tunings: watch::Sender<Arc<Tunings>>,
    fanout: Arc<EmbeddedFanout>,
    limits: Arc<LocalLimits>,
}

impl EmbeddedBroker {
    /// The broker of `store`.
    ///
    /// # Errors
    /// When the revocations cannot be read.
    pub fn new(store: Arc<Store>) -> Result<Self, BrokerError> {
        let forget_before = forget_before(&store);
        let revoked = store.read_here(|txn| embedded::read_revoked(txn, forget_before)).map_err(StoreError::broker)?;
        let tunings = store.read_here(embedded::read_tunings).map_err(StoreError::broker)?;
        Ok(Self {
            store,
            revoked: watch::Sender::new(Arc::new(revoked)),
            tunings: watch::Sender::new(Arc::new(tunings)),
            fanout: Arc::default(),
            limits: Arc::new(LocalLimits::alone()),
        })
    }

    /// Settles deliveries, each with what is sent in its place, in one step; which were held.
    async fn settle(&self, batch: Vec<(Held, Release, Option<NewMessage>)>) -> Result<Vec<bool>, BrokerError> {
        let bytes = batch.iter().filter_map(|(_, _, message)| message.as_ref()).map(|message| message.message.len()).sum();
        let settled = self.store.write(bytes, move |tx| {
            let mut answers = Vec::with_capacity(batch.len());
            for (held, release, instead) in &batch {
                let held = seq(&held.tag).map(|seq| tx.release(seq, held.attempt, release)).transpose()?.unwrap_or(false);
                if let Some(message) = instead.as_ref().filter(|_| held) {
                    tx.publish(message)?;
                }
                answers.push(held);
            }
            Ok(answers)
        });
        settled.await.map_err(StoreError::broker)
    }
}

/// Encodes a message; on the caller's thread, for the writer has better things to do.
pub(crate) fn encode(publish: &Publish) -> Result<NewMessage, StoreError> {
    let Publish { invocation, route, due } = publish;
    let envelope = invocation.encode(invocation.headers.id.as_str(), None)?;
    let message = encode_envelope(&envelope)?;
    let queue = if route.exchange.is_empty() { QueueName::from(&route.routing_key) } else { route.queue.clone() };
    Ok(NewMessage { queue, priority: invocation.properties.priority.unwrap_or(0), due: *due, message })
}

/// The number of the message behind a tag; a tag that is none was not given by this broker, so nothing is held under it.
pub(crate) fn seq(tag: &DeliveryTag) -> Option<Seq> {
    tag.as_str().parse().ok()
}

fn forget_before(store: &Store) -> Millis {
    let expires = Millis::try_from(store.options().revoke_expires.as_millis()).unwrap_or(Millis::MAX);
    store.now().saturating_sub(expires)
}

#[async_trait]
impl Broker for EmbeddedBroker {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn publish(&self, batch: Vec<Publish>) -> Vec<Result<(), BrokerError>> {
        let mut answers = Vec::with_capacity(batch.len());
        let (mut messages, mut bytes) = (Vec::with_capacity(batch.len()), 0);
        for publish in &batch {
            match encode(publish) {
                Ok(message) => {
                    bytes += message.message.len();
                    messages.push(message);
                    answers.push(Ok(()));
                }
                Err(error) => answers.push(Err(error.broker())),
            }
        }
        let written = self.store.write(bytes, move |tx| messages.iter().try_for_each(|message| tx.publish(message))).await;
        if let Err(error) = written {
            let error = error.broker();
            answers.iter_mut().filter(|answer| answer.is_ok()).for_each(|answer| *answer = Err(error.clone()));
        }
        answers
    }

    async fn publish_whole(&self, batch: Vec<Publish>) -> Result<(), BrokerError> {
        let messages = batch.iter().map(encode).collect::<Result<Vec<_>, _>>().map_err(|error| error.broker())?;
        let bytes = messages.iter().map(|message| message.message.len()).sum();
        let written = self.store.write(bytes, move |tx| messages.iter().try_for_each(|message| tx.publish(message))).await;
        written.map_err(|error| error.broker())
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Box<dyn Subscription>, BrokerError> {
        if request.queues.is_empty() {
            return Err(BrokerError::Refused { kind: KIND, reason: "a subscription needs at least one queue".to_owned() });
        }
        Ok(Box::new(EmbeddedSubscription::open(Arc::clone(&self.store), request).await?))
    }

    async fn release(&self, batch: Vec<(Held, Release)>) -> Vec<Result<bool, BrokerError>> {
        let count = batch.len();
        match self.settle(batch.into_iter().map(|(held, release)| (held, release, None)).collect()).await {
            Ok(done) => done.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn send_on(&self, batch: Vec<(Held, Publish)>) -> Vec<Result<bool, BrokerError>> {
        let mut moves = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for (held, publish) in batch {
            answers.push(encode(&publish).map(|message| moves.push((held, Release::Ack, Some(message)))).map_err(StoreError::broker));
        }
        let settled = self.settle(moves).await;
        let mut done = settled.iter().flatten();
        let each = answers.into_iter().map(|encoded| {
            encoded?;
            settled.as_ref().map(|_| done.next() == Some(&true)).map_err(Clone::clone)
        });
        each.collect()
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, BrokerError> {
        let mut statuses = self.store.memory(|state| embedded::statuses(state)).await.map_err(StoreError::broker)?;
        let read = self.store.read(move |txn| {
            for (id, status) in statuses.iter_mut().filter(|(_, status)| status.ready > 0) {
                status.oldest = embedded::oldest(txn, *id)?;
            }
            Ok(statuses.into_iter().map(|(_, status)| status).collect())
        });
        read.await.map_err(StoreError::broker)
    }

    async fn nodes(&self) -> Result<Option<Vec<LiveNode>>, BrokerError> {
        let nodes = self.store.memory(|state| embedded::nodes(state)).await.map_err(StoreError::broker)?;
        Ok(Some(nodes))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let mut purged = 0;
        loop {
            let queue = queue.clone();
            match self.store.write(0, move |tx| tx.purge(&queue)).await.map_err(StoreError::broker)? {
                0 => return Ok(purged),
                count => purged += count,
            }
        }
    }

    async fn peek(&self, queue: &QueueName, limit: usize) -> Result<Vec<Peeked>, BrokerError> {
        let queue = queue.clone();
        self.store.read(move |txn| embedded::peek(txn, &queue, limit)).await.map_err(StoreError::broker)
    }

    async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), BrokerError> {
        let queue = queue.clone();
        let written = self.store.write(0, move |tx| {
            let id = tx.state.queue_id(&queue);
            tx.state.queue(id).paused = paused;
            Ok(())
        });
        written.await.map_err(StoreError::broker)
    }

    async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        self.store.read(move |txn| embedded::dead(txn, limit)).await.map_err(StoreError::broker)
    }

    async fn dead_retry(&self, id: &str) -> Result<bool, BrokerError> {
        let Ok(letter) = id.parse() else { return Ok(false) };
        self.store.write(0, move |tx| tx.dead_retry(letter)).await.map_err(StoreError::broker)
    }

    async fn dead_drop(&self, id: &str) -> Result<bool, BrokerError> {
        let Ok(letter) = id.parse() else { return Ok(false) };
        self.store.write(0, move |tx| tx.dead_drop(letter)).await.map_err(StoreError::broker)
    }

    async fn revoke(&self, orders: &[Revocation]) -> Result<(), BrokerError> {
        let (written, before) = (orders.to_vec(), forget_before(&self.store));
        self.store.write(0, move |tx| tx.revoke(&written, before)).await.map_err(StoreError::broker)?;
        let now = self.store.now();
        self.revoked.send_modify(|revoked| {
            let revoked = Arc::make_mut(revoked);
            orders.iter().for_each(|order| revoked.insert(order.clone(), now));
            revoked.expire(before);
        });
        Ok(())
    }

    fn limits(&self) -> Option<Arc<dyn Limits>> {
        Some(self.limits.clone())
    }

    fn revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.revoked.subscribe()
    }

    async fn tune(&self, task: &TaskName, tuning: &Tuning) -> Result<bool, BrokerError> {
        let (named, change) = (task.clone(), tuning.clone());
        self.store.write(0, move |tx| tx.tune(&named, &change)).await.map_err(StoreError::broker)?;
        self.tunings.send_modify(|tunings| {
            let before = tunings.get(task).cloned().unwrap_or_default();
            Arc::make_mut(tunings).set(task.clone(), tuning.clone().over(before));
        });
        Ok(true)
    }

    fn tunings(&self) -> Option<watch::Receiver<Arc<Tunings>>> {
        Some(self.tunings.subscribe())
    }

    fn fanout(&self) -> Option<Arc<dyn Fanout>> {
        Some(self.fanout.clone())
    }

    fn schedules(&self) -> Option<Arc<dyn Schedules>> {
        Some(Arc::new(EmbeddedSchedules::new(Arc::clone(&self.store))))
    }
}
