//! Pools whose size follows their work (`--autoscale`): looked at a few times a second, decided by `scheduler::autoscale`.

use std::time::Duration;

use tokio::time::Instant;
use umbel_scheduler::autoscale::{Autoscale, Sight};

use super::{super::report::Phase, State};
use crate::{clock, facts::Kind};

/// How often is looked. Celery looks each second, and at each task.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// When to look again, and what is remembered of each pool.
pub(super) struct Scaling {
    /// By pool; `None` where the size is fixed.
    pools: Vec<Option<Autoscale>>,
    next: Option<Instant>,
}

impl Scaling {
    /// Of pools that follow their work or do not.
    pub(super) fn new(follow: &[bool]) -> Self {
        let pools = follow.iter().map(|follow| follow.then(|| Autoscale::new(clock::now()))).collect();
        Self { pools, next: follow.contains(&true).then(Instant::now) }
    }

    /// When to look.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }
}

impl State {
    /// Looks, and gives pools other sizes where it is time.
    pub(super) fn scale(&mut self) {
        let bounds = *self.shared.autoscale.borrow();
        let Some(bounds) = bounds.filter(|_| self.phase != Phase::Draining) else {
            self.scaling.next = None;
            return;
        };
        self.scaling.next = Some(Instant::now() + LOOK_EVERY);
        let (now, received) = (clock::now(), self.shared.facts.counters().total(Kind::Received));
        let mut changed = false;
        for (index, slots) in self.slots.iter_mut().enumerate() {
            let Some(scale) = &mut self.scaling.pools[index] else { continue };
            let (_, busy, waiting) = self.shared.gauges.pools[index].read();
            let wanted = scale.slots(bounds, Sight { slots: *slots, tasks: (busy + waiting) as usize, received }, now);
            changed |= std::mem::replace(slots, wanted) != wanted;
        }
        if changed {
            self.tell_sizes();
        }
    }

    /// Takes messages for as many slots as there may be from now on.
    pub(super) fn bounds_changed(&mut self) {
        let bounds = *self.shared.autoscale.borrow();
        if let Some(bounds) = bounds.filter(|_| self.phase != Phase::Draining) {
            let most = self.slots.iter().zip(&self.scaling.pools).map(|(slots, scale)| scale.as_ref().map_or(*slots, |_| bounds.max));
            self.shared.credits.resize(u32::try_from(most.sum::<usize>()).unwrap_or(u32::MAX));
            self.scale();
            self.set_alarm();
        }
    }
}
