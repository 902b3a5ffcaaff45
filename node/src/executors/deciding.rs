//! What a node decides of a task without a run that tells how it ended: it was revoked, has expired, lost its process, ran into a hard limit.
//!
//! Where an executor writes endings itself, because the node cannot ([`umbel_proto::Outcome::Delegated`]), it is told of these before
//! the message is let go; where somebody on its side merely listens, likewise.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use umbel_proto::{Invocation, TaskError};
use umbel_scheduler::settlement::Ending;

use super::SlotDied;

/// Who is to know of such decisions.
#[async_trait]
pub trait Hearer: fmt::Debug + Send + Sync {
    /// What it wants to know of how `invocation` ends. Asked also of tasks that nobody knows.
    fn interest(&self, invocation: &Invocation) -> Interest;

    /// Whether it stores the ends of all tasks itself, so that nothing of them is where the node has its results.
    fn ends_everything(&self) -> bool;

    /// Is told how a task has ended that did not tell, and has stored that when it returns, if it stores endings. It may be told again.
    ///
    /// # Errors
    /// When it could not be stored, or nobody could be told.
    async fn decided(&self, decided: &Decided) -> Result<(), SlotDied>;
}

/// What an executor wants to know of such decisions about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Interest {
    /// Nothing.
    #[default]
    None,
    /// That it is revoked. What is stored is the node's.
    Revoked,
    /// Everything: it stores endings itself.
    All,
}

/// A decision.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The task.
    pub invocation: Arc<Invocation>,
    /// How it has ended.
    pub verdict: Verdict,
}

/// How a task has ended that did not tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// FAILURE.
    Failed(TaskError),
    /// REVOKED.
    Revoked {
        /// In Celery's words: `revoked`, `expired`, `terminated`.
        reason: String,
        /// Whether it has expired.
        expired: bool,
        /// Whether it was ended by force.
        terminated: bool,
        /// The signal used, if one was.
        signal: Option<i32>,
    },
}

impl Verdict {
    /// The verdict in an ending, if it is for good and nobody has told it.
    pub(crate) fn of(ending: &Ending) -> Option<Self> {
        match ending {
            Ending::Failed { error } => Some(Self::Failed(error.clone())),
            Ending::Rejected { error, .. } => error.clone().map(Self::Failed),
            Ending::Revoked { expired, terminated, signal, reason } => {
                Some(Self::Revoked { reason: reason.clone(), expired: *expired, terminated: *terminated, signal: *signal })
            }
            _ => None,
        }
    }

    /// Whether somebody with this interest wants to know.
    pub(crate) fn is_for(&self, interest: Interest) -> bool {
        match self {
            Self::Failed(_) => interest == Interest::All,
            Self::Revoked { .. } => interest >= Interest::Revoked,
        }
    }
}
