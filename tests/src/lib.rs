//! The test harness as a product: conformance suites per seam, servers and nodes as child processes, fault injection.
#![allow(clippy::unwrap_used)]

pub mod conformance;
pub mod crash;
pub mod program;
pub mod proxy;
pub mod python;
pub mod servers;
pub mod simulation;
pub mod wait;
