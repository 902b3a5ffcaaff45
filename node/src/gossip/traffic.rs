//! What gossip has sent and heard.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counters; they only grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) heard: AtomicU64,
    pub(super) heard_bytes: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) withheld: AtomicU64,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Datagrams sent.
    pub sent: u64,
    /// Bytes in them, as they are on the wire behind the UDP header.
    pub sent_bytes: u64,
    /// Datagrams received that were listened to.
    pub heard: u64,
    /// Bytes in them.
    pub heard_bytes: u64,
    /// Datagrams received that were not listened to: forged, repeated, or too old.
    pub refused: u64,
    /// Conversations not begun because the node had sent its share.
    pub withheld: u64,
}

impl Counters {
    pub(super) fn read(&self) -> Traffic {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            sent: get(&self.sent),
            sent_bytes: get(&self.sent_bytes),
            heard: get(&self.heard),
            heard_bytes: get(&self.heard_bytes),
            refused: get(&self.refused),
            withheld: get(&self.withheld),
        }
    }

    pub(super) fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}
