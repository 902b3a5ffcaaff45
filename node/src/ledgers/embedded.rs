//! The embedded ledger: an ending is one transaction of the [`Store`].
//!
//! **What it owns.** A reference to the store. **Who sends to it.** The aggregator and the client. **What it does.** It encodes
//! a batch on the caller's thread and has the writer carry it out: each commit's fence is checked first, and a commit whose
//! fence does not hold changes nothing. Batches of several callers, and everything else that waits, share a transaction.
//!
//! **What bounds it.** The store's inbox. **When it dies.** It cannot; errors of the disk are answers, and what was not
//! answered is there whole or not at all.
//!
//! A [`Release`] means something only under [`Fence::Delivery`]; under another fence there is nothing to pay, and it is ignored
//! with an error in the log. Under [`Fence::Chord`] the commit concludes the chord: it and its parts are gone afterwards.

use std::sync::Arc;

use async_trait::async_trait;
use umbel_proto::GroupId;
use umbel_scheduler::{Answer, Commit, Effect, Fence, ReadyChord, Release};

use super::{Ledger, LedgerError};
use crate::{
    brokers::embedded::{encode, seq},
    embedded::{
        KIND, NewMessage, NewPart, NewResult, Seq, Store, StoreError, Tx, body_record, encode_part, part_key, read_ready, read_unconcluded,
    },
};

/// Endings in a file.
#[derive(Debug)]
pub struct EmbeddedLedger {
    store: Arc<Store>,
}

impl EmbeddedLedger {
    /// The ledger of `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    async fn ready(&self, groups: Vec<GroupId>) -> Result<Vec<ReadyChord>, LedgerError> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        // A chord that is not there any more has been concluded by somebody who found it first.
        let read = move |txn: &redb::ReadTransaction| groups.iter().filter_map(|group| read_ready(txn, group).transpose()).collect();
        self.store.read(read).await.map_err(StoreError::ledger)
    }
}

#[async_trait]
impl Ledger for EmbeddedLedger {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn commit(&self, batch: Vec<Commit>) -> Result<Vec<Answer>, LedgerError> {
        let steps: Vec<Steps> = batch.into_iter().map(Steps::new).collect::<Result<_, _>>().map_err(StoreError::ledger)?;
        let bytes = steps.iter().map(|steps| steps.bytes).sum();
        let written = self.store.write(bytes, move |tx| steps.into_iter().map(|steps| steps.carry_out(tx)).collect::<Result<Vec<_>, _>>());
        let mut answers = Vec::new();
        for done in written.await.map_err(StoreError::ledger)? {
            answers.push(match done {
                // The commit is durable whatever happens now. A chord that cannot be read here stays complete, and
                // `unconcluded` lists it.
                Some(groups) => Answer::Done { ready: self.ready(groups).await.unwrap_or_else(|error| unreadable(&error)) },
                None => Answer::Refused,
            });
        }
        Ok(answers)
    }

    async fn unconcluded(&self, limit: usize) -> Result<Vec<ReadyChord>, LedgerError> {
        let grace = i64::try_from(self.store.options().chord_grace.as_millis()).unwrap_or(i64::MAX);
        let (since, boot) = (self.store.now().saturating_sub(grace), self.store.boot());
        let groups = self.store.read(move |txn| read_unconcluded(txn, since, boot, limit)).await.map_err(StoreError::ledger)?;
        self.ready(groups).await
    }
}

fn unreadable(error: &LedgerError) -> Vec<ReadyChord> {
    tracing::error!(%error, "a chord is complete and cannot be read now; it will be tried again");
    Vec::new()
}

/// A commit, ready for the writer.
struct Steps {
    fence: Fence,
    steps: Vec<Step>,
    bytes: usize,
}

enum Step {
    Publish(NewMessage),
    Store(Box<NewResult>),
    Open { group: GroupId, size: u32, body: Vec<u8> },
    Grow { group: GroupId, by: u32 },
    Part(NewPart),
    Release(Release),
}

impl Steps {
    fn new(commit: Commit) -> Result<Self, StoreError> {
        let steps: Vec<Step> = commit.effects.into_iter().filter_map(|effect| Step::new(effect).transpose()).collect::<Result<_, _>>()?;
        let bytes = steps.iter().map(Step::bytes).sum();
        Ok(Self { fence: commit.fence, steps, bytes })
    }

    /// The chords it completes; `None` when its fence does not hold.
    fn carry_out(self, tx: &mut Tx<'_>) -> Result<Option<Vec<GroupId>>, StoreError> {
        let mut delivery = None;
        match &self.fence {
            // Who has the store in his process loses no answers.
            Fence::Open | Fence::Once { .. } => {}
            Fence::Delivery { tag, attempt, .. } => match seq(tag).filter(|seq| tx.state.is_held(*seq, *attempt)) {
                Some(seq) => delivery = Some((seq, *attempt)),
                None => return Ok(None),
            },
            Fence::Chord { group, .. } => {
                if !tx.is_complete(group)? {
                    return Ok(None);
                }
                tx.conclude(group)?;
            }
        }
        let mut ready = Vec::new();
        for step in self.steps {
            step.carry_out(tx, delivery, &mut ready)?;
        }
        Ok(Some(ready))
    }
}

impl Step {
    /// What to do for `effect`; `None` is nothing.
    fn new(effect: Effect) -> Result<Option<Self>, StoreError> {
        Ok(Some(match effect {
            Effect::Publish(publish) => Self::Publish(encode(&publish)?),
            Effect::Store(record) => Self::Store(Box::new(NewResult::new(*record)?)),
            Effect::StoredBefore => return Ok(None),
            Effect::OpenChord(open) => Self::Open { body: body_record(&open)?, group: open.group, size: open.size },
            Effect::GrowChord { group, by } => Self::Grow { group, by },
            Effect::Part(part) => {
                let (key, row) = (part_key(&part.group, part.index, &part.task_id), encode_part(&part)?);
                Self::Part(NewPart { group: part.group, task: part.task_id, key, row })
            }
            Effect::Release(release) => Self::Release(release),
        }))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Publish(new) => new.message.len(),
            Self::Store(new) => new.row.len(),
            Self::Open { body, .. } => body.len(),
            Self::Part(part) => part.row.len(),
            Self::Grow { .. } | Self::Release(_) => 0,
        }
    }

    fn carry_out(self, tx: &mut Tx<'_>, delivery: Option<(Seq, u32)>, ready: &mut Vec<GroupId>) -> Result<(), StoreError> {
        match self {
            Self::Publish(new) => tx.publish(&new)?,
            Self::Store(new) => drop(tx.store(*new)?),
            Self::Open { group, size, body } => {
                if tx.open_chord(&group, size, &body)? {
                    ready.push(group);
                }
            }
            Self::Grow { group, by } => tx.grow_chord(&group, by)?,
            Self::Part(part) => {
                if tx.part(&part)? {
                    ready.push(part.group);
                }
            }
            Self::Release(release) => match delivery {
                Some((seq, attempt)) => drop(tx.release(seq, attempt, &release)?),
                None => tracing::error!("a commit without a delivery wanted to pay for one, which means nothing"),
            },
        }
        Ok(())
    }
}
