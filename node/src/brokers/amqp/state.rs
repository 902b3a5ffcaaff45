//! What the whole cluster knows without a store: which queues are paused, what is revoked, which queues there are.
//!
//! **What it owns.** The stream `umbel.state` in RabbitMQ, an append-only log that everybody reads from its beginning and nobody
//! consumes, and this process's copy of what it says. **Who sends to it.** The broker. **What bounds it.** The log by age:
//! what still holds is written again long before it goes. The copy by [`Revoked::MAX`] and [`QUEUES`].
//!
//! **When it dies.** While the server is away the copy stays as it was; afterwards the log is read again from its beginning.
//! A server without streams (before 3.9) can neither pause nor revoke; it says so and does everything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use umbel_proto::{Millis, QueueName};
use umbel_scheduler::revocation::{Revocation, Revoked};

use super::declare::Scratch;
use crate::{
    amqp::{
        Link,
        error::AmqpError,
        link::{ANSWER, answer},
        table::text,
    },
    clock,
    redis::link::jitter,
};

/// The stream.
const STREAM: &str = "umbel.state";

/// How many queues are remembered.
const QUEUES: usize = 10_000;

/// How long the log goes back, and after how long what still holds is written again.
const MAX_AGE: &str = "60D";
const AGAIN_MILLIS: Millis = 20 * 24 * 60 * 60 * 1000;

const SEGMENT_BYTES: i64 = 2_000_000;

/// What is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) paused: BTreeSet<QueueName>,
    /// Queues that tasks have gone to, and when that was written last.
    pub(super) queues: BTreeMap<QueueName, Millis>,
    pauses_at: BTreeMap<QueueName, Millis>,
}

/// One line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    at: Millis,
    what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// Written by everybody who begins to read: everything before it has been read once it comes.
    Mark(String),
    Queue(String),
    Pause(String),
    Resume(String),
    Revoke(Revocation),
}

/// How far the copy is.
#[derive(Debug, Clone, PartialEq)]
enum Learned {
    Not,
    Everything,
    /// There are no streams, for this reason.
    Never(String),
}

/// A handle.
#[derive(Debug)]
pub(super) struct ClusterState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Link,
    state: watch::Sender<Arc<State>>,
    revoked: watch::Sender<Arc<Revoked>>,
    learned: watch::Sender<Learned>,
    notes: mpsc::UnboundedSender<QueueName>,
    revoke_expires: Duration,
}

impl ClusterState {
    /// Begins to follow the stream.
    pub(super) fn follow(link: Link, revoke_expires: Duration) -> Self {
        let (notes, noted) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            link,
            state: watch::Sender::default(),
            revoked: watch::Sender::default(),
            learned: watch::Sender::new(Learned::Not),
            notes,
            revoke_expires,
        });
        crate::task::spawn(follow(Arc::downgrade(&inner)));
        crate::task::spawn(write_notes(Arc::downgrade(&inner), noted));
        Self(inner)
    }

    /// Waits until everything that had been written is known.
    pub(super) async fn learned(&self) -> Result<(), AmqpError> {
        self.0.link.live().await?;
        let mut learned = self.0.learned.subscribe();
        let known = timeout(ANSWER, learned.wait_for(|learned| *learned != Learned::Not)).await;
        match known {
            Ok(Ok(_)) => Ok(()),
            _ => Err(AmqpError::Unavailable(format!("the stream {STREAM} could not be read within {ANSWER:?}"))),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.0.state.subscribe()
    }

    pub(super) fn revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.0.revoked.subscribe()
    }

    /// Remembers queues, in the background.
    pub(super) fn note(&self, queues: &[QueueName]) {
        let known = self.0.state.borrow().clone();
        for queue in queues.iter().filter(|queue| !known.queues.contains_key(*queue)) {
            let _ = self.0.notes.send(queue.clone());
        }
    }

    /// Stops or resumes a queue.
    pub(super) async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), AmqpError> {
        let name = queue.as_str().to_owned();
        self.0.append(vec![if paused { What::Pause(name) } else { What::Resume(name) }]).await
    }

    /// Gives orders not to run something. They hold here at once: what was sent right behind an order comes before the order is written
    /// down. Where that fails they hold no longer than this connection does.
    pub(super) async fn revoke(&self, orders: &[Revocation]) -> Result<(), AmqpError> {
        let at = clock::now();
        self.0.revoked.send_modify(|revoked| orders.iter().for_each(|order| Arc::make_mut(revoked).insert(order.clone(), at)));
        self.0.append(orders.iter().cloned().map(What::Revoke).collect()).await
    }
}

impl Inner {
    /// Writes lines and learns them at once.
    async fn append(&self, whats: Vec<What>) -> Result<(), AmqpError> {
        let mut learned = self.learned.subscribe();
        let known = timeout(ANSWER, learned.wait_for(|learned| *learned != Learned::Not)).await;
        match known.map(|known| known.map(|learned| learned.clone())) {
            Ok(Ok(Learned::Never(reason))) => {
                let advice = "update RabbitMQ to 3.9 or later, and enable its feature flag stream_queue";
                return Err(AmqpError::Refused(format!("there are no streams to write it down in ({reason}); {advice}")));
            }
            Ok(Ok(_)) => {}
            _ => return Err(AmqpError::Unavailable(format!("the stream {STREAM} could not be read within {ANSWER:?}"))),
        }
        let (_, channel) = self.link.channel().await?;
        answer("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let at = clock::now();
        for what in whats {
            let line = Line { at, what };
            write(&channel, &line).await?;
            self.learn(&line);
        }
        let _ = answer("closing a channel", channel.close(200, "OK".into())).await;
        Ok(())
    }

    fn learn(&self, line: &Line) {
        self.state.send_if_modified(|state| {
            let mut new = (**state).clone();
            new.learn(line);
            let changed = new != **state;
            if changed {
                *state = Arc::new(new);
            }
            changed
        });
        if let What::Revoke(order) = &line.what {
            self.revoked.send_modify(|revoked| Arc::make_mut(revoked).insert(order.clone(), line.at));
        }
    }
}

impl State {
    fn learn(&mut self, line: &Line) {
        match &line.what {
            What::Queue(name) if self.queues.len() < QUEUES => {
                self.queues.insert(QueueName::from(name.as_str()), line.at);
            }
            What::Pause(name) => {
                self.paused.insert(QueueName::from(name.as_str()));
                self.pauses_at.insert(QueueName::from(name.as_str()), line.at);
            }
            What::Resume(name) => {
                self.paused.remove(&QueueName::from(name.as_str()));
                self.pauses_at.remove(&QueueName::from(name.as_str()));
            }
            What::Queue(_) | What::Mark(_) | What::Revoke(_) => {}
        }
    }

    /// What still holds and was written long ago.
    fn old(&self, now: Millis) -> Vec<What> {
        let old = |(name, at): (&QueueName, &Millis)| (now - at > AGAIN_MILLIS).then(|| name.as_str().to_owned());
        self.pauses_at.iter().filter_map(old).map(What::Pause).chain(self.queues.iter().filter_map(old).map(What::Queue)).collect()
    }
}

async fn write(channel: &Channel, line: &Line) -> Result<(), AmqpError> {
    let body = serde_json::to_vec(line).map_err(|error| AmqpError::Refused(error.to_string()))?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    let confirm =
        answer("writing the cluster's state", channel.basic_publish("".into(), STREAM.into(), options, &body, properties)).await?;
    let confirmed = answer("writing the cluster's state", confirm).await?;
    match confirmed.is_ack() && confirmed.take_message().is_none() {
        true => Ok(()),
        false => Err(AmqpError::Unavailable(format!("the stream {STREAM} took no line"))),
    }
}

/// Writes down queues that were noted.
async fn write_notes(inner: Weak<Inner>, mut noted: mpsc::UnboundedReceiver<QueueName>) {
    while let Some(queue) = noted.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        let known = inner.state.borrow().queues.contains_key(&queue);
        if !known && let Err(error) = inner.append(vec![What::Queue(queue.as_str().to_owned())]).await {
            tracing::debug!(%error, %queue, "a queue could not be noted");
        }
    }
}

/// Reads the stream, again and again from its beginning, while anybody has a handle.
async fn follow(inner: Weak<Inner>) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let mut lives = strong.link.lives();
        let live = strong.link.live().await;
        drop(strong);
        if let Ok(live) = live {
            let epoch = live.epoch;
            match read(&inner, live).await {
                Ok(()) => return,
                Err(AmqpError::Refused(reason)) => {
                    tracing::warn!(%reason, "there are no streams; queues cannot be paused and tasks cannot be revoked");
                    let Some(strong) = inner.upgrade() else { return };
                    strong.learned.send_replace(Learned::Never(reason));
                    drop(strong);
                    // A later connection may be to an updated server.
                    let _ = lives.wait_for(|live| live.as_ref().is_some_and(|live| live.epoch != epoch)).await;
                }
                Err(AmqpError::Unavailable(_)) => {}
            }
        }
        sleep(Duration::from_millis(100).mul_f64(0.5 + jitter())).await;
    }
}

/// Reads until the connection is lost; `Ok` when nobody has a handle any more.
async fn read(inner: &Weak<Inner>, live: crate::amqp::link::Live) -> Result<(), AmqpError> {
    let mut scratch = Scratch::new(live);
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("stream"));
    arguments.insert("x-max-age".into(), text(MAX_AGE));
    arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(SEGMENT_BYTES));
    scratch.queue(STREAM, arguments).await?;
    let channel = scratch.channel().await?;
    answer("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    answer("making room", channel.basic_qos(500, BasicQosOptions::default())).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), text("first"));
    let consume = channel.basic_consume(STREAM.into(), "".into(), BasicConsumeOptions::default(), arguments);
    let mut consumer = answer("reading the cluster's state", consume).await?;
    let mark = uuid::Uuid::new_v4().to_string();
    write(&channel, &Line { at: clock::now(), what: What::Mark(mark.clone()) }).await?;
    // What is known stays until all of the log has been read.
    let mut anew = Some((State::default(), Revoked::default()));
    loop {
        let next = tokio::select! {
            next = consumer.next() => next,
            () = sleep(Duration::from_secs(1)) => match inner.strong_count() {
                0 => return Ok(()),
                _ => continue,
            },
        };
        let delivered = match next {
            Some(Ok(delivered)) => delivered,
            Some(Err(error)) => return Err(AmqpError::Unavailable(error.to_string())),
            None => return Err(AmqpError::Unavailable("the stream has ended".to_owned())),
        };
        answer("reading the cluster's state", channel.basic_ack(delivered.delivery_tag, BasicAckOptions::default())).await?;
        // A line of a later version says nothing to this one.
        let Ok(line) = serde_json::from_slice::<Line>(&delivered.data) else { continue };
        let Some(inner) = inner.upgrade() else { return Ok(()) };
        let Some((state, revoked)) = &mut anew else {
            inner.learn(&line);
            continue;
        };
        state.learn(&line);
        if let What::Revoke(order) = &line.what {
            revoked.insert(order.clone(), line.at);
        }
        if matches!(&line.what, What::Mark(this) if *this == mark) {
            let expires = i64::try_from(inner.revoke_expires.as_millis()).unwrap_or(i64::MAX);
            revoked.expire(clock::now().saturating_sub(expires));
            let old = state.old(clock::now());
            let (state, revoked) = anew.take().unwrap_or_default();
            inner.state.send_replace(Arc::new(state));
            inner.revoked.send_replace(Arc::new(revoked));
            inner.learned.send_replace(Learned::Everything);
            if !old.is_empty() {
                crate::task::spawn(async move { inner.append(old).await });
            }
        }
    }
}
