//! What can go wrong with Redis, in this project's terms.

use redis::{ErrorKind, RedisError as Cause, ServerErrorKind};
use thiserror::Error;

use crate::{backends::BackendError, brokers::BrokerError, ledgers::LedgerError};

/// What it is called in URLs, metrics and tables.
pub(crate) const KIND: &str = "redis";

/// What can go wrong with a command.
///
/// Messages name the server without user or password, and never hold what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RedisError {
    /// The server cannot be reached, does not answer, is loading or is a replica: the same command may work later. It is not
    /// known whether the command has been carried out.
    #[error("{0}")]
    Unavailable(String),
    /// The server refuses this very command.
    #[error("{0}")]
    Refused(String),
}

impl RedisError {
    /// Whether the same command may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// What an answer that is not of the expected form means: another program behind this address, or a version not known.
    pub(crate) fn strange(what: &str) -> Self {
        Self::Refused(format!("the server's answer to {what} has an unexpected form; is it Redis 6.2 or later?"))
    }
}

/// Judges an error of the client library. `at` names the server.
pub(crate) fn judge(error: &Cause, at: &str) -> RedisError {
    let unavailable = matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
            )
    ) || error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        // A server that is out of memory or busy with somebody's script will take commands again.
        || matches!(error.code(), Some("OOM" | "BUSY" | "MISCONF" | "NOREPLICAS" | "UNKILLABLE"));
    let reason = if error.is_timeout() { format!("{at} does not answer") } else { format!("{at}: {error}") };
    if unavailable { RedisError::Unavailable(reason) } else { RedisError::Refused(reason) }
}

/// Whether the connection an error came over is of no use any more.
pub(crate) fn breaks(error: &Cause) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || matches!(error.kind(), ErrorKind::Parse | ErrorKind::Server(ServerErrorKind::ReadOnly))
}

impl From<RedisError> for BrokerError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Unavailable(reason) => Self::Unavailable { kind: KIND, reason },
            RedisError::Refused(reason) => Self::Refused { kind: KIND, reason },
        }
    }
}

impl From<RedisError> for BackendError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Unavailable(reason) => Self::Unavailable { kind: KIND, reason },
            RedisError::Refused(reason) => Self::Refused { kind: KIND, reason },
        }
    }
}

impl From<RedisError> for LedgerError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Unavailable(reason) => Self::Unavailable { kind: KIND, reason },
            RedisError::Refused(reason) => Self::Refused { kind: KIND, reason },
        }
    }
}
