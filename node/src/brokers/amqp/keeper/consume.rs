//! Letting RabbitMQ send: windows that follow credits.
//!
//! A window is the prefetch of one consumer. RabbitMQ fixes it when the consumer begins, and gives a place in it back when a
//! delivery is settled; so windows that were made for the credits there were stay right while credits go round. One that is
//! used up while there is room for more gets another beside it.

use futures::{StreamExt, future::ready, stream};
use lapin::{
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::FieldTable,
};
use umbel_proto::QueueName;

use super::{From, Keeper, Source, front};
use crate::amqp::{error::AmqpError, link::answer, table::name};

/// How many consumers of one queue there are before they are made into one.
const WINDOWS: usize = 12;

/// The widest window that AMQP can say.
const WIDEST: u32 = 65_535;

impl Keeper {
    /// Makes room for up to `max` messages, and waits until what was there already has come.
    pub(super) async fn widen(&mut self, queues: &[QueueName], max: u32) -> Result<(), AmqpError> {
        let fresh = !self.sources.values().any(|source| queues.contains(&source.queue) && source.from == From::Main);
        // Nobody knows yet which of them have messages.
        let share = if fresh { max.div_ceil(u32::try_from(queues.len()).unwrap_or(u32::MAX)) } else { max };
        let mut widened = Vec::new();
        for queue in queues.iter().filter(|queue| !self.paused.contains(*queue)).cloned().collect::<Vec<_>>() {
            let ready = u32::try_from(self.hand.lock().count(&queue)).unwrap_or(u32::MAX);
            let front = self.slack(&queue, From::Front) == 0;
            let main = self.slack(&queue, From::Main) == 0;
            if ready > 0 || !(front || main) {
                continue;
            }
            if front {
                self.consume(&queue, From::Front, max).await?;
            }
            if main {
                self.consume(&queue, From::Main, share).await?;
            }
            widened.push(queue);
        }
        if widened.is_empty() { Ok(()) } else { self.come_in(&widened).await }
    }

    /// How many more messages may come from there.
    fn slack(&self, queue: &QueueName, from: From) -> u32 {
        let open = self.sources.values().filter(|source| source.queue == *queue && source.from == from && !source.cancelled);
        open.map(|source| source.prefetch.saturating_sub(source.unsettled)).sum()
    }

    async fn consume(&mut self, queue: &QueueName, from: From, prefetch: u32) -> Result<(), AmqpError> {
        if self.sources.values().filter(|source| source.queue == *queue && source.from == from && !source.cancelled).count() >= WINDOWS {
            self.cancel(queue, from).await?;
        }
        let of = match from {
            From::Front => front(queue),
            From::Main => queue.as_str().to_owned(),
            From::Holding => self.holding_queue(queue),
        };
        let prefetch = if from == From::Holding { 0 } else { prefetch.clamp(1, WIDEST) };
        let qos = u16::try_from(prefetch).unwrap_or(u16::MAX);
        answer("making room", self.channel.basic_qos(qos, BasicQosOptions::default())).await?;
        self.sourced += 1;
        let number = self.sourced;
        let tag = name(&format!("umbel.{}.{number}", self.id))?;
        let consume = self.channel.basic_consume(name(&of)?, tag.clone(), BasicConsumeOptions::default(), FieldTable::default());
        let consumer = answer("consuming", consume).await?;
        let source = Source { queue: queue.clone(), from, tag, prefetch, unsettled: 0, cancelled: false };
        self.sources.insert(number, source);
        self.count_consumers(queue);
        // The end of the stream is news as well: RabbitMQ has ended the consumer.
        let end = stream::once(ready((number, Ok(None))));
        self.incoming.push(Box::pin(consumer.map(move |delivery| (number, delivery.map(Some))).chain(end)));
        Ok(())
    }

    /// Consumes the copies by which messages are held.
    pub(super) async fn hold_by(&mut self, queue: &QueueName) -> Result<(), AmqpError> {
        self.consume(queue, From::Holding, 0).await
    }

    /// Has nothing come from there any more. What had been sent by then has come.
    async fn cancel(&mut self, queue: &QueueName, from: From) -> Result<(), AmqpError> {
        let open: Vec<u64> = self
            .sources
            .iter()
            .filter(|(_, source)| source.queue == *queue && source.from == from && !source.cancelled)
            .map(|(number, _)| *number)
            .collect();
        for number in open {
            let Some(source) = self.sources.get_mut(&number) else { continue };
            source.cancelled = true;
            let tag = source.tag.clone();
            answer("cancelling a consumer", self.channel.basic_cancel(tag, BasicCancelOptions::default())).await?;
        }
        self.count_consumers(queue);
        self.drain();
        Ok(())
    }

    /// Tells how many of the server's consumers of a queue are this session's.
    fn count_consumers(&self, queue: &QueueName) {
        let open = self.sources.values().filter(|source| source.queue == *queue && source.from == From::Main && !source.cancelled);
        let count = u32::try_from(open.count()).unwrap_or(u32::MAX);
        self.hand.lock().consumers.insert(queue.clone(), count);
    }

    /// Takes nothing more of a queue, and gives back what has come and was not handed out.
    pub(super) async fn stop(&mut self, queue: &QueueName) -> Result<(), AmqpError> {
        self.cancel(queue, From::Main).await?;
        self.cancel(queue, From::Front).await?;
        self.move_on().await?;
        let back = {
            let mut hand = self.hand.lock();
            hand.stopped.insert(queue.clone());
            hand.take_back(Some(queue))
        };
        self.untaken(back).await?;
        self.sources.retain(|_, source| !source.cancelled || source.unsettled > 0);
        // Whoever waits for messages of it asks for room again.
        self.hand.tell();
        Ok(())
    }

    /// Takes nothing more of queues that no subscription wants.
    pub(super) async fn unwanted(&mut self, queues: &[QueueName]) -> Result<(), AmqpError> {
        for queue in queues {
            self.stop(queue).await?;
        }
        Ok(())
    }

    /// Follows the pauses.
    pub(super) async fn pause(&mut self, paused: std::collections::BTreeSet<QueueName>) -> Result<(), AmqpError> {
        let newly: Vec<QueueName> = paused.difference(&self.paused).cloned().collect();
        let resumed: Vec<QueueName> = self.paused.difference(&paused).cloned().collect();
        self.paused = paused;
        if !resumed.is_empty() {
            self.hand.lock().stopped.extend(resumed);
            // A fetch that heard of it first has asked for room in vain.
            self.hand.tell();
        }
        for queue in newly {
            if self.sources.values().any(|source| source.queue == queue && !source.cancelled) {
                self.stop(&queue).await?;
            }
        }
        Ok(())
    }

    /// Waits until everything that these queues have sent has come. A passive declaration is answered by the queue after what it
    /// has sent, and the next one by the channel after it has passed that on.
    pub(super) async fn barrier(&mut self, queues: &[QueueName]) -> Result<(), AmqpError> {
        for queue in queues.iter().chain(queues.last()) {
            for of in [front(queue), queue.as_str().to_owned()] {
                let passive = QueueDeclareOptions { passive: true, ..Default::default() };
                answer("looking at a queue", self.channel.queue_declare(name(&of)?, passive, FieldTable::default())).await?;
            }
        }
        self.drain();
        Ok(())
    }
}
