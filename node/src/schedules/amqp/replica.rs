//! This process's copy of what the log of schedules says, and writing to it.
//!
//! **What it owns.** The stream `umbel.beat`, which everybody reads and nobody consumes, and the task that follows it. **Who sends to
//! it.** [`super::AmqpSchedules`] and the leader's [`super::reign::Reign`]. What a line has come to is known when it has come back
//! from the log, so that everybody agrees on the order. **What bounds it.** The log by bytes, of which digests are a small part; the
//! copy by the number of entries. **When it dies.** The copy stays while the server is away; then the log is read again. Whoever
//! waits for a line is told that its fate is not known.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::log::{Effect, Line, Pages, Reading, What};
use crate::{
    amqp::{
        error::AmqpError,
        link::{ANSWER, Live, answer},
        table::text,
    },
    brokers::amqp::{Scratch, Shared},
    clock,
    redis::link::jitter,
};

/// The stream.
const STREAM: &str = "umbel.beat";

/// How much of it is kept: many digests of as many entries as there may be.
const MAX_BYTES: i64 = 512_000_000;
const SEGMENT_BYTES: i64 = 16_000_000;

/// How long the last line of a log may be in coming. When it has not come by then, the log is read from its beginning.
const LAST: Duration = Duration::from_millis(500);

/// How far the copy is.
#[derive(Debug, Clone, PartialEq)]
enum Learned {
    Not,
    Everything,
    /// There are no streams, for this reason.
    Never(String),
}

/// The copy.
pub(super) struct Replica {
    pub(super) shared: Arc<Shared>,
    pages: Mutex<Pages>,
    learned: watch::Sender<Learned>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<(u64, Effect)>>>,
}

impl Replica {
    /// Begins to follow the log.
    pub(super) fn follow(shared: Arc<Shared>) -> Arc<Self> {
        let copy = Arc::new(Self { shared, pages: Mutex::default(), learned: watch::Sender::new(Learned::Not), waiting: Mutex::default() });
        crate::task::spawn(follow(Arc::downgrade(&copy)));
        copy
    }

    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<(u64, Effect)>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything that had been written is known.
    pub(super) async fn learned(&self) -> Result<(), AmqpError> {
        self.shared.link.live().await?;
        let mut learned = self.learned.subscribe();
        let known = timeout(ANSWER, learned.wait_for(|learned| *learned != Learned::Not)).await;
        match known.map(|known| known.map(|learned| learned.clone())) {
            Ok(Ok(Learned::Never(reason))) => {
                let advice = "update RabbitMQ to 3.9 or later, and enable its feature flag stream_queue";
                Err(AmqpError::Refused(format!("there are no streams to keep schedules in ({reason}); {advice}")))
            }
            Ok(Ok(_)) => Ok(()),
            _ => Err(AmqpError::Unavailable(format!("the stream {STREAM} could not be read within {ANSWER:?}"))),
        }
    }

    /// A line of its own name, and where it is told what that has come to.
    pub(super) fn line(&self, what: What) -> (Line, Coming<'_>) {
        let id = uuid::Uuid::new_v4().as_u64_pair().0;
        let (told, come) = oneshot::channel();
        self.waiting().insert(id, told);
        (Line { id, at: clock::now(), base: self.pages().base, what }, Coming { replica: self, id, come })
    }

    /// Writes lines, and waits until they have come back: what each has come to.
    pub(super) async fn append(&self, whats: Vec<What>) -> Result<Vec<Effect>, AmqpError> {
        self.learned().await?;
        let (_, channel) = self.shared.link.channel().await?;
        answer("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut effects = Vec::with_capacity(whats.len());
        for what in whats {
            let (line, coming) = self.line(what);
            let confirm = write(&channel, &line).await?;
            let confirmed = answer("writing a schedule", confirm).await?;
            if !confirmed.is_ack() || confirmed.take_message().is_some() {
                return Err(AmqpError::Unavailable(format!("the stream {STREAM} took no line")));
            }
            effects.push(coming.back().await?.1);
        }
        let _ = answer("closing a channel", channel.close(200, "OK".into())).await;
        Ok(effects)
    }

    fn learn(&self, offset: u64, line: &Line, bytes: u64) {
        let effect = self.pages().learn(offset, line, bytes);
        if let Some(waiting) = self.waiting().remove(&line.id) {
            // Whoever does not wait any more does not want to know.
            let _ = waiting.send((offset, effect));
        }
    }
}

/// A line that has not come back.
pub(super) struct Coming<'a> {
    replica: &'a Replica,
    id: u64,
    come: oneshot::Receiver<(u64, Effect)>,
}

impl Coming<'_> {
    /// Waits for it: its place, and what it has come to.
    pub(super) async fn back(mut self) -> Result<(u64, Effect), AmqpError> {
        match timeout(ANSWER, &mut self.come).await {
            Ok(Ok(told)) => Ok(told),
            _ => Err(AmqpError::Unavailable(format!("a line of the stream {STREAM} did not come back; what became of it shows later"))),
        }
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.replica.waiting().remove(&self.id);
    }
}

/// Hands a line to a channel.
pub(super) async fn write(channel: &Channel, line: &Line) -> Result<lapin::PublisherConfirm, AmqpError> {
    let body = serde_json::to_vec(line).map_err(|error| AmqpError::Refused(format!("a schedule cannot be written: {error}")))?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    answer("writing a schedule", channel.basic_publish("".into(), STREAM.into(), options, &body, properties)).await
}

/// Reads the log, again and again, while anybody has the copy.
async fn follow(copy: Weak<Replica>) {
    loop {
        let Some(strong) = copy.upgrade() else { return };
        let mut lives = strong.shared.link.lives();
        let live = strong.shared.link.live().await;
        drop(strong);
        if let Ok(live) = live {
            let epoch = live.epoch;
            let read = read(&copy, live).await;
            let Some(strong) = copy.upgrade() else { return };
            strong.waiting().clear();
            match read {
                Ok(()) => return,
                Err(AmqpError::Refused(reason)) => {
                    tracing::warn!(%reason, "there are no streams; RabbitMQ keeps no schedules");
                    strong.learned.send_replace(Learned::Never(reason));
                    drop(strong);
                    // A later connection may be to an updated server.
                    let _ = lives.wait_for(|live| live.as_ref().is_some_and(|live| live.epoch != epoch)).await;
                }
                Err(AmqpError::Unavailable(reason)) => {
                    tracing::debug!(%reason, "the log of schedules is read again");
                    strong.learned.send_replace(Learned::Not);
                }
            }
        }
        sleep(Duration::from_millis(100).mul_f64(0.5 + jitter())).await;
    }
}

/// Reads until the connection is lost; `Ok` when nobody has the copy any more.
async fn read(copy: &Weak<Replica>, live: Live) -> Result<(), AmqpError> {
    let mut scratch = Scratch::new(live.clone());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("stream"));
    arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(MAX_BYTES));
    arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(SEGMENT_BYTES));
    scratch.queue(STREAM, arguments).await?;
    scratch.close().await;
    let base = last(live.channel().await?).await?;
    let channel = live.channel().await?;
    answer("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let place = i64::try_from(base).unwrap_or(i64::MAX);
    let mut lines = consume(&channel, if base == 0 { text("first") } else { AMQPValue::LongLongInt(place) }).await?;
    let id = uuid::Uuid::new_v4().as_u64_pair().0;
    let confirm = write(&channel, &Line { id, at: clock::now(), base, what: What::Sync }).await?;
    answer("writing a schedule", confirm).await?;
    let mut reading = Some(Reading::default());
    loop {
        let next = tokio::select! {
            next = lines.next() => next,
            () = sleep(Duration::from_secs(1)) => match copy.strong_count() {
                0 => return Ok(()),
                _ => continue,
            },
        };
        let delivery = next.transpose().map_err(|error| AmqpError::Unavailable(error.to_string()))?;
        let delivery = delivery.ok_or_else(|| AmqpError::Unavailable(format!("the stream {STREAM} has ended")))?;
        answer("reading schedules", channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default())).await?;
        // A line of a later version says nothing to this one.
        let (Some(offset), Ok(line)) = (offset(&delivery), serde_json::from_slice::<Line>(&delivery.data)) else { continue };
        let bytes = delivery.data.len() as u64;
        let Some(copy) = copy.upgrade() else { return Ok(()) };
        let Some(begun) = &mut reading else {
            copy.learn(offset, &line, bytes);
            continue;
        };
        let is_end = line.id == id;
        begun.read(offset, line, bytes);
        if is_end && let Some(reading) = reading.take() {
            *copy.pages() = reading.done();
            copy.learned.send_replace(Learned::Everything);
        }
    }
}

/// From which line the last line says that the log is to be read.
async fn last(channel: Channel) -> Result<u64, AmqpError> {
    let mut lines = consume(&channel, text("last")).await?;
    let line = match timeout(LAST, lines.next()).await {
        Ok(Some(Ok(delivery))) => serde_json::from_slice::<Line>(&delivery.data).ok(),
        Ok(Some(Err(error))) => return Err(AmqpError::Unavailable(error.to_string())),
        // The log is empty, or slow.
        Ok(None) | Err(_) => None,
    };
    let _ = answer("closing a channel", channel.close(200, "OK".into())).await;
    Ok(line.map_or(0, |line| line.base))
}

async fn consume(channel: &Channel, from: AMQPValue) -> Result<Consumer, AmqpError> {
    answer("making room", channel.basic_qos(500, BasicQosOptions::default())).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), from);
    answer("reading schedules", channel.basic_consume(STREAM.into(), "".into(), BasicConsumeOptions::default(), arguments)).await
}

/// The place of a line.
fn offset(delivery: &Delivery) -> Option<u64> {
    match delivery.properties.headers().as_ref()?.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}
