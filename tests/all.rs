//! Every test that needs more than one crate. See `tests/README.md`.
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod beat;
mod cli;
mod cluster;
mod compat;
mod conformance;
mod control;
mod fault;
mod fuzz;
mod golden;
mod http;
mod tidy;
mod workflows;
