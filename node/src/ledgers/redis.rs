//! The Redis ledger: broker and results on one server, an ending is one step of one script.
//!
//! **What it owns.** References to the broker's inside and to the names of results. **Who sends to it.** The aggregator and the
//! client. **What it does.** It writes a batch of commits as the arguments of one script: it looks at every fence,
//! then changes the results' database, then the broker's; nobody else comes between. A fence is a field of `unacked` that is
//! new at each taking, so whoever restores a message, node or Celery worker, ends the attempt before.
//!
//! **Chords.** The keys are Celery's and are read and written as its versions 5.6 and 5.7 do, so that parts may be recorded by
//! anybody. A chord's last part claims it, for [`RedisOptions::chord_grace`]; concluding it publishes the body, removes the
//! parts and leaves the mark `done` in one step; the parts of one that failed stay until they expire, as Celery leaves them. Chords that nodes know of are also listed in a set of their own, so that one
//! whose claimant died is found again.
//!
//! **What bounds it.** The script takes [`COMMITS`] commits at a time. **When it dies.** An error means that it is not known
//! whether anything happened. A commit under a fence can be sent again.
//! Tokens of submissions are remembered for as long as their senders may repeat them.
//!
//! [`RedisOptions::chord_grace`]: crate::redis::RedisOptions::chord_grace

use std::sync::Arc;

use async_trait::async_trait;
use umbel_proto::{DeliveryTag, Signature};
use umbel_scheduler::{Answer, Commit, Effect, Fence, ReadyChord, Release};

use super::{Ledger, LedgerError};
use crate::{
    backends::{ChordStep, redis::RedisBackend},
    brokers::redis::{COMMITS, Payment, Posting, RedisBroker, Shared},
    redis::{
        commit::{Batch, Complete, Outcome},
        error::{KIND, RedisError},
    },
};

/// Endings on one Redis server.
#[derive(Debug)]
pub struct RedisLedger {
    broker: Arc<Shared>,
    backend: Arc<RedisBackend>,
}

/// A commit ready to be written.
struct Prepared<'a> {
    fence: &'a Fence,
    steps: Vec<Step>,
    /// Whether the delivery is settled by it.
    ends: Option<&'a DeliveryTag>,
}

/// One effect ready to be written.
enum Step {
    Post(Posting),
    Pay(Payment),
    Store { key: String, record: Vec<u8>, ttl: u64 },
    Chord(Box<ChordStep>),
}

impl RedisLedger {
    /// The ledger of a broker and a backend on the same server, in the same database or in two.
    pub fn new(broker: &RedisBroker, backend: Arc<RedisBackend>) -> Self {
        Self { broker: Arc::clone(broker.shared()), backend }
    }

    async fn commit_slice(&self, slice: &[Commit]) -> Result<Vec<Answer>, RedisError> {
        let mut prepared = self.prepare(slice).await?;
        let sent = prepared.iter().filter(|commit| commit.is_some()).count();
        let results = self.backend.results_at();
        let mut batch = Batch::new(&self.broker.keys, self.broker.db(), Some(&results), sent);
        for commit in prepared.iter().flatten() {
            self.write(commit, &mut batch);
        }
        let mut outcomes = self.backend.send(batch, &self.broker.link).await?.into_iter();
        let mut answers = Vec::with_capacity(slice.len());
        for (commit, prepared) in slice.iter().zip(&mut prepared) {
            let Some(prepared) = prepared else {
                answers.push(Answer::Refused);
                continue;
            };
            answers.push(match outcomes.next() {
                Some(Outcome::Done(complete)) => {
                    self.broker.let_go(prepared.ends.map(DeliveryTag::as_str));
                    Answer::Done { ready: self.ready(commit, complete).await }
                }
                Some(Outcome::Refused) => {
                    if let Fence::Delivery { tag, .. } = prepared.fence {
                        self.broker.let_go([tag.as_str()]);
                    }
                    Answer::Refused
                }
                None => return Err(RedisError::strange("a commit")),
            });
        }
        Ok(answers)
    }

    /// Everything that has to be read or worked out before the script is called; `None` for a commit whose fence cannot hold.
    async fn prepare<'a>(&self, slice: &'a [Commit]) -> Result<Vec<Option<Prepared<'a>>>, RedisError> {
        let mut wanted: Vec<(&DeliveryTag, u32, &Release)> = Vec::new();
        for commit in slice {
            if let Fence::Delivery { tag, attempt, .. } = &commit.fence {
                wanted.extend(releases(commit).map(|release| (tag, *attempt, release)));
            }
        }
        let mut payments = self.broker.payments(&wanted).await?.into_iter();
        let mut prepared = Vec::with_capacity(slice.len());
        for commit in slice {
            let mut may_hold = true;
            let mut ends = None;
            let mut steps = Vec::with_capacity(commit.effects.len());
            for effect in &commit.effects {
                steps.push(match effect {
                    Effect::Publish(publish) => Step::Post(self.broker.posting(publish).await?),
                    Effect::Store(record) => {
                        let (bytes, ttl) = RedisBackend::encode(record, self.backend.options())?;
                        Step::Store { key: self.backend.keys().celery.task(&record.task_id), record: bytes, ttl }
                    }
                    Effect::StoredBefore => continue,
                    Effect::OpenChord(open) => Step::Chord(Box::new(ChordStep::Open((**open).clone()))),
                    Effect::GrowChord { group, by } => Step::Chord(Box::new(ChordStep::Grow { group: group.clone(), by: *by })),
                    Effect::Part(part) => Step::Chord(Box::new(ChordStep::Part((**part).clone()))),
                    Effect::Release(release) => match &commit.fence {
                        Fence::Delivery { tag, .. } => {
                            let payment = payments.next().unwrap_or(Payment::Gone);
                            may_hold &= !matches!(payment, Payment::Gone);
                            ends = payment.ends().then_some(tag);
                            Step::Pay(payment)
                        }
                        _ => {
                            tracing::error!(?release, "a commit pays for a delivery that is not its fence; there is nothing to pay");
                            continue;
                        }
                    },
                });
            }
            if let Fence::Delivery { tag, attempt, .. } = &commit.fence {
                may_hold &= self.broker.may_hold(tag, *attempt);
            }
            prepared.push(may_hold.then_some(Prepared { fence: &commit.fence, steps, ends }));
        }
        let queues = prepared.iter().flatten().flat_map(|commit| &commit.steps).filter_map(|step| match step {
            Step::Post(posting) => Some(posting.queue()),
            _ => None,
        });
        self.broker.declare(queues).await?;
        Ok(prepared)
    }

    fn write(&self, commit: &Prepared<'_>, batch: &mut Batch) {
        match commit.fence {
            Fence::Open => batch.open(),
            Fence::Once { token, keep } => batch.once(&self.broker.keys.once(token), *keep),
            Fence::Delivery { tag, .. } => batch.held(tag),
            Fence::Chord { group, failed } => batch.chord(&self.backend.keys().celery.group(group), group, *failed),
        }
        for step in &commit.steps {
            match step {
                Step::Post(posting) => posting.write(batch),
                Step::Pay(payment) => payment.write(batch, self.broker.options.max_dead_letters),
                Step::Store { key, record, ttl } => batch.store(key, record, *ttl),
                Step::Chord(step) => self.backend.write_chord(step, batch),
            }
        }
        batch.end();
    }

    /// Chords that a commit has completed.
    async fn ready(&self, commit: &Commit, complete: Vec<Complete>) -> Vec<ReadyChord> {
        let mut ready = Vec::with_capacity(complete.len());
        for chord in complete {
            let body = body_of(commit, &chord);
            ready.extend(self.backend.ready_or_later(chord, body).await);
        }
        ready
    }
}

fn releases(commit: &Commit) -> impl Iterator<Item = &Release> {
    commit.effects.iter().filter_map(|effect| match effect {
        Effect::Release(release) => Some(release),
        _ => None,
    })
}

/// The body of a chord that a commit has completed: the commit carries it.
fn body_of<'a>(commit: &'a Commit, chord: &Complete) -> Option<&'a Signature> {
    commit.effects.iter().find_map(|effect| match effect {
        Effect::OpenChord(open) if open.group == chord.group => Some(&open.body),
        Effect::Part(part) if part.group == chord.group => Some(&part.body),
        _ => None,
    })
}

#[async_trait]
impl Ledger for RedisLedger {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn commit(&self, batch: Vec<Commit>) -> Result<Vec<Answer>, LedgerError> {
        let mut answers = Vec::with_capacity(batch.len());
        for slice in batch.chunks(COMMITS) {
            answers.extend(self.commit_slice(slice).await?);
        }
        Ok(answers)
    }

    async fn unconcluded(&self, limit: usize) -> Result<Vec<ReadyChord>, LedgerError> {
        Ok(self.backend.find_unconcluded(limit).await?)
    }
}
