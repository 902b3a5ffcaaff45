//! Envelope to invocation.
