//! How many slots a pool has whose size follows its work: `celery worker --autoscale` (`celery/worker/autoscale.py`).
//!
//! It grows as soon as there are more tasks than slots, and shrinks only after a while in which nothing came, as processes are
//! dear to start.

use std::{fmt, str::FromStr};

use thiserror::Error;
use umbel_proto::Millis;

/// How long nothing may have come before a pool shrinks (`AUTOSCALE_KEEPALIVE`).
const KEEP: Millis = 30_000;

/// The most slots a pool may have.
const SLOTS_MAX: usize = 10_000;

/// How large a pool may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Bounds {
    /// At most.
    pub max: usize,
    /// At least; a pool has one slot whatever is said.
    pub min: usize,
}

/// Why bounds are none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadBounds {
    /// No number, or one out of range.
    #[error("`{0}` is not a number of processes; allowed: 1 to {SLOTS_MAX}, as in `10,3`")]
    NoNumber(String),
    /// In the wrong order.
    #[error("the most, {max}, is less than the least, {min}; the most comes first, as in `10,3`")]
    Swapped {
        /// As it was given.
        max: usize,
        /// As it was given.
        min: usize,
    },
}

impl Bounds {
    /// Both in their range.
    ///
    /// # Errors
    /// When the least is more than the most.
    pub fn new(max: usize, min: usize) -> Result<Self, BadBounds> {
        let (max, min) = (max.clamp(1, SLOTS_MAX), min.max(1));
        if max < min { Err(BadBounds::Swapped { max, min }) } else { Ok(Self { max, min }) }
    }
}

impl FromStr for Bounds {
    type Err = BadBounds;

    /// `max,min`, or `max` alone.
    fn from_str(text: &str) -> Result<Self, BadBounds> {
        let number = |text: &str| {
            let found = text.trim().parse().ok().filter(|number: &usize| *number <= SLOTS_MAX);
            found.ok_or_else(|| BadBounds::NoNumber(text.to_owned()))
        };
        let (max, min) = text.split_once(',').unwrap_or((text, "0"));
        match number(max)? {
            0 => Err(BadBounds::NoNumber(max.to_owned())),
            max => Self::new(max, if min.trim().is_empty() { 0 } else { number(min)? }),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max={} min={}", self.max, self.min)
    }
}

/// What a pool is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Slots it has.
    pub slots: usize,
    /// Tasks it has: those that run and those that wait.
    pub tasks: usize,
    /// Tasks that have come since the beginning.
    pub received: u64,
}

/// The size of a pool over time.
#[derive(Debug, Clone)]
pub struct Autoscale {
    received: u64,
    /// When something came last, or the pool grew.
    active: Millis,
}

impl Autoscale {
    /// Of a pool that is begun now.
    pub fn new(now: Millis) -> Self {
        Self { received: 0, active: now }
    }

    /// How many slots it should have now. Bounds hold at once, whatever is going on.
    pub fn slots(&mut self, bounds: Bounds, sight: Sight, now: Millis) -> usize {
        let Sight { slots, tasks, received } = sight;
        if std::mem::replace(&mut self.received, received) != received {
            self.active = now;
        }
        let wanted = tasks.clamp(bounds.min, bounds.max);
        if wanted > slots {
            self.active = now;
            return wanted;
        }
        let rested = now.saturating_sub(self.active) > KEEP;
        if rested { wanted } else { slots.min(bounds.max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_for_celery() {
        assert_eq!("10,3".parse(), Ok(Bounds { max: 10, min: 3 }));
        assert_eq!("10,0".parse(), Ok(Bounds { max: 10, min: 1 }));
        assert_eq!("4".parse(), Ok(Bounds { max: 4, min: 1 }));
        assert_eq!("4,".parse(), Ok(Bounds { max: 4, min: 1 }));
        assert_eq!("3,10".parse::<Bounds>(), Err(BadBounds::Swapped { max: 3, min: 10 }));
        for wrong in ["", "0,0", "many", "10,few", "-1,1", "20000,1"] {
            assert!(matches!(wrong.parse::<Bounds>(), Err(BadBounds::NoNumber(_))), "{wrong}");
        }
    }

    /// Goal: it grows at once, to what there is and no further, and shrinks when nothing has come for as long as Celery waits.
    #[test]
    fn it_grows_at_once_and_shrinks_late() {
        let bounds = "10,3".parse().unwrap();
        let mut scale = Autoscale::new(0);
        let mut slots = |slots, tasks, received, now| scale.slots(bounds, Sight { slots, tasks, received }, now);
        assert_eq!(slots(3, 0, 0, 100), 3);
        assert_eq!(slots(3, 7, 7, 1_000), 7);
        assert_eq!(slots(7, 40, 40, 2_000), 10);
        assert_eq!(slots(10, 1, 40, 3_000), 10, "not yet");
        assert_eq!(slots(10, 0, 41, 20_000), 10, "something came");
        assert_eq!(slots(10, 0, 41, 50_000), 10);
        assert_eq!(slots(10, 5, 41, 50_001), 5, "those that run keep theirs");
        assert_eq!(slots(5, 0, 41, 50_002), 3);
    }

    #[test]
    fn bounds_that_change_hold_at_once() {
        let mut scale = Autoscale::new(0);
        let mut slots = |bounds: &str, slots| scale.slots(bounds.parse().unwrap(), Sight { slots, tasks: 9, received: 9 }, 1);
        assert_eq!(slots("4,2", 10), 4);
        assert_eq!(slots("10,5", 4), 9);
        assert_eq!(slots("12,11", 9), 11);
    }
}
