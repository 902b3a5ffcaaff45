//! Umbel: a task cluster that takes over the worker side of Celery.
//!
//! This crate is the only one with I/O. `node/ARCHITECTURE.md` is the map.

// So that the code `#[task]` writes names this crate the same way inside of it and outside.
extern crate self as umbel;

pub mod actors;
pub mod amqp;
pub mod backends;
pub mod brokers;
pub mod claim;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod context;
pub mod control;
pub mod embedded;
pub mod executors;
pub mod expression;
pub mod facts;
pub mod fault;
pub mod gossip;
pub mod http;
pub mod huge_pages;
pub mod ledgers;
pub mod limits;
pub mod node;
pub mod redis;
pub mod schedules;
mod task;
pub mod telemetry;
pub mod telling;

pub use client::{AsyncResult, Client, SignatureExt};
pub use context::Context;
pub use executors::native::{NativeExecutor, Task, TaskFailure, TaskResult};
pub use node::{Node, NodeBuilder, NodeError, Shutdown, StartError};
pub use umbel_macros::task;
pub use umbel_proto as proto;
pub use umbel_proto::{Signature, Value};
pub use umbel_scheduler as scheduler;
