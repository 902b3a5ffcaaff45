//! The programs, seen from outside.

mod demo;
mod life;
mod redis;
mod surface;
mod verbs;

use umbel_tests::program::Call;

/// A call of `node`.
fn node() -> Call {
    Call::new(env!("CARGO_BIN_EXE_node-under-test"), "node")
}

/// A call of `umbel`.
fn umbel() -> Call {
    Call::new(env!("CARGO_BIN_EXE_umbel-under-test"), "umbel")
}
