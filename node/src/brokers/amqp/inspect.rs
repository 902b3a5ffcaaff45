//! What operators see of queues, and what they do to them, without the management plugin.
//!
//! AMQP can count a queue's messages and consumers if its name is known, and can look at a message only by taking it and
//! giving it back. So names come from the cluster's state; and looking at messages is for people who ask for it: on
//! classic queues it leaves a message marked as delivered before, which counts as one taking more.

use std::collections::{BTreeMap, BTreeSet};

use lapin::{
    options::{BasicAckOptions, BasicGetOptions, QueuePurgeOptions},
    types::ShortString,
};
use umbel_proto::{Millis, QueueName};

use super::{
    super::{Peeked, QueueStatus},
    Shared,
    declare::Scratch,
    delay,
    keeper::front,
    message::{Arrival, Message},
    shared::closed_for,
};
use crate::{
    amqp::{
        QueueType,
        error::{AmqpError, NOT_FOUND, judge},
        link::answer,
        table::name,
    },
    clock,
};

/// How many delayed messages are looked at to tell whose they are.
const LOOKED_AT: usize = 2_000;

/// How many delayed messages a purge goes through.
const PURGED: usize = 500_000;

impl Shared {
    /// Every queue that has messages, is consumed or is paused.
    pub(super) async fn queues(&self) -> Result<Vec<QueueStatus>, AmqpError> {
        self.state.learned().await?;
        let state = self.state.watch().borrow().clone();
        let sessions = self.all_sessions();
        let mut names: BTreeSet<QueueName> = state.queues.keys().cloned().chain(state.paused.iter().cloned()).collect();
        names.extend(sessions.iter().flat_map(|session| session.queues()));
        let live = self.link.live().await?;
        names.extend(self.declared(live.epoch).queues.iter().cloned());
        let mut scratch = Scratch::new(live);
        let scheduled = self.scheduled(&mut scratch, &names).await?;
        let mut statuses = Vec::with_capacity(names.len());
        let mut others = false;
        for queue in names {
            let main = scratch.look(queue.as_str()).await?;
            let in_front = scratch.look(&front(&queue)).await?;
            let in_hand: usize = sessions.iter().map(|session| session.hand.ready(&queue).0.len()).sum();
            let nodes: BTreeSet<_> =
                sessions.iter().filter(|session| session.queues().contains(&queue)).map(|session| &session.node).collect();
            let status = QueueStatus {
                ready: [main, in_front].iter().flatten().map(|(ready, _)| u64::from(*ready)).sum::<u64>() + in_hand as u64,
                held: sessions.iter().filter_map(|session| session.hand.held().get(&queue).copied()).sum(),
                scheduled: scheduled.get(&queue).copied().unwrap_or(0),
                // Nobody remembers when a message came into a queue.
                oldest: None,
                consumers: self.consumers(main.map_or(0, |(_, consumers)| consumers), nodes.len(), &sessions, &queue),
                paused: state.paused.contains(&queue),
                name: queue,
            };
            others |= main.is_some_and(|(_, consumers)| consumers > sessions.iter().map(|session| session.consumers(&status.name)).sum());
            if status.ready + status.held + status.scheduled > 0 || status.consumers > 0 || status.paused {
                statuses.push(status);
            }
        }
        scratch.close().await;
        if others {
            // What other nodes hold, they know.
            for status in &mut statuses {
                status.held = 0;
            }
            for presence in self.presences().await? {
                for (queue, held) in presence.held {
                    if let Some(status) = statuses.iter_mut().find(|status| status.name.as_str() == queue) {
                        status.held += held;
                    }
                }
            }
        }
        Ok(statuses)
    }

    /// Whether a message waits in one of the queues that is not paused.
    pub(super) async fn waits(&self, queues: &[QueueName]) -> Result<bool, AmqpError> {
        let paused = self.state.watch().borrow().paused.clone();
        let mut scratch = Scratch::new(self.link.live().await?);
        let mut waits = false;
        for queue in queues.iter().filter(|queue| !paused.contains(*queue)) {
            for of in [front(queue), queue.as_str().to_owned()] {
                waits |= scratch.look(&of).await?.is_some_and(|(ready, _)| ready > 0);
            }
        }
        scratch.close().await;
        Ok(waits)
    }

    /// How many nodes and workers take from a queue: those of this process, and what other consumers the server counts.
    fn consumers(&self, counted: u32, nodes: usize, sessions: &[std::sync::Arc<super::session::Session>], queue: &QueueName) -> u32 {
        let own: u32 = sessions.iter().map(|session| session.consumers(queue)).sum();
        counted.saturating_sub(own) + u32::try_from(nodes).unwrap_or(u32::MAX)
    }

    /// How many messages are delayed, by queue. Quorum queues count a look as a delivery, so those are not looked into: they are
    /// told only where there is one queue they can be for.
    async fn scheduled(&self, scratch: &mut Scratch, names: &BTreeSet<QueueName>) -> Result<BTreeMap<QueueName, u64>, AmqpError> {
        let mut counts: BTreeMap<QueueName, u64> = BTreeMap::new();
        if let (QueueType::Quorum, Some(only), 1) = (self.options.delayed_type, names.first(), names.len()) {
            let mut total = 0;
            for rung in 0..=delay::TOP {
                let Some((ready, _)) = scratch.look(&delay::exchange(rung)).await? else { break };
                total += u64::from(ready);
            }
            counts.insert(only.clone(), total);
        }
        if self.options.delayed_type == QueueType::Classic {
            for (queue, _) in self.delayed(scratch, LOOKED_AT).await? {
                *counts.entry(queue).or_default() += 1;
            }
        }
        for session in self.all_sessions() {
            for queue in session.queues() {
                let waiting = session.hand.ready(&queue).1.len() as u64;
                *counts.entry(queue).or_default() += waiting;
            }
        }
        Ok(counts)
    }

    /// Delayed messages and the queues they are for. They are given back.
    async fn delayed(&self, scratch: &mut Scratch, limit: usize) -> Result<Vec<(QueueName, Message)>, AmqpError> {
        let mut delayed = Vec::new();
        let mut taking = Scratch::new(self.link.live().await?);
        for rung in 0..=delay::TOP {
            let rung = delay::exchange(rung);
            let Some((ready, _)) = scratch.look(&rung).await? else { break };
            for _ in 0..ready {
                if delayed.len() >= limit {
                    break;
                }
                let Some(arrival) = get(&mut taking, &rung).await? else { break };
                let queue = QueueName::from(arrival.message.routing_key.as_str());
                delayed.push((queue, arrival.message));
            }
        }
        taking.close().await;
        Ok(delayed)
    }

    /// Removes what waits and what is scheduled.
    pub(super) async fn purge(&self, queue: &QueueName) -> Result<u64, AmqpError> {
        let mut scratch = Scratch::new(self.link.live().await?);
        let mut purged = 0;
        for of in [front(queue), queue.as_str().to_owned()] {
            let channel = scratch.channel().await?;
            match channel.queue_purge(name(&of)?, QueuePurgeOptions::default()).await {
                Ok(count) => purged += u64::from(count),
                Err(error) if closed_for(&error, NOT_FOUND) => {}
                Err(error) => return Err(judge(&error, "purging")),
            }
        }
        let mut taking = Scratch::new(self.link.live().await?);
        let mut looked_at = 0;
        for rung in 0..=delay::TOP {
            let rung = delay::exchange(rung);
            let Some((ready, _)) = scratch.look(&rung).await? else { break };
            for _ in 0..ready {
                if looked_at >= PURGED {
                    break;
                }
                looked_at += 1;
                let Some(arrival) = get(&mut taking, &rung).await? else { break };
                if arrival.message.routing_key == queue.as_str() {
                    let channel = taking.channel().await?;
                    answer("purging", channel.basic_ack(arrival.tag, BasicAckOptions::default())).await?;
                    purged += 1;
                }
            }
        }
        taking.close().await;
        scratch.close().await;
        Ok(purged)
    }

    /// The next messages, as they would leave, then the scheduled ones by their time.
    pub(super) async fn peek(&self, queue: &QueueName, limit: usize) -> Result<Vec<Peeked>, AmqpError> {
        let (mut next, mut later) = (Vec::new(), Vec::new());
        for session in self.all_sessions() {
            let (ready, waiting) = session.hand.ready(queue);
            next.extend(ready.into_iter().map(|message| look(&message, 0, None)));
            later.extend(waiting.into_iter().map(|message| look(&message, 0, message.passage.due)));
        }
        let mut taking = Scratch::new(self.link.live().await?);
        for of in [front(queue), queue.as_str().to_owned()] {
            let Some((ready, _)) = taking.look(&of).await? else { continue };
            for _ in 0..ready {
                if next.len() >= limit {
                    break;
                }
                let Some(arrival) = get(&mut taking, &of).await? else { break };
                next.push(look(&arrival.message, arrival.count.unwrap_or(0), None));
            }
        }
        taking.close().await;
        if next.len() < limit {
            let mut scratch = Scratch::new(self.link.live().await?);
            let delayed = self.delayed(&mut scratch, LOOKED_AT).await?;
            scratch.close().await;
            later.extend(delayed.into_iter().filter(|(of, _)| of == queue).map(|(_, message)| {
                let due = message.passage.due.unwrap_or_else(clock::now);
                look(&message, 0, Some(due))
            }));
            later.sort_by_key(|peeked| peeked.due);
            next.extend(later);
        }
        next.truncate(limit);
        Ok(next)
    }
}

fn look(message: &Message, count: u32, due: Option<Millis>) -> Peeked {
    Peeked { envelope: message.envelope(false), due, attempts: message.passage.attempts.saturating_add(count) }
}

/// Takes a message without waiting for one.
async fn get(scratch: &mut Scratch, queue: &str) -> Result<Option<Arrival>, AmqpError> {
    let queue: ShortString = name(queue)?;
    let channel = scratch.channel().await?;
    let got = answer("looking at a message", channel.basic_get(queue, BasicGetOptions::default())).await?;
    Ok(got.map(|got| Arrival::new(got.delivery)))
}
