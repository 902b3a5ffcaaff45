//! When to send what is to be made durable: alone and at once, or together a moment later.
//!
//! What a broker is asked costs it the same whether one ending is in it or fifty. So while endings come faster than it answers, they
//! are gathered for [`TURN`]; where one comes at a time nothing waits, and a client that waits for its result is not kept.

use std::time::Duration;

/// How long endings are gathered while many come, from the beginning of one flush to that of the next.
pub const TURN: Duration = Duration::from_millis(1);

/// With so many there is no point in waiting for more: batches of fifty cost a broker hardly more for each than larger ones do.
pub const ENOUGH: usize = 64;

/// As many as this in each flush, of late, are many.
const MANY: f64 = 3.0;

/// How flushes went, of late.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// How many commits a flush carried, as a moving average.
    usual: f64,
}

impl Pace {
    /// A flush of so many commits begins.
    pub fn begins(&mut self, commits: usize) {
        self.usual += (commits as f64 - self.usual) / 8.0;
    }

    /// How soon after the beginning of the last flush the next may begin, with so many commits in it.
    pub fn next(&self, commits: usize) -> Duration {
        if self.usual < MANY || commits >= ENOUGH { Duration::ZERO } else { TURN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(flushes: impl IntoIterator<Item = usize>) -> Pace {
        let mut pace = Pace::default();
        flushes.into_iter().for_each(|commits| pace.begins(commits));
        pace
    }

    /// Goal: who comes alone never waits; not even soon after another, and not after a single large flush.
    #[test]
    fn one_at_a_time_goes_at_once() {
        for pace in [after([]), after([1; 100]), after([2; 100]), after([1, 1, 16])] {
            assert_eq!(pace.next(1), Duration::ZERO);
        }
    }

    /// Goal: where many come they are gathered for a turn, and no longer than until there are enough.
    #[test]
    fn many_go_together() {
        let pace = after([5; 40]);
        assert_eq!(pace.next(1), TURN);
        assert_eq!(pace.next(ENOUGH - 1), TURN);
        assert_eq!(pace.next(ENOUGH), Duration::ZERO);
    }

    /// Goal: when it is quiet again, it takes a few flushes until nothing waits any more.
    #[test]
    fn quiet_is_noticed() {
        let mut pace = after([20; 40]);
        let flushes = (1..).find(|_| {
            pace.begins(1);
            pace.next(1).is_zero()
        });
        assert!(flushes.is_some_and(|flushes| flushes < 24), "{flushes:?}");
    }
}
