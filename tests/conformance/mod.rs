//! The conformance suites, on every implementation.

mod amqp;
mod devices;
mod embedded;
mod killed;
mod limits;
mod native;
mod python;
mod redis;
