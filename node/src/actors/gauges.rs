//! What the pipeline is doing now, in numbers that anybody may read at any time; gossip tells them to others. Each has one writer; readers may be a moment late, and nothing that must not be lost
//! depends on them.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

/// Whether the node takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It does.
    Running,
    /// It takes no more, and finishes what it has.
    Draining,
    /// It says farewell.
    Leaving,
}

/// One pool.
#[derive(Debug, Default)]
pub(crate) struct PoolGauge {
    slots: AtomicU32,
    busy: AtomicU32,
    waiting: AtomicU32,
}

impl PoolGauge {
    /// Written by the pool after each message.
    pub(crate) fn set(&self, slots: usize, busy: usize, waiting: usize) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.slots.store(number(slots), Ordering::Relaxed);
        self.busy.store(number(busy), Ordering::Relaxed);
        self.waiting.store(number(waiting), Ordering::Relaxed);
    }

    /// Slots that nothing waits for.
    pub(crate) fn idle(&self) -> u32 {
        let (slots, busy, waiting) = self.read();
        slots.saturating_sub(busy.saturating_add(waiting))
    }

    /// Slots, busy ones, and tasks that wait for one.
    pub(crate) fn read(&self) -> (u32, u32, u32) {
        (self.slots.load(Ordering::Relaxed), self.busy.load(Ordering::Relaxed), self.waiting.load(Ordering::Relaxed))
    }
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) pools: Vec<PoolGauge>,
    /// Written by the supervisor.
    pub(crate) standing: watch::Sender<Standing>,
}

impl Gauges {
    /// Of pools with so many slots each.
    pub(crate) fn new(slots: &[usize]) -> Self {
        let pools = slots.iter().map(|slots| {
            let gauge = PoolGauge::default();
            gauge.set(*slots, 0, 0);
            gauge
        });
        Self { pools: pools.collect(), standing: watch::Sender::new(Standing::Running) }
    }

    /// A later standing; there is no way back.
    pub(crate) fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|now| {
            let later = standing > *now;
            *now = standing.max(*now);
            later
        });
    }

    /// Slots, busy ones, and waiting tasks of all pools.
    pub(crate) fn sum(&self) -> (u32, u32, u32) {
        self.pools.iter().map(PoolGauge::read).fold((0, 0, 0), |(slots, busy, waiting), (s, b, w)| (slots + s, busy + b, waiting + w))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_summed_and_standing_goes_one_way() {
        let gauges = Gauges::new(&[4, 2]);
        gauges.pools[0].set(4, 3, 0);
        gauges.pools[1].set(2, 2, 9);
        assert_eq!((gauges.pools[0].idle(), gauges.pools[1].idle()), (1, 0));
        assert_eq!(gauges.sum(), (6, 5, 9));
        gauges.stand(Standing::Leaving);
        gauges.stand(Standing::Draining);
        assert_eq!(*gauges.standing.borrow(), Standing::Leaving);
    }
}
