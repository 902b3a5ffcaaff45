//! Broadcasts, answers and events on Celery's exchanges, declared as Celery declares them (wire contract §3.1, 5.7 §3).
//!
//! **What it owns.** Nothing of its own: it sends on the broker's publishing channel. A [`Listener`] has a task, a channel and
//! an exclusive queue on the publisher's connection, which is declared again after every loss. **Who sends to it.** Remote
//! control and events. **What bounds it.** The [`Inbox`] of a listener. **When it dies.** The server deletes the queue with its
//! consumer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Channel, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Envelope, Limits, Value};

use super::{
    super::{
        BrokerError,
        fanout::{Address, Fanout, Heard, Inbox, Listen, Listener},
    },
    Shared,
    message::Arrival,
    shared::closed_for,
};
use crate::{
    amqp::{
        error::{AmqpError, PRECONDITION_FAILED, judge},
        link::{ANSWER, answer},
        table::{self, name},
    },
    redis::link::jitter,
};

/// `control_queue_expires` and `control_queue_ttl`.
const CONTROL_MILLIS: (i64, i64) = (10_000, 300_000);

/// `event_queue_expires` and `event_queue_ttl`.
const EVENT_MILLIS: (i64, i64) = (60_000, 5_000);

/// The fanout of a broker.
#[derive(Debug)]
pub(super) struct AmqpFanout(pub(super) Arc<Shared>);

/// One listener.
#[derive(Debug)]
struct AmqpListener {
    inbox: Arc<Inbox>,
    stop: Option<oneshot::Sender<oneshot::Sender<()>>>,
    _listening: AbortOnDropHandle<()>,
}

/// An exchange as Celery declares it.
struct Exchange<'a> {
    name: &'a str,
    kind: ExchangeKind,
    durable: bool,
}

impl<'a> Exchange<'a> {
    fn broadcast(name: &'a str) -> Self {
        Self { name, kind: ExchangeKind::Fanout, durable: false }
    }

    fn direct(name: &'a str) -> Self {
        Self { name, kind: ExchangeKind::Direct, durable: false }
    }

    fn topic(name: &'a str) -> Self {
        Self { name, kind: ExchangeKind::Topic, durable: true }
    }

    fn of(address: &'a Address) -> (Self, &'a str) {
        match address {
            Address::Broadcast { exchange } => (Self::broadcast(exchange), ""),
            Address::Direct { exchange, key } => (Self::direct(exchange), key),
            Address::Topic { exchange, key } => (Self::topic(exchange), key),
        }
    }

    fn heard(listen: &'a Listen) -> (Self, &'a str, (i64, i64)) {
        match listen {
            Listen::Broadcasts { exchange, .. } => (Self::broadcast(exchange), "", CONTROL_MILLIS),
            Listen::Direct { exchange, key, .. } => (Self::direct(exchange), key, CONTROL_MILLIS),
            Listen::Topics { exchange, pattern, .. } => (Self::topic(exchange), pattern, EVENT_MILLIS),
        }
    }

    /// Declares it; one that is there with other properties is used as it is.
    async fn declare(&self, shared: &Shared) -> Result<(), AmqpError> {
        let live = shared.link.live().await?;
        let epoch = live.epoch;
        if shared.declared(epoch).exchanges.contains_key(self.name) {
            return Ok(());
        }
        let channel = live.channel().await?;
        let options = ExchangeDeclareOptions { durable: self.durable, ..Default::default() };
        match channel.exchange_declare(name(self.name)?, self.kind.clone(), options, FieldTable::default()).await {
            Ok(()) => drop(answer("closing a channel", channel.close(200, "OK".into())).await),
            Err(error) if closed_for(&error, PRECONDITION_FAILED) => {}
            Err(error) => return Err(judge(&error, "declaring an exchange")),
        }
        shared.declared(epoch).exchanges.insert(self.name.to_owned(), true);
        Ok(())
    }
}

impl AmqpFanout {
    async fn send_all(&self, batch: &[(Address, Envelope)]) -> Result<Vec<Result<(), AmqpError>>, AmqpError> {
        for (address, _) in batch {
            Exchange::of(address).0.declare(&self.0).await?;
        }
        let line = self.0.line().await?;
        let sending = batch.iter().map(|(address, envelope)| {
            let channel = &line.channel;
            async move {
                let (exchange, key) = Exchange::of(address);
                let publish = channel.basic_publish(
                    name(exchange.name)?,
                    name(key)?,
                    BasicPublishOptions::default(),
                    &envelope.body,
                    properties(envelope)?,
                );
                publish.await.map_err(|error| judge(&error, "sending"))
            }
        });
        let sent = join_all(sending).await;
        let confirmed = sent.into_iter().map(|sent| async move {
            match timeout(ANSWER, sent?).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(judge(&error, "sending")),
                Err(_) => Err(AmqpError::Unavailable(format!("sending: not confirmed within {ANSWER:?}"))),
            }
        });
        let confirmed = join_all(confirmed).await;
        if confirmed.iter().all(Result::is_ok) {
            self.0.lines.keep(line);
        }
        Ok(confirmed)
    }
}

fn properties(envelope: &Envelope) -> Result<BasicProperties, AmqpError> {
    let mut properties = BasicProperties::default()
        .with_content_type(name(&envelope.content_type)?)
        .with_content_encoding(name(&envelope.content_encoding)?)
        .with_headers(table::write(&envelope.headers)?)
        .with_delivery_mode(1)
        .with_priority(0);
    if let Some(id) = envelope.properties.get("correlation_id").and_then(Value::as_str) {
        properties = properties.with_correlation_id(name(id)?);
    }
    if let Some(reply) = envelope.properties.get("reply_to").and_then(Value::as_str) {
        properties = properties.with_reply_to(name(reply)?);
    }
    Ok(properties)
}

#[async_trait]
impl Fanout for AmqpFanout {
    async fn send(&self, batch: Vec<(Address, Envelope)>) -> Vec<Result<(), BrokerError>> {
        match self.send_all(&batch).await {
            Ok(sent) => sent.into_iter().map(|sent| sent.map_err(Into::into)).collect(),
            Err(error) => batch.iter().map(|_| Err(error.clone().into())).collect(),
        }
    }

    async fn listen(&self, listen: Listen) -> Result<Box<dyn Listener>, BrokerError> {
        let inbox = Arc::new(Inbox::default());
        // The first time whoever asked waits; later losses are nobody's wait.
        let ready = begin(&self.0, &listen).await?;
        let (stop, stopped) = oneshot::channel();
        let task = crate::task::spawn(keep_listening(Arc::clone(&self.0), listen, Arc::clone(&inbox), ready, stopped));
        Ok(Box::new(AmqpListener { inbox, stop: Some(stop), _listening: AbortOnDropHandle::new(task) }))
    }
}

/// Declares, binds and consumes.
async fn begin(shared: &Shared, listen: &Listen) -> Result<(Channel, lapin::Consumer), AmqpError> {
    let (exchange, key, (expires, ttl)) = Exchange::heard(listen);
    exchange.declare(shared).await?;
    let (_, channel) = shared.link.channel().await?;
    let queue: ShortString = name(listen.queue().as_str())?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(expires));
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    answer("declaring a queue to listen", channel.queue_declare(queue.clone(), options, arguments)).await?;
    let bind = channel.queue_bind(queue.clone(), name(exchange.name)?, name(key)?, QueueBindOptions::default(), FieldTable::default());
    answer("listening", bind).await?;
    // One listener to a queue: another of the same name would get half.
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
    let consumer = answer("listening", channel.basic_consume(queue, "".into(), options, FieldTable::default())).await?;
    Ok((channel, consumer))
}

async fn keep_listening(
    shared: Arc<Shared>,
    listen: Listen,
    inbox: Arc<Inbox>,
    first: (Channel, lapin::Consumer),
    mut stopped: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let mut next = Some(first);
    loop {
        if let Some((channel, mut consumer)) = next.take() {
            loop {
                let delivered = tokio::select! {
                    delivered = consumer.next() => delivered,
                    stop = &mut stopped => {
                        if let Ok(queue) = name(listen.queue().as_str()) {
                            let _ = answer("listening no more", channel.queue_delete(queue, QueueDeleteOptions::default())).await;
                        }
                        let _ = answer("closing a channel", channel.close(200, "OK".into())).await;
                        if let Ok(done) = stop {
                            let _ = done.send(());
                        }
                        return;
                    }
                };
                let Some(Ok(delivered)) = delivered else { break };
                match Arrival::new(delivered).message.envelope(false) {
                    Ok(mut envelope) => {
                        // As kombu keeps messages, each has a name.
                        envelope.properties.insert("delivery_tag".to_owned(), uuid::Uuid::new_v4().to_string().into());
                        inbox.put(envelope.to_kombu());
                    }
                    Err(error) => tracing::debug!(%error, "a message that is no task cannot be read"),
                }
            }
        }
        tokio::select! {
            () = sleep(Duration::from_millis(200).mul_f64(0.5 + jitter())) => {}
            stop = &mut stopped => {
                if let Ok(done) = stop {
                    let _ = done.send(());
                }
                return;
            }
        }
        // A name that another connection has is freed when the server notices that it is gone.
        next = begin(&shared, &listen).await.ok();
    }
}

#[async_trait]
impl Listener for AmqpListener {
    async fn next(&mut self) -> Heard {
        match self.inbox.next().await {
            Ok(message) => Heard::Message(Envelope::from_kombu(&message, Limits::default()).map(Box::new)),
            Err(missed) => Heard::Missed(missed),
        }
    }

    async fn close(mut self: Box<Self>) -> Result<(), BrokerError> {
        let (done, finished) = oneshot::channel();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(done);
            let _ = finished.await;
        }
        Ok(())
    }
}
