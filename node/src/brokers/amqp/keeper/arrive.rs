//! What comes from RabbitMQ.

use std::time::Instant;

use futures::{FutureExt, StreamExt};
use lapin::{message::DeliveryResult, options::BasicRejectOptions};
use umbel_proto::{Millis, QueueName};

use super::{From, IN_VAIN, Keeper};
use crate::{
    amqp::error::{AmqpError, judge},
    brokers::amqp::{
        hand::Holding,
        message::{Arrival, Message, Passage},
    },
    clock,
};

/// What is due later than this goes into the schedule again.
const NEAR_MILLIS: i64 = 2_000;

impl Keeper {
    /// Takes in a message and all that have come with it.
    pub(super) async fn come(&mut self, source: u64, delivery: DeliveryResult) -> Result<(), AmqpError> {
        self.arrive(source, delivery)?;
        self.drain();
        self.move_on().await?;
        self.hand.tell();
        Ok(())
    }

    /// Takes in one message and does nothing more about it yet.
    pub(super) fn come_quietly(&mut self, source: u64, delivery: DeliveryResult) -> Result<(), AmqpError> {
        self.arrive(source, delivery)
    }

    /// Takes in what has come by now.
    pub(super) fn drain(&mut self) {
        while let Some(Some((source, delivery))) = self.incoming.next().now_or_never() {
            // An error is the channel's, and comes to light with the next request.
            let _ = self.arrive(source, delivery);
        }
    }

    /// Waits until what these queues have for the session has come, moves included, and tells of it.
    pub(super) async fn come_in(&mut self, queues: &[QueueName]) -> Result<(), AmqpError> {
        self.barrier(queues).await?;
        self.move_on().await?;
        self.hand.tell();
        Ok(())
    }

    fn arrive(&mut self, number: u64, delivery: DeliveryResult) -> Result<(), AmqpError> {
        let delivered = match delivery {
            Ok(Some(delivered)) => delivered,
            Ok(None) => {
                self.gone(number);
                return Ok(());
            }
            Err(error) => return Err(judge(&error, "consuming")),
        };
        let Some(source) = self.sources.get_mut(&number) else { return Ok(()) };
        source.unsettled += 1;
        let (queue, from) = (source.queue.clone(), source.from);
        let arrival = Arrival::new(delivered);
        if from == From::Holding {
            self.held_on(number, arrival);
            return Ok(());
        }
        let takings = arrival.takings();
        let Arrival { tag, mut message, redelivered, count } = arrival;
        // It waits, and is not taken yet: a copy of the same history will do.
        let far = message.passage.due.is_some_and(|due| due - clock::now() > NEAR_MILLIS);
        let again = redelivered && count.is_none();
        message.passage.attempts = takings;
        let holding = Holding {
            tag,
            queue: queue.clone(),
            source: number,
            message,
            redelivered,
            attempt: takings.saturating_add(1),
            handed: None,
            begun: false,
            since: Instant::now(),
        };
        let mut hand = self.hand.lock();
        let serial = hand.arrive(holding);
        if far || again {
            hand.moving(&queue, 1);
            self.moves.push(serial);
        } else {
            hand.make_ready(serial, from == From::Front);
        }
        Ok(())
    }

    /// RabbitMQ has ended a consumer: its queue was deleted or has moved. The next fetch declares it and begins another.
    fn gone(&mut self, number: u64) {
        let Some(source) = self.sources.get_mut(&number) else { return };
        if !source.cancelled {
            tracing::warn!(queue = %source.queue, "RabbitMQ has ended a consumer; it is begun again");
            source.cancelled = true;
            self.hand.lock().gone.insert(source.queue.clone());
            self.hand.tell();
        }
    }

    /// A taking is held by another copy of its message now.
    fn held_on(&mut self, number: u64, arrival: Arrival) {
        let serial = arrival.message.passage.hold.as_deref().and_then(|hold| hold.parse::<u64>().ok());
        let mut hand = self.hand.lock();
        match serial.and_then(|serial| hand.holdings.get_mut(&serial)) {
            Some(holding) if holding.tag == 0 => {
                holding.tag = arrival.tag;
                holding.source = number;
                holding.since = Instant::now();
            }
            // Left to its time to live, which brings it to the front queue.
            _ => tracing::warn!("a copy has come for a message that is not held"),
        }
    }

    /// Moves to the front what was delivered again, until nothing more of it has come; whether there was anything.
    pub(super) async fn move_on(&mut self) -> Result<bool, AmqpError> {
        let mut any = false;
        while !self.moves.is_empty() {
            any = true;
            let serials = std::mem::take(&mut self.moves);
            self.move_these(serials).await?;
        }
        Ok(any)
    }

    async fn move_these(&mut self, serials: Vec<u64>) -> Result<(), AmqpError> {
        let mut holdings = Vec::with_capacity(serials.len());
        {
            let mut hand = self.hand.lock();
            for serial in serials {
                if let Some(holding) = hand.holdings.remove(&serial) {
                    holdings.push(holding);
                }
            }
        }
        let moved: Vec<QueueName> = holdings.iter().map(|holding| holding.queue.clone()).collect();
        self.go_on_as(holdings, |holding| {
            let passage = holding.message.passage.clone();
            Passage { attempts: passage.attempts.saturating_add(u32::from(holding.redelivered)), ..passage }
        })
        .await?;
        let queues: std::collections::BTreeSet<QueueName> = moved.iter().cloned().collect();
        self.barrier(&queues.into_iter().collect::<Vec<_>>()).await?;
        let mut hand = self.hand.lock();
        for queue in moved {
            hand.moving(&queue, -1);
        }
        Ok(())
    }

    /// Gives back what came and was not handed out for a while: the node's credits have become fewer.
    pub(super) async fn in_vain(&mut self) -> Result<(), AmqpError> {
        let queues: std::collections::BTreeSet<QueueName> = {
            let (hand, now) = (self.hand.lock(), clock::now());
            let over = |due: Millis| u128::try_from(now - due).is_ok_and(|over| over > IN_VAIN.as_millis());
            let waiting = hand.holdings.values().filter(|holding| holding.handed.is_none() && holding.since.elapsed() > IN_VAIN);
            // What is not due yet waits for its time, and not for a credit.
            waiting.filter(|holding| holding.message.passage.due.is_none_or(over)).map(|holding| holding.queue.clone()).collect()
        };
        for queue in queues {
            self.stop(&queue).await?;
        }
        Ok(())
    }

    /// Gives back what nobody has been handed. RabbitMQ would count each time as a taking, and who is given back by many would die of it:
    /// after the first time it goes to the front as a copy, with its count as it was.
    pub(super) async fn untaken(&mut self, back: Vec<Holding>) -> Result<(), AmqpError> {
        let (counted, new): (Vec<_>, Vec<_>) = back.into_iter().partition(|holding| holding.attempt > 1);
        self.go_on_as(counted, |holding| Passage { hold: None, ..holding.message.passage.clone() }).await?;
        self.reject(new).await
    }

    /// Sends copies in the place of holdings, to the front or into the schedule, each with what is to be said of it.
    pub(super) async fn go_on_as(&mut self, holdings: Vec<Holding>, says: impl Fn(&Holding) -> Passage) -> Result<(), AmqpError> {
        let mut posts = Vec::with_capacity(holdings.len());
        for holding in &holdings {
            posts.push(self.requeue(&holding.queue, &holding.message, says(holding))?);
        }
        self.transact(posts, holdings.iter().map(|holding| (holding.tag, holding.source)).collect()).await
    }

    /// Gives messages back to their queues as they are.
    pub(super) async fn reject(&mut self, holdings: Vec<Holding>) -> Result<(), AmqpError> {
        if holdings.is_empty() {
            return Ok(());
        }
        for holding in &holdings {
            // The answer is that of the transaction.
            let _ = self.channel.basic_reject(holding.tag, BasicRejectOptions { requeue: true }).now_or_never();
        }
        self.commit().await?;
        for holding in holdings {
            self.paid(holding.tag, holding.source);
        }
        Ok(())
    }

    /// A delivery is not this session's any more.
    pub(super) fn paid(&mut self, tag: u64, source: u64) {
        self.settled.insert(tag);
        while self.settled.remove(&(self.low + 1)) {
            self.low += 1;
        }
        if let Some(source) = self.sources.get_mut(&source) {
            source.unsettled = source.unsettled.saturating_sub(1);
        }
    }

    /// The copy of a message that goes to the front, or into the schedule where it is due later.
    pub(super) fn requeue(
        &self,
        queue: &QueueName,
        message: &Message,
        passage: Passage,
    ) -> Result<crate::brokers::amqp::message::Post, AmqpError> {
        let seconds = passage.due.map_or(0, |due| crate::brokers::amqp::delay::seconds(due - clock::now()));
        if seconds > 0 { message.delayed(queue.as_str(), seconds, &passage) } else { message.copy(&super::front(queue), &passage) }
    }
}
