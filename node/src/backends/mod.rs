//! The result backend seam: where results wait to be read.
//!
//! **What a contributor writes.** A [`Backend`]. **What it must promise.** A stored SUCCESS is never overwritten. A reader
//! that [`Backend::watch`]es an id sees the record that is there and every one that is stored afterwards, in order, or at
//! least the last. Records of finished tasks disappear after the expiry the backend was opened with.
//!
//! **What bounds it.** Record size by the decoder's limits, number by expiry. **When it dies.** Transient errors; callers ask
//! again. The proof is `tests/src/conformance/backend.rs`.

pub mod disabled;
pub mod embedded;
mod endings;
pub mod redis;
pub mod rpc;

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;
use umbel_proto::{GroupId, ResultRecord, ResultTuple, TaskId};
use umbel_scheduler::{ChordPart, OpenChord, ReadyChord};

pub use self::endings::{Beginning, Ending, Endings, Sought};
use crate::brokers::Held;

/// A store of results.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Who counts for limits that hold for all nodes with this backend; `None` where it cannot.
    fn limits(&self) -> Option<std::sync::Arc<dyn crate::limits::Limits>> {
        None
    }

    /// What it is called in URLs, metrics and tables.
    fn kind(&self) -> &'static str;

    /// Stores results; an answer for each. `Ok(false)`: a SUCCESS was there already and stays.
    async fn store(&self, batch: Vec<ResultRecord>) -> Vec<Result<bool, BackendError>>;

    /// As [`Backend::store`], for a ledger: each result with the delivery it is the ending of.
    async fn store_of(&self, batch: Vec<(Option<Held>, ResultRecord)>) -> Vec<Result<bool, BackendError>> {
        self.store(batch.into_iter().map(|(_, record)| record).collect()).await
    }

    /// Reads results; `None` where nothing is stored (Celery's PENDING).
    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<ResultRecord>>, BackendError>;

    /// Removes results.
    async fn forget(&self, ids: &[TaskId]) -> Result<(), BackendError>;

    /// The records of `ids`: those that are there first, then each new one.
    async fn watch(&self, ids: &[TaskId]) -> Result<Box<dyn Watch>, BackendError>;

    /// Keeps the shape of a group (`GroupResult.save`).
    async fn save_group(&self, group: &GroupId, tree: &ResultTuple) -> Result<(), BackendError>;

    /// Reads it.
    async fn group(&self, group: &GroupId) -> Result<Option<ResultTuple>, BackendError>;

    /// Carries out steps of chords, in order, for a ledger that keeps messages elsewhere; the chords whose last part was among
    /// them are this process's to conclude. Each step is whole or not at all, and a part that comes twice counts once.
    async fn chord_steps(&self, _steps: Vec<ChordStep>) -> Result<Vec<ReadyChord>, BackendError> {
        Err(self.no_chords())
    }

    /// Whether this process may conclude a chord now: it was told of it, or nobody who was has concluded it.
    async fn claim_chord(&self, _group: &GroupId) -> Result<bool, BackendError> {
        Err(self.no_chords())
    }

    /// Concludes a chord that was claimed; it is gone, and so are its parts, unless it has `failed`. `false` when it is another's meanwhile.
    async fn close_chord(&self, _group: &GroupId, _failed: bool) -> Result<bool, BackendError> {
        Err(self.no_chords())
    }

    /// As [`Ledger::unconcluded`](crate::ledgers::Ledger::unconcluded), for a ledger that keeps messages elsewhere.
    async fn unconcluded(&self, _limit: usize) -> Result<Vec<ReadyChord>, BackendError> {
        Err(self.no_chords())
    }

    /// Who remembers endings for a ledger that keeps messages elsewhere; `None` where nobody does.
    fn endings(&self) -> Option<&dyn Endings> {
        None
    }

    /// What a backend answers that counts chords only inside of its own ledger.
    fn no_chords(&self) -> BackendError {
        BackendError::Refused { kind: self.kind(), reason: "it does not count chords for messages that are kept elsewhere".to_owned() }
    }

    /// How far a chord has come; `None` when there is no such chord any more, or never was.
    async fn chord(&self, group: &GroupId) -> Result<Option<ChordProgress>, BackendError>;
}

/// Steps of chords where there is no place to count them in: none can be begun. The part of one that was begun elsewhere, for
/// another result backend, is told in the log: refusing its task's ending would run the task again for ever.
fn without_a_store(kind: &'static str, steps: &[ChordStep]) -> Result<Vec<ReadyChord>, BackendError> {
    for step in steps {
        match step {
            ChordStep::Open(_) => return Err(chords_need_a_store(kind)),
            ChordStep::Grow { group, .. } | ChordStep::Part(ChordPart { group, .. }) => {
                tracing::error!(%group, "a part of a chord is not counted: {}", chords_need_a_store(kind));
            }
        }
    }
    Ok(Vec::new())
}

/// What backends answer that have no place to count parts in.
fn chords_need_a_store(kind: &'static str) -> BackendError {
    let reason = "a chord needs a result store that counts its parts; set CELERY_RESULT_BACKEND to redis://host:6379/1".to_owned();
    BackendError::Refused { kind, reason }
}

/// A stream of records.
#[async_trait]
pub trait Watch: Send + fmt::Debug {
    /// The next record. Dropping the future loses none.
    async fn next(&mut self) -> Result<ResultRecord, BackendError>;
}

/// How far a chord has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChordProgress {
    /// Parts that complete it.
    pub size: u32,
    /// Parts there are.
    pub done: u32,
}

/// One step of a chord.
#[derive(Debug, Clone, PartialEq)]
pub enum ChordStep {
    /// Begin to count.
    Open(OpenChord),
    /// Expect more parts.
    Grow {
        /// The chord.
        group: GroupId,
        /// How many more.
        by: u32,
    },
    /// Record how a member ended.
    Part(ChordPart),
}

/// What can go wrong with a result backend.
#[derive(Debug, Clone, Error)]
pub enum BackendError {
    /// It cannot be reached or does not answer now; the same call may work later.
    #[error("the {kind} result backend is not available: {reason}")]
    Unavailable {
        /// Which kind of backend.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// It refuses this very request, or holds what cannot be read.
    #[error("the {kind} result backend refuses: {reason}")]
    Refused {
        /// Which kind of backend.
        kind: &'static str,
        /// Why.
        reason: String,
    },
}

impl BackendError {
    /// Whether the same call may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
