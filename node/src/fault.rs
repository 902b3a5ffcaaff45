//! Fault points: named places in the pipeline where a test can make the code panic.
//!
//! Each node has its own [`Faults`], so that tests that share a process do not meet. Without the feature `fault-points` the
//! type is empty and passing a point is nothing. The points are: `consumer.fetched`, `consumer.fetch`, `gate.arrived`,
//! `gate.admit`, `pool.run`, `pool.finished`, `slot.run`, `slot.finished`, `aggregator.ended`, `aggregator.flushed`, `settle`,
//! `conclude`.

#[cfg(feature = "fault-points")]
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// How many of a thousand datagrams of gossip get lost on their way to nodes of this process.
#[cfg(feature = "fault-points")]
static LOST_PER_MILLE: AtomicU32 = AtomicU32::new(0);

/// Has so many of a thousand datagrams of gossip get lost, as a bad network would.
#[cfg(feature = "fault-points")]
pub fn lose_gossip(per_mille: u32) {
    LOST_PER_MILLE.store(per_mille, Ordering::Relaxed);
}

/// Whether a datagram gets lost.
#[cfg(feature = "fault-points")]
pub(crate) fn loses_gossip() -> bool {
    let per_mille = LOST_PER_MILLE.load(Ordering::Relaxed);
    per_mille > 0 && crate::redis::link::jitter() * 1_000.0 < f64::from(per_mille)
}

/// Whether a datagram gets lost: here none does.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub(crate) fn loses_gossip() -> bool {
    false
}

/// The fault points of one node.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    #[cfg(feature = "fault-points")]
    armed: Arc<Mutex<HashMap<&'static str, Vec<u64>>>>,
}

impl Faults {
    /// Passes a point.
    ///
    /// # Panics
    /// When a test has armed it for this passing.
    #[cfg(not(feature = "fault-points"))]
    #[inline(always)]
    pub(crate) fn hit(&self, _point: &'static str) {}

    /// Passes a point.
    ///
    /// # Panics
    /// When a test has armed it for this passing.
    #[cfg(feature = "fault-points")]
    pub(crate) fn hit(&self, point: &'static str) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(passings) = armed.get_mut(point) else { return };
        for left in passings.iter_mut() {
            *left -= 1;
        }
        let before = passings.len();
        passings.retain(|left| *left > 0);
        let fires = passings.len() < before;
        drop(armed);
        assert!(!fires, "fault point {point}");
    }

    /// Makes the `nth` passing of `point` from now (1 is the next) panic. May be called several times for one point.
    #[cfg(feature = "fault-points")]
    pub fn arm(&self, point: &'static str, nth: u64) {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).entry(point).or_default().push(nth.max(1));
    }

    /// How many armed passings have not come yet.
    #[cfg(feature = "fault-points")]
    pub fn waiting(&self) -> usize {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }
}
