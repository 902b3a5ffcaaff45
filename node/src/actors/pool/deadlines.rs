//! What a pool has to do at which time, and for which slot.

use std::collections::BTreeSet;

use tokio::time::Instant;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    /// The soft time limit: tell the task.
    Soft,
    /// The hard time limit: end it by force.
    Hard,
    /// It has not ended though it was told to: give its slot up.
    Grace,
    /// Open another slot in the place of a dead one.
    Replace,
}

/// Sorted by time. Bounded: at most one of each kind for each slot.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Instant, usize, Deadline)>);

impl Deadlines {
    pub(super) fn insert(&mut self, at: Instant, slot: usize, deadline: Deadline) {
        self.0.insert((at, slot, deadline));
    }

    pub(super) fn remove(&mut self, at: Instant, slot: usize, deadline: Deadline) {
        self.0.remove(&(at, slot, deadline));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, ..)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(usize, Deadline)> {
        let (_, slot, deadline) = self.0.first().filter(|(at, ..)| *at <= now).copied().and_then(|first| self.0.take(&first))?;
        Some((slot, deadline))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: deadlines come out by time, only when they are due, and not after they were removed.
    #[test]
    fn come_when_they_are_due() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut deadlines = Deadlines::default();
        deadlines.insert(at(3), 1, Deadline::Hard);
        deadlines.insert(at(1), 2, Deadline::Soft);
        deadlines.insert(at(2), 1, Deadline::Soft);
        deadlines.remove(at(2), 1, Deadline::Soft);
        assert_eq!(deadlines.next(), Some(at(1)));
        assert_eq!(deadlines.pop_due(start), None);
        assert_eq!(deadlines.pop_due(at(2)), Some((2, Deadline::Soft)));
        assert_eq!(deadlines.pop_due(at(2)), None);
        assert_eq!(deadlines.pop_due(at(3)), Some((1, Deadline::Hard)));
        assert_eq!(deadlines.next(), None);
    }
}
