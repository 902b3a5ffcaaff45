//! Dead letters: a queue of their own, `umbel.dead`, each with its story in a header.
//!
//! RabbitMQ has no way to look at a message without taking it. So looking takes all of them, and gives them back by closing
//! the channel, which puts each where it was. While somebody looks he is the queue's only consumer, by RabbitMQ's own
//! exclusiveness, so nobody sees half. Taking one out acknowledges it in the transaction that sends it where it goes.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use futures::StreamExt;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};
use tokio::time::{sleep, timeout};
use umbel_proto::{Map, QueueName, Value};
use umbel_scheduler::DeadReason;

use super::{
    super::DeadLetter,
    Shared,
    declare::Scratch,
    message::{Arrival, Message},
    shared::closed_for,
};
use crate::{
    amqp::{
        error::{ACCESS_REFUSED, AmqpError, RESOURCE_LOCKED, judge},
        link::{ANSWER, answer},
    },
    redis::link::jitter,
};

/// The queue.
pub(super) const QUEUE: &str = "umbel.dead";

/// How long the next letter may take when more were promised.
const NEXT: Duration = Duration::from_secs(2);

impl Shared {
    /// The newest letters, newest first.
    pub(super) async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, AmqpError> {
        let mut newest: VecDeque<Message> = VecDeque::new();
        let channel = self
            .look_through(|arrival| {
                newest.push_back(arrival.message);
                if newest.len() > limit {
                    newest.pop_front();
                }
                false
            })
            .await?;
        if let Some((channel, count)) = channel {
            self.put_back(channel, count).await;
        }
        Ok(newest.into_iter().rev().filter_map(letter).collect())
    }

    /// Takes a letter out, to its old queue or to nowhere; `false` when there is none of that id.
    pub(super) async fn dead_take(&self, id: &str, again: bool) -> Result<bool, AmqpError> {
        let mut found = None;
        let looked = self
            .look_through(|arrival| {
                let this = arrival.message.death.as_ref().and_then(|death| death.get("id")).and_then(Value::as_str) == Some(id);
                if this {
                    found = Some(arrival);
                }
                this
            })
            .await?;
        let Some((channel, count)) = looked else { return Ok(false) };
        if let Some(Arrival { tag, message, .. }) = &found {
            if again {
                let death = message.death.clone().unwrap_or_default();
                let queue = QueueName::from(words(&death, "queue").as_str());
                // Who has deleted it may have done so long after it was declared from here.
                self.undeclare(std::slice::from_ref(&queue));
                self.declare_queues(std::iter::once(&queue)).await?;
                let post = message.anew(queue.as_str())?;
                let publish = channel.basic_publish(
                    post.exchange,
                    post.routing_key,
                    BasicPublishOptions { mandatory: true, ..Default::default() },
                    &post.body,
                    post.properties,
                );
                answer("sending a dead letter again", publish).await?;
            }
            answer("taking a dead letter", channel.basic_ack(*tag, BasicAckOptions::default())).await?;
            answer("taking a dead letter", channel.tx_commit()).await?;
            // Deleted at this very moment: the only copy is here.
            for back in answer("sending a dead letter again", channel.wait_for_confirms()).await? {
                let queue = QueueName::from(back.delivery.routing_key.as_str());
                self.undeclare(std::slice::from_ref(&queue));
                self.declare_queues(std::iter::once(&queue)).await?;
                self.send(&[message.anew(queue.as_str())]).await.remove(0)?;
            }
        }
        self.put_back(channel, count - u32::from(found.is_some())).await;
        Ok(found.is_some())
    }

    /// Gives back what was looked at, and waits until it is there again: a quorum queue takes a moment.
    async fn put_back(&self, channel: Channel, count: u32) {
        let _ = answer("closing a channel", channel.close(200, "OK".into())).await;
        let began = Instant::now();
        while began.elapsed() < NEXT {
            let Ok(live) = self.link.live().await else { return };
            let mut scratch = Scratch::new(live);
            let looked = scratch.look(QUEUE).await;
            scratch.close().await;
            match looked {
                Ok(Some((ready, _))) if ready < count => sleep(Duration::from_millis(20).mul_f64(1.0 + jitter())).await,
                _ => return,
            }
        }
    }

    /// Shows every letter, oldest first, until `enough`. The letters are held by the channel that is returned.
    async fn look_through(&self, mut enough: impl FnMut(Arrival) -> bool) -> Result<Option<(Channel, u32)>, AmqpError> {
        let began = Instant::now();
        loop {
            let mut scratch = Scratch::new(self.link.live().await?);
            let Some((count, _)) = scratch.look(QUEUE).await? else { return Ok(None) };
            let channel = scratch.channel().await?;
            let exclusive = BasicConsumeOptions { exclusive: true, ..Default::default() };
            let mut consumer = match channel.basic_consume(QUEUE.into(), "".into(), exclusive, FieldTable::default()).await {
                Ok(consumer) => consumer,
                Err(error) if (closed_for(&error, ACCESS_REFUSED) || closed_for(&error, RESOURCE_LOCKED)) && began.elapsed() < ANSWER => {
                    sleep(Duration::from_millis(20).mul_f64(1.0 + jitter())).await;
                    continue;
                }
                Err(error) => return Err(judge(&error, "looking at the dead letters")),
            };
            answer("looking at the dead letters", channel.tx_select()).await?;
            // What another had looked at comes back in a moment.
            let count = scratch.look(QUEUE).await?.map_or(0, |(ready, _)| ready).max(count);
            for _ in 0..count {
                match timeout(NEXT, consumer.next()).await {
                    Ok(Some(Ok(delivered))) => {
                        if enough(Arrival::new(delivered)) {
                            break;
                        }
                    }
                    Ok(Some(Err(error))) => return Err(judge(&error, "looking at the dead letters")),
                    Ok(None) | Err(_) => break,
                }
            }
            return Ok(Some((channel, count)));
        }
    }
}

fn words(death: &Map, name: &str) -> String {
    death.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn letter(message: Message) -> Option<DeadLetter> {
    let death = message.death.clone()?;
    let int = |name: &str| death.get(name).and_then(Value::as_i64).unwrap_or(0);
    let reason = serde_json::from_value(serde_json::Value::String(words(&death, "reason"))).unwrap_or(DeadReason::Rejected);
    Some(DeadLetter {
        id: words(&death, "id"),
        queue: QueueName::from(words(&death, "queue").as_str()),
        reason,
        detail: words(&death, "detail"),
        at: int("at"),
        attempts: u32::try_from(int("attempts")).unwrap_or(0),
        envelope: message.envelope(false),
    })
}
