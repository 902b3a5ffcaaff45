//! Several nodes on one broker are one system.
#![allow(clippy::unwrap_used)]

mod gossip;
mod kills;
mod limits;
mod many;
mod partition;
mod processes;
mod rig;
mod simulated;
