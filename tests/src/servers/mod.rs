//! Servers as child processes: private ones, on ports nobody else has, gone with the test.

pub mod endings;
pub mod rabbit;
pub mod redis;
