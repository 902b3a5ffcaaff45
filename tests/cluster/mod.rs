//! Several nodes on one broker are one system.
#![allow(clippy::unwrap_used)]

mod gossip;
mod limits;
mod rig;
