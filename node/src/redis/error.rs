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

/// The code of an error that a script met. Servers before 7.0 answer `ERR Error running script`, and the error itself stands in the text.
fn code(error: &Cause) -> Option<&str> {
    let text = error.detail().filter(|text| error.code() == Some("ERR") && text.contains("Error running script"));
    let wrapped = text.and_then(|text| PASSING.into_iter().find(|code| text.contains(&format!("-{code} "))));
    wrapped.or_else(|| error.code())
}

/// Codes of a server that will take commands again: it is out of memory, busy with somebody's script, or a replica.
const PASSING: [&str; 6] = ["OOM", "BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE", "READONLY"];

/// Judges an error of the client library. `at` names the server.
pub(crate) fn judge(error: &Cause, at: &str) -> RedisError {
    let unavailable = matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::Server(
                ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown
            )
    ) || error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || code(error).is_some_and(|code| PASSING.contains(&code));
    let reason = if error.is_timeout() { format!("{at} does not answer") } else { format!("{at}: {error}") };
    if unavailable { RedisError::Unavailable(reason) } else { RedisError::Refused(reason) }
}

/// Whether the connection an error came over is of no use any more.
pub(crate) fn breaks(error: &Cause) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || code(error) == Some("READONLY")
        || matches!(error.kind(), ErrorKind::Parse)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(line: &str) -> Cause {
        redis::parse_redis_value(line.as_bytes()).and_then(redis::Value::extract_error).unwrap_err()
    }

    /// Goal: what a script met on a server before 7.0 is judged like what it meets on one after.
    #[test]
    fn wrapped_errors_are_seen_through() {
        let text = "-ERR Error running script (call to f_2c67): @user_script:31: @user_script: 31: ";
        for (error, passes) in [
            ("-OOM command not allowed when used memory > 'maxmemory'.", true),
            ("-READONLY You can't write against a read only replica.", true),
            ("-NOREPLICAS Not enough good replicas to write.", true),
            ("-WRONGTYPE Operation against a key holding the wrong kind of value", false),
        ] {
            let wrapped = answered(&format!("{text}{error}\r\n"));
            for met in [wrapped, answered(&format!("{error}\r\n"))] {
                assert_eq!(judge(&met, "here").is_transient(), passes, "{error}");
                assert_eq!(breaks(&met), error.starts_with("-READONLY"), "{error}");
            }
        }
    }
}
