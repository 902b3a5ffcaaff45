//! The conformance suites, on every implementation.

mod embedded;
mod killed;
mod redis;
mod native;
