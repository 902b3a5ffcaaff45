//! Umbel: a task cluster that takes over the worker side of Celery.
//!
//! This crate is the only one with I/O. `node/ARCHITECTURE.md` is the map.

pub mod backends;
pub mod brokers;
pub mod claim;
pub mod executors;
pub mod facts;
pub mod ledgers;

pub use umbel_macros::task;
pub use umbel_proto as proto;
pub use umbel_scheduler as scheduler;
