//! What can go wrong for a client.

use std::time::Duration;

use thiserror::Error;
use umbel_proto::{DecodeError, State, TaskError, TaskId, TaskName, repr};
use umbel_scheduler::canvas::CanvasError;

use crate::{backends::BackendError, brokers::BrokerError, ledgers::LedgerError};

/// Why something could not be submitted, read or ordered.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The signature cannot be launched; nothing was sent.
    #[error("cannot submit {task}: {source}")]
    Signature {
        /// The task of the signature.
        task: TaskName,
        /// What is wrong with it.
        source: CanvasError,
    },
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The result backend.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// One of the stores, and what it was asked to do.
    #[error("cannot {what}: {source}")]
    During {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<ClientError>,
    },
}

impl ClientError {
    /// Whether the same may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Signature { .. } => false,
            Self::Broker(error) => error.is_transient(),
            Self::Backend(error) => error.is_transient(),
            Self::Ledger(error) => error.is_transient(),
            Self::During { source, .. } => source.is_transient(),
        }
    }

    pub(super) fn during(self, what: &str) -> Self {
        Self::During { what: what.to_owned(), source: Box::new(self) }
    }
}

/// Why there is no value.
#[derive(Debug, Error)]
pub enum ResultError {
    /// The task failed.
    #[error("task {task_id} failed: {}", repr::error_repr(error))]
    Failed {
        /// The task; of a group, the first member in order that failed.
        task_id: TaskId,
        /// Its exception.
        error: TaskError,
    },
    /// The task was revoked, has expired, or was ended by force.
    #[error("task {task_id} was not finished: {reason}")]
    Revoked {
        /// The task.
        task_id: TaskId,
        /// `revoked`, `expired` or `terminated`.
        reason: String,
    },
    /// There was no result in time. The task may still finish.
    #[error("no result of task {task_id} within {after:?}: it is {}", state.as_str())]
    TimedOut {
        /// The task; of a group, the first member that has not ended.
        task_id: TaskId,
        /// Its last known state; PENDING is unknown or waiting.
        state: State,
        /// How long was waited.
        after: Duration,
    },
    /// The value is not of the type that was asked for.
    #[error("the result of task {task_id} is of another type: {source}")]
    Type {
        /// The task.
        task_id: String,
        /// Where it differs.
        source: DecodeError,
    },
    /// The backend cannot be read.
    #[error(transparent)]
    Client(#[from] ClientError),
}
