//! What can go wrong with RabbitMQ, in this project's terms.

use lapin::{ErrorKind, protocol::AMQPErrorKind};
use thiserror::Error;

use crate::{backends::BackendError, brokers::BrokerError};

/// What it is called in URLs, metrics and tables.
pub(crate) const KIND: &str = "amqp";

/// What can go wrong with a request.
///
/// Messages name the server without user or password, and never hold what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AmqpError {
    /// The server cannot be reached, does not answer, or has closed the channel: the same request may work later. It is not
    /// known whether it has been carried out.
    #[error("{0}")]
    Unavailable(String),
    /// The server refuses this very request.
    #[error("{0}")]
    Refused(String),
}

impl AmqpError {
    /// Whether the same request may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// The code by which the server closed a channel, if that is what an error tells.
pub(crate) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)) => Some(error.get_id()),
        _ => None,
    }
}

/// There is no such queue or exchange.
pub(crate) const NOT_FOUND: u16 = 404;
/// Somebody else has it to himself.
pub(crate) const RESOURCE_LOCKED: u16 = 405;
/// It exists with other properties.
pub(crate) const PRECONDITION_FAILED: u16 = 406;
/// Not allowed.
pub(crate) const ACCESS_REFUSED: u16 = 403;

/// Judges an error of the client library; `what` was asked.
pub(crate) fn judge(error: &lapin::Error, what: &str) -> AmqpError {
    let reason = format!("{what}: {error}");
    match reply_code(error) {
        Some(ACCESS_REFUSED | NOT_FOUND | PRECONDITION_FAILED) => AmqpError::Refused(reason),
        _ => AmqpError::Unavailable(reason),
    }
}

impl From<AmqpError> for BrokerError {
    fn from(error: AmqpError) -> Self {
        match error {
            AmqpError::Unavailable(reason) => Self::Unavailable { kind: KIND, reason },
            AmqpError::Refused(reason) => Self::Refused { kind: KIND, reason },
        }
    }
}

impl From<AmqpError> for BackendError {
    fn from(error: AmqpError) -> Self {
        match error {
            AmqpError::Unavailable(reason) => Self::Unavailable { kind: "rpc", reason },
            AmqpError::Refused(reason) => Self::Refused { kind: "rpc", reason },
        }
    }
}
