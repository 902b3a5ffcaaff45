//! Numbers that decisions are handed, and delays that grow.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// A small generator (SplitMix64) for jitter: fast, seeded by the operating system, no secret depends on it.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// A generator of its own.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }

    /// A number from `[0, 1)`.
    pub(crate) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // 53 bits are what an f64 holds exactly.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Delays between attempts at something that is out of order: from 50 ms, doubled up to a bound, each between half of itself and
/// the whole.
#[derive(Debug)]
pub(crate) struct Backoff {
    dice: Dice,
    failures: u32,
    longest_ms: u64,
}

impl Backoff {
    const FIRST_MS: u64 = 50;
    const LONGEST_MS: u64 = 2_000;
    const LONGEST_BY_LINK_MS: u64 = 400;

    /// At most 2 s.
    pub(crate) fn new() -> Self {
        Self { dice: Dice::new(), failures: 0, longest_ms: Self::LONGEST_MS }
    }

    /// At most 0.4 s, for what goes over a connection that is being kept: while there is none an attempt costs nothing, as it is
    /// refused on the spot, and when there is one again work should go on.
    pub(crate) fn by_link() -> Self {
        Self { longest_ms: Self::LONGEST_BY_LINK_MS, ..Self::new() }
    }

    /// The delay after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let full = (Self::FIRST_MS << self.failures.min(8)).min(self.longest_ms);
        self.failures += 1;
        Duration::from_millis(full).mul_f64(0.5 + self.dice.roll() / 2.0)
    }

    /// It works again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: dice stay in range and spread; delays grow, stay bounded, and start over.
    #[test]
    fn chance_stays_in_bounds() {
        let mut dice = Dice::new();
        let rolls: Vec<f64> = (0..10_000).map(|_| dice.roll()).collect();
        assert!(rolls.iter().all(|roll| (0.0..1.0).contains(roll)));
        let mean = rolls.iter().sum::<f64>() / 10_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");

        let mut backoff = Backoff::new();
        let first = backoff.next();
        assert!((25..=50).contains(&first.as_millis()));
        let last = (0..20).map(|_| backoff.next()).last().unwrap();
        assert!((1_000..=2_000).contains(&last.as_millis()));
        backoff.reset();
        assert!(backoff.next().as_millis() <= 50);
        let mut backoff = Backoff::by_link();
        assert!((0..20).all(|_| backoff.next().as_millis() <= 400));
    }
}
