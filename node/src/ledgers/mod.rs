//! The ledger seam: how an ending becomes durable.
//!
//! **What a contributor writes.** A [`Ledger`] that carries out [`Commit`]s. **What it must promise.** All effects of a commit
//! happen or none, and only if its fence holds; the commits of one batch are independent of each other, and each has its own
//! answer. A chord's last part is told to exactly one committer ([`Answer::Done`]'s `ready`); should that one die before it has
//! concluded the chord, [`Ledger::unconcluded`] lists the chord again, and the fence lets only one conclusion through.
//!
//! **What bounds it.** The credits of the claims whose endings are in a batch. **When it dies.** `Err` means that it is not
//! known whether anything happened; the same batch may be sent again, and its fences keep it from happening twice.
//! The proof is `tests/src/conformance/ledger.rs`.

pub mod embedded;
pub mod phased;
pub mod redis;
mod stamp;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use thiserror::Error;
use umbel_proto::Invocation;
use umbel_scheduler::{Answer, Commit, ReadyChord, admission::Ended};

pub use self::stamp::Stamp;

/// Makes endings durable.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync + 'static {
    /// What it is called in metrics and tables.
    fn kind(&self) -> &'static str;

    /// Carries out a batch; an answer for each commit, in order.
    async fn commit(&self, batch: Vec<Commit>) -> Result<Vec<Answer>, LedgerError>;

    /// Of which messages nothing is left to run, where an ending can be there while its message is not settled, or a message
    /// twice. Whoever has taken one asks before it runs, if it came again or has a [`Stamp`].
    async fn ended(&self, taken: &[Taken]) -> Result<Vec<Option<Ended>>, LedgerError> {
        Ok(vec![None; taken.len()])
    }

    /// Chords that have been complete for a while but not concluded: whoever was told of them has died.
    async fn unconcluded(&self, limit: usize) -> Result<Vec<ReadyChord>, LedgerError>;
}

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The message.
    pub invocation: Arc<Invocation>,
    /// Whether it may have been taken before.
    pub again: bool,
}

/// What can go wrong with a ledger.
#[derive(Debug, Clone, Error)]
pub enum LedgerError {
    /// The store cannot be reached or does not answer now; the same batch may be sent later.
    #[error("the {kind} ledger is not available: {reason}")]
    Unavailable {
        /// Which kind of ledger.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// The store refuses this batch, now and later.
    #[error("the {kind} ledger refuses: {reason}")]
    Refused {
        /// Which kind of ledger.
        kind: &'static str,
        /// Why.
        reason: String,
    },
}

impl LedgerError {
    /// Whether the same batch may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
