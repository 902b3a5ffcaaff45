//! The model of broker and ledger: where messages are, who holds them until when, what is stored.
//!
//! Every call is one atomic step, as the seams promise it (`umbel`'s `brokers` and `ledgers`); what happens to requests on
//! their way here and to answers on their way back is the network's affair. Time is this store's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use umbel_proto::{DeliveryTag, GroupId, Invocation, Millis, QueueName, ResultRecord, State, TaskId};
use umbel_scheduler::{Answer, Commit, DeadReason, Effect, Fence, Publish, ReadyChord, Release, revocation::Revoked};

use crate::{chords::Chord, mutation::Mutation};

/// How long what is not renewed stays held.
pub(crate) const LEASE: Millis = 4_000;
/// How long a chord is left to the one who was told of it.
const CONCLUDING: Millis = 2_000;

/// A message, wherever it is.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) invocation: Rc<Invocation>,
    pub(crate) queue: QueueName,
    pub(crate) attempt: u32,
    crashes: u32,
    lost: bool,
}

/// Who may end a message.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) attempt: u32,
    pub(crate) begun: bool,
    taken: Millis,
    lease_end: Millis,
}

/// One taking of one message, as a node gets it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) tag: DeliveryTag,
    pub(crate) attempt: u32,
    pub(crate) crashes: u32,
    pub(crate) lost: bool,
    pub(crate) queue: QueueName,
    pub(crate) invocation: Rc<Invocation>,
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) mutation: Option<Mutation>,
    pub(crate) messages: BTreeMap<DeliveryTag, Message>,
    pub(crate) ready: BTreeMap<i64, DeliveryTag>,
    pub(crate) schedule: BTreeMap<(Millis, i64), DeliveryTag>,
    pub(crate) held: BTreeMap<DeliveryTag, Holding>,
    pub(crate) dead: BTreeMap<DeliveryTag, DeadReason>,
    pub(crate) finished: BTreeSet<DeliveryTag>,
    pub(crate) results: BTreeMap<TaskId, ResultRecord>,
    pub(crate) chords: BTreeMap<GroupId, Chord>,
    pub(crate) revoked: Revoked,
    /// Messages that the current step has moved.
    pub(crate) touched: Vec<DeliveryTag>,
    front: i64,
    back: i64,
}

impl Store {
    /// An empty store, with one thing wrong if so asked.
    pub(crate) fn new(mutation: Option<Mutation>) -> Self {
        Self { mutation, ..Self::default() }
    }

    /// Keeps a message.
    pub(crate) fn publish(&mut self, publish: &Publish, now: Millis) -> DeliveryTag {
        let tag = DeliveryTag::from(format!("m{}", self.messages.len() + 1));
        let (invocation, queue) = (Rc::new(publish.invocation.clone()), publish.route.queue.clone());
        self.messages.insert(tag.clone(), Message { invocation, queue, attempt: 0, crashes: 0, lost: false });
        self.touched.push(tag.clone());
        self.back += 1;
        match publish.due {
            Some(due) if due > now => self.schedule.insert((due, self.back), tag.clone()),
            _ => self.ready.insert(self.back, tag.clone()),
        };
        tag
    }

    /// Takes up to `max` messages.
    pub(crate) fn fetch(&mut self, max: u32, now: Millis) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while deliveries.len() < max as usize {
            let Some((_, tag)) = self.ready.pop_first() else { break };
            let Some(message) = self.messages.get_mut(&tag) else { continue };
            message.attempt += 1;
            deliveries.push(Delivery {
                tag: tag.clone(),
                attempt: message.attempt,
                crashes: message.crashes,
                lost: message.lost,
                queue: message.queue.clone(),
                invocation: message.invocation.clone(),
            });
            let holding = Holding { attempt: message.attempt, begun: message.lost, taken: now, lease_end: now + LEASE };
            self.held.insert(tag.clone(), holding);
            self.touched.push(tag);
        }
        deliveries
    }

    /// Lengthens the leases of what a node says it holds; those that it really holds come back.
    pub(crate) fn renew(&mut self, holds: &[(DeliveryTag, u32)], now: Millis) -> Vec<(DeliveryTag, u32)> {
        let mut renewed = Vec::new();
        for (tag, attempt) in holds {
            if let Some(holding) = self.held.get_mut(tag).filter(|holding| holding.attempt == *attempt) {
                holding.lease_end = now + LEASE;
                renewed.push((tag.clone(), *attempt));
            }
        }
        renewed
    }

    /// Time has passed: what is due is ready, and what nobody renewed goes back.
    pub(crate) fn pass(&mut self, now: Millis) {
        while let Some(first) = self.schedule.first_entry().filter(|first| first.key().0 <= now) {
            let tag = first.remove();
            self.back += 1;
            self.ready.insert(self.back, tag.clone());
            self.touched.push(tag);
        }
        let ignored = self.mutation == Some(Mutation::LeaseIgnored);
        let over = |holding: &Holding| holding.lease_end <= now || (ignored && holding.taken + LEASE <= now);
        let over: Vec<DeliveryTag> = self.held.iter().filter(|(_, holding)| over(holding)).map(|(tag, _)| tag.clone()).collect();
        over.into_iter().rev().for_each(|tag| self.give_back(&tag));
    }

    fn give_back(&mut self, tag: &DeliveryTag) {
        let (Some(holding), Some(message)) = (self.held.remove(tag), self.messages.get_mut(tag)) else { return };
        self.touched.push(tag.clone());
        message.lost = holding.begun && self.mutation != Some(Mutation::BegunRunsAgain);
        match self.mutation {
            Some(Mutation::ForgetOnCrash) if !holding.begun => return,
            Some(Mutation::LostEarlyAckForgotten) if holding.begun => {
                self.finished.insert(tag.clone());
                return;
            }
            Some(Mutation::ReleaseTwice) => {
                self.back += 1;
                self.ready.insert(self.back, tag.clone());
            }
            _ => {}
        }
        self.put_first(tag);
    }

    fn put_first(&mut self, tag: &DeliveryTag) {
        self.front -= 1;
        self.ready.insert(self.front, tag.clone());
    }

    /// Carries out a commit, or refuses it.
    pub(crate) fn commit(&mut self, commit: &Commit, now: Millis) -> Answer {
        if !self.fence(&commit.fence) {
            return Answer::Refused;
        }
        for effect in &commit.effects {
            self.carry_out(effect, &commit.fence, now);
        }
        Answer::Done { ready: self.complete(now) }
    }

    fn fence(&mut self, fence: &Fence) -> bool {
        match fence {
            Fence::Open | Fence::Once { .. } => true,
            Fence::Delivery { tag, attempt, .. } => match self.held.get(tag) {
                Some(holding) => holding.attempt == *attempt || self.mutation == Some(Mutation::NoFence),
                None => {
                    let known = self.messages.get(tag).is_some_and(|message| message.attempt == *attempt);
                    known && self.finished.contains(tag) && self.mutation == Some(Mutation::EndsTwice)
                }
            },
            Fence::Chord { group, .. } => {
                let again = self.mutation == Some(Mutation::ConcludeTwice);
                let Some(chord) = self.chords.get_mut(group).filter(|chord| chord.since.is_some()) else { return false };
                !std::mem::replace(&mut chord.concluded, true) || again
            }
        }
    }

    fn carry_out(&mut self, effect: &Effect, fence: &Fence, now: Millis) {
        match effect {
            Effect::Publish(publish) => {
                self.publish(publish, now);
            }
            Effect::Store(record) => {
                let kept = self.results.get(&record.task_id).is_some_and(|known| known.status == State::Success);
                if !kept || self.mutation == Some(Mutation::OverwriteSuccess) {
                    self.results.insert(record.task_id.clone(), (**record).clone());
                }
            }
            Effect::StoredBefore => {}
            Effect::OpenChord(open) => {
                self.chords.entry(open.group.clone()).or_insert_with(|| Chord::new(open));
            }
            Effect::GrowChord { group, by } => {
                if let Some(chord) = self.chords.get_mut(group) {
                    chord.open.size += by;
                }
            }
            Effect::Part(part) => {
                if let Some(chord) = self.chords.get_mut(&part.group) {
                    chord.add(part);
                }
            }
            Effect::Release(release) => {
                if let Fence::Delivery { tag, .. } = fence {
                    self.release(tag, release, now);
                }
            }
        }
    }

    fn release(&mut self, tag: &DeliveryTag, release: &Release, now: Millis) {
        self.touched.push(tag.clone());
        if let (Release::Begin, Some(holding)) = (release, self.held.get_mut(tag)) {
            holding.begun = true;
            return;
        }
        self.held.remove(tag);
        match release {
            Release::Ack | Release::Begin => {
                self.finished.insert(tag.clone());
            }
            Release::Dead { reason, .. } => {
                self.dead.insert(tag.clone(), *reason);
            }
            Release::Requeue { due, crashes } => {
                if let Some(message) = self.messages.get_mut(tag) {
                    message.crashes = *crashes;
                }
                match due.filter(|due| *due > now) {
                    Some(due) => {
                        self.back += 1;
                        self.schedule.insert((due, self.back), tag.clone());
                    }
                    None => self.put_first(tag),
                }
            }
        }
    }

    fn complete(&mut self, now: Millis) -> Vec<ReadyChord> {
        let mutation = self.mutation;
        let open = self.chords.values_mut().filter(|chord| chord.since.is_none() && chord.is_complete(mutation));
        open.map(|chord| {
            chord.since = Some(now);
            chord.ready(mutation)
        })
        .collect()
    }

    /// Chords that have been complete for a while.
    pub(crate) fn unconcluded(&self, now: Millis) -> Vec<ReadyChord> {
        let old = |chord: &&Chord| !chord.concluded && chord.since.is_some_and(|since| since + CONCLUDING <= now);
        self.chords.values().filter(old).map(|chord| chord.ready(self.mutation)).collect()
    }

    /// In how many places a message is.
    pub(crate) fn places(&self, tag: &DeliveryTag) -> usize {
        let waiting = self.ready.values().chain(self.schedule.values()).filter(|waiting| *waiting == tag).count();
        let flags = [self.held.contains_key(tag), self.dead.contains_key(tag), self.finished.contains(tag)];
        waiting + flags.into_iter().filter(|flag| *flag).count()
    }

    /// How many messages are in all places together.
    pub(crate) fn population(&self) -> usize {
        self.ready.len() + self.schedule.len() + self.held.len() + self.dead.len() + self.finished.len()
    }
}
