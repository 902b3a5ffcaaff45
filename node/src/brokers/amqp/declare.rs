//! Making queues and exchanges known, as Celery declares them, and never so that somebody gets a 406.
//!
//! RabbitMQ refuses a declaration that differs in anything from what is there. So what is not there is declared as Celery would
//! (wire contract §3.1), that Celery's own declaration fits later; and what is there is taken as it is, whatever its arguments.

use std::sync::PoisonError;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use umbel_proto::QueueName;

use super::{Shared, delay, keeper::front, letters, shared::closed_for};
use crate::amqp::{
    QueueType,
    error::{AmqpError, NOT_FOUND, PRECONDITION_FAILED, judge},
    link::{Live, answer},
    table::{name, text},
};

/// How long something stays in a front queue that no node takes from, before it moves on to the task queue.
const FRONT_MILLIS: i64 = 60_000;

/// A channel that is made anew whenever the server has closed it for something that is not there.
pub(crate) struct Scratch {
    live: Live,
    channel: Option<Channel>,
}

impl Scratch {
    pub(crate) fn new(live: Live) -> Self {
        Self { live, channel: None }
    }

    /// Which connection it is of.
    pub(crate) fn epoch(&self) -> u64 {
        self.live.epoch
    }

    pub(super) async fn channel(&mut self) -> Result<Channel, AmqpError> {
        match &self.channel {
            Some(channel) if channel.status().connected() => Ok(channel.clone()),
            _ => Ok(self.channel.insert(self.live.channel().await?).clone()),
        }
    }

    /// How many messages and consumers a queue has; `None` when there is no such queue.
    pub(crate) async fn look(&mut self, queue: &str) -> Result<Option<(u32, u32)>, AmqpError> {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let channel = self.channel().await?;
        match channel.queue_declare(name(queue)?, passive, FieldTable::default()).await {
            Ok(queue) => Ok(Some((queue.message_count(), queue.consumer_count()))),
            Err(error) if closed_for(&error, NOT_FOUND) => Ok(None),
            Err(error) => Err(judge(&error, "looking at a queue")),
        }
    }

    /// Closes the channel; what was taken with it goes back.
    pub(crate) async fn close(self) {
        if let Some(channel) = self.channel {
            let _ = answer("closing a channel", channel.close(200, "OK".into())).await;
        }
    }

    async fn exchange(&mut self, exchange: &str) -> Result<bool, AmqpError> {
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let channel = self.channel().await?;
        match channel.exchange_declare(name(exchange)?, ExchangeKind::Direct, passive, FieldTable::default()).await {
            Ok(()) => Ok(true),
            Err(error) if closed_for(&error, NOT_FOUND) => Ok(false),
            Err(error) => Err(judge(&error, "looking at an exchange")),
        }
    }

    /// Declares a queue unless there is one of that name, whatever its arguments.
    pub(crate) async fn queue(&mut self, queue: &str, arguments: FieldTable) -> Result<(), AmqpError> {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let channel = self.channel().await?;
        match channel.queue_declare(name(queue)?, durable, arguments).await {
            Ok(_) => Ok(()),
            Err(error) if closed_for(&error, PRECONDITION_FAILED) && self.look(queue).await?.is_some() => Ok(()),
            Err(error) => Err(judge(&error, "declaring a queue")),
        }
    }
}

impl Shared {
    /// Declares queues of tasks, their front queues, and the dead letters: what a node needs to take from them.
    pub(super) async fn declare(&self, queues: &[QueueName]) -> Result<(), AmqpError> {
        self.declare_queues(queues.iter()).await?;
        let live = self.link.live().await?;
        let new: Vec<QueueName> = {
            let declared = self.declared(live.epoch);
            queues.iter().filter(|queue| !declared.fronts.contains(*queue)).cloned().collect()
        };
        let mut scratch = Scratch::new(live.clone());
        for queue in &new {
            scratch.queue(&front(queue), front_arguments(self.options.queue_type, queue.as_str())).await?;
        }
        self.declare_letters(&mut scratch).await?;
        scratch.close().await;
        self.declared(live.epoch).fronts.extend(new);
        Ok(())
    }

    /// Does not take it for granted any more that these queues are there.
    pub(super) fn undeclare(&self, queues: &[QueueName]) {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues {
            declared.queues.remove(queue);
            declared.fronts.remove(queue);
            declared.delayed.remove(queue);
        }
        // Whoever has deleted one may have deleted others.
        declared.ladder = false;
    }

    /// Declares queues of tasks: each bound to a direct exchange of its own name, as Celery does.
    pub(super) async fn declare_queues<'a>(&self, queues: impl Iterator<Item = &'a QueueName>) -> Result<(), AmqpError> {
        let live = self.link.live().await?;
        let new: Vec<QueueName> = {
            let declared = self.declared(live.epoch);
            let mut new: Vec<_> = queues.filter(|queue| !declared.queues.contains(*queue)).cloned().collect();
            new.sort();
            new.dedup();
            new
        };
        if new.is_empty() {
            return Ok(());
        }
        let mut scratch = Scratch::new(live.clone());
        for queue in &new {
            let mut arguments = self.typed();
            // Quorum queues have no priorities before RabbitMQ 4, and refuse to be asked for them.
            if let (Some(max), QueueType::Classic) = (self.options.max_priority, self.options.queue_type) {
                arguments.insert("x-max-priority".into(), AMQPValue::LongInt(i32::from(max)));
            }
            scratch.queue(queue.as_str(), arguments).await?;
            self.bind(&mut scratch, queue).await?;
            self.bind_delayed(&mut scratch, queue).await?;
        }
        scratch.close().await;
        self.state.note(&new);
        self.declared(live.epoch).queues.extend(new);
        Ok(())
    }

    /// Binds a queue to the exchange of its name, unless that is there and of another kind.
    async fn bind(&self, scratch: &mut Scratch, queue: &QueueName) -> Result<(), AmqpError> {
        let this: ShortString = name(queue.as_str())?;
        if queue.as_str().starts_with("amq.") || queue.as_str().is_empty() {
            return Ok(());
        }
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let channel = scratch.channel().await?;
        match channel.exchange_declare(this.clone(), ExchangeKind::Direct, durable, FieldTable::default()).await {
            Ok(()) => {}
            Err(error) if closed_for(&error, PRECONDITION_FAILED) => return Ok(()),
            Err(error) => return Err(judge(&error, "declaring an exchange")),
        }
        let channel = scratch.channel().await?;
        let bind = channel.queue_bind(this.clone(), this.clone(), this, QueueBindOptions::default(), FieldTable::default());
        answer("binding a queue", bind).await
    }

    /// Binds a queue that is declared anew to the foot of the ladder, where there is one: others believe that it still is.
    async fn bind_delayed(&self, scratch: &mut Scratch, queue: &QueueName) -> Result<(), AmqpError> {
        if queue.as_str().is_empty() || !scratch.exchange(delay::FOOT).await? {
            return Ok(());
        }
        delay::bind(&scratch.channel().await?, queue).await
    }

    /// The arguments of the configured type of queue.
    fn typed(&self) -> FieldTable {
        typed(self.options.queue_type)
    }

    /// Declares a queue of the configured type that is bound to nothing.
    pub(crate) async fn declare_plain(&self, queue: &str) -> Result<(), AmqpError> {
        let mut scratch = Scratch::new(self.link.live().await?);
        scratch.queue(queue, self.typed()).await?;
        scratch.close().await;
        Ok(())
    }

    /// The queue of dead letters.
    pub(super) async fn declare_letters(&self, scratch: &mut Scratch) -> Result<(), AmqpError> {
        let live = self.link.live().await?;
        if self.declared(live.epoch).letters {
            return Ok(());
        }
        let arguments = letters_arguments(self.options.queue_type, self.options.max_dead_letters);
        scratch.queue(letters::QUEUE, arguments).await?;
        self.declared(live.epoch).letters = true;
        Ok(())
    }

    /// The delayed-delivery ladder, and the binding of a queue to its foot.
    pub(super) async fn declare_delayed(&self, queue: &QueueName) -> Result<(), AmqpError> {
        let live = self.link.live().await?;
        let (ladder, bound) = {
            let declared = self.declared(live.epoch);
            (declared.ladder, declared.delayed.contains(queue))
        };
        if bound {
            return Ok(());
        }
        let mut scratch = Scratch::new(live.clone());
        if !ladder {
            // Whoever declared it may have died half way, with the last queue there and not bound. One of Celery's is declared once more.
            let mut there = scratch.exchange(delay::WHOLE).await?;
            there = there && scratch.look(&delay::exchange(0)).await?.is_some() && scratch.exchange(delay::FOOT).await?;
            if !there {
                let (wanted, other) = match self.options.delayed_type {
                    QueueType::Quorum => (QueueType::Quorum, QueueType::Classic),
                    QueueType::Classic => (QueueType::Classic, QueueType::Quorum),
                };
                if let Err(AmqpError::Refused(reason)) = delay::declare(&scratch.channel().await?, wanted).await {
                    tracing::debug!(%reason, "the delayed-delivery queues are there with another type");
                    delay::declare(&scratch.channel().await?, other).await?;
                }
            }
            self.declared(live.epoch).ladder = true;
        }
        delay::bind(&scratch.channel().await?, queue).await?;
        scratch.close().await;
        self.declared(live.epoch).delayed.insert(queue.clone());
        Ok(())
    }

    /// Whether there is an exchange of that name.
    pub(super) async fn has_exchange(&self, exchange: &str) -> Result<bool, AmqpError> {
        let live = self.link.live().await?;
        if let Some(known) = self.declared(live.epoch).exchanges.get(exchange) {
            return Ok(*known);
        }
        let mut scratch = Scratch::new(live.clone());
        let there = scratch.exchange(exchange).await?;
        scratch.close().await;
        // One that is not there may be declared at any time.
        if there {
            self.declared(live.epoch).exchanges.insert(exchange.to_owned(), true);
        }
        Ok(there)
    }
}

/// The arguments of a queue of that type.
pub(super) fn typed(kind: QueueType) -> FieldTable {
    let mut arguments = FieldTable::default();
    if kind == QueueType::Quorum {
        arguments.insert("x-queue-type".into(), text("quorum"));
    }
    arguments
}

/// The arguments of the queue in front of `queue`.
pub(super) fn front_arguments(kind: QueueType, queue: &str) -> FieldTable {
    let mut arguments = typed(kind);
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(FRONT_MILLIS));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(queue));
    arguments
}

/// The arguments of the queue of dead letters, of which there are at most `max`.
pub(super) fn letters_arguments(kind: QueueType, max: u64) -> FieldTable {
    let mut arguments = typed(kind);
    if kind == QueueType::Quorum {
        // Listing counts as delivering; RabbitMQ 4 would drop a letter that was listed twenty times.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000_000_000));
    }
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(i64::try_from(max).unwrap_or(i64::MAX)));
    arguments.insert("x-overflow".into(), text("drop-head"));
    arguments
}
