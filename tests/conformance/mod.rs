//! The conformance suites, on every implementation.

mod amqp;
mod devices;
mod embedded;
mod errbacks;
mod killed;
mod limits;
mod native;
mod python;
mod python_endings;
mod redis;
