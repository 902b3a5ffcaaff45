//! Why bytes could not be read or values not be written.

use thiserror::Error;

/// Bytes from outside that are not what they should be.
///
/// Harmless by construction: a decode error quarantines one message and touches nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot decode {}: {reason}", if field.is_empty() { "the value" } else { field.as_str() })]
pub struct DecodeError {
    /// The field at fault, as a path from the outside in: `headers.eta`, `body[2].chain[0].options`; empty for the whole of it.
    pub field: String,
    /// What is wrong with it, in words for a person, without the (possibly secret, possibly huge) content.
    pub reason: String,
}

impl DecodeError {
    /// An error at `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// The same error seen from one level further out: `eta` becomes `headers.eta`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => outer.to_owned(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        self
    }
}

/// A value that the wire has no form for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot encode {what}: {reason}")]
pub struct EncodeError {
    /// What could not be written.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl EncodeError {
    /// An error about `what`.
    pub fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into() }
    }
}

/// Bounds on what is decoded; beyond them a message is refused with a [`DecodeError`] instead of being allocated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in bytes, before and after decompression.
    pub size_bytes: usize,
    /// The deepest nesting of lists and maps.
    pub depth: usize,
}

impl Default for Limits {
    /// 256 MiB (Redis and RabbitMQ allow no more by default in practice) and 512 levels.
    fn default() -> Self {
        Self { size_bytes: 256 << 20, depth: 512 }
    }
}
