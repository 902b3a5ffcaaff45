//! Invocation to envelope.
