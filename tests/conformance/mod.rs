//! The conformance suites, on every implementation.

mod embedded;
mod killed;
mod native;
mod redis;
