//! How much gossip may cost.
//!
//! Gossip says the same thing to everybody again and again, so it never matters when one word of it is not said: what begins
//! a conversation is dropped when the node has sent its share, and how fast news spread follows from it. A cluster that grows
//! gossips more slowly instead of louder, and the failure detector learns the pace.

use std::time::{Duration, Instant};

/// Bytes a second of one node.
pub const BYTES_PER_SECOND: u32 = 3_500;

/// What a datagram costs below us: IP and UDP headers.
const HEADERS: usize = 28;

/// A bucket of bytes.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: f64::from(per_second), left: f64::from(per_second), at: now }
    }

    /// Whether a conversation may be begun.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).min(Duration::from_secs(10));
        self.at = now;
        self.left = (self.left + passed.as_secs_f64() * self.per_second).min(self.per_second);
        self.left > 0.0
    }

    /// A datagram of so many bytes has been sent. Answers are always sent, and are paid for afterwards.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.left -= (bytes + HEADERS) as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_with_time() {
        let begin = Instant::now();
        let mut budget = Budget::new(1_000, begin);
        let mut sent = 0;
        for ms in 0..10_000 {
            let now = begin + Duration::from_millis(ms);
            if budget.allows(now) {
                budget.sent(300 - HEADERS);
                sent += 300;
            }
        }
        assert!((10_000..=11_500).contains(&sent), "a second's worth at once, then the rate: {sent}");
        assert!(!budget.allows(begin + Duration::from_secs(10)) || sent < 11_300);
    }
}
