//! What the clock of whoever counts shows, as far as a node can know.

use tokio::time::{Duration, Instant};
use umbel_proto::Millis;

/// How much of its distance an answer that was long on its way counts.
const FOLLOW: f64 = 1.0 / 50.0;

/// Another's clock, by what its answers say.
#[derive(Debug, Default)]
pub(super) struct KeepersClock {
    /// What it showed at an instant. Whatever is heard of it is a little old, and least so when nothing was in the answer's way.
    known: Option<(Instant, f64)>,
}

impl KeepersClock {
    /// It showed `now` at some time before `heard`.
    pub(super) fn heard(&mut self, now: Millis, heard: Instant) {
        let now = now as f64;
        let shown = match self.known {
            None => now,
            Some((instant, shown)) => {
                let expected = shown + millis(heard.saturating_duration_since(instant));
                // An older answer is followed slowly: if the way has become longer, or one clock is slower, all of them are older.
                if now >= expected { now } else { expected + (now - expected) * FOLLOW }
            }
        };
        self.known = Some((heard, shown));
    }

    /// The instant at which it shows `at`, when it showed `now` between `asked` and `heard`. Whatever has been set on it meanwhile:
    /// what has been heard just now holds.
    pub(super) fn instant(&self, at: Millis, now: Millis, asked: Instant, heard: Instant) -> Instant {
        let wait = Duration::from_millis((at - now).max(0).unsigned_abs());
        let (earliest, latest) = (asked + wait, heard + wait);
        let Some((instant, shown)) = self.known else { return latest };
        let ahead = at as f64 - shown;
        let distance = Duration::try_from_secs_f64(ahead.abs() / 1_000.0).unwrap_or(Duration::MAX);
        let found = if ahead < 0.0 { instant.checked_sub(distance) } else { instant.checked_add(distance) };
        found.unwrap_or(latest).clamp(earliest, latest)
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Goal: an answer that was long on its way does not move the time of a start, and a clock that was set does.
    #[test]
    fn slow_answers_are_seen_through() {
        let begun = Instant::now();
        let mut clock = KeepersClock::default();
        // It shows 10,000 at the beginning, and an answer needs a millisecond.
        clock.heard(10_000, begun + MS);
        let prompt = clock.instant(10_100, 10_000, begun, begun + MS);
        assert_eq!(prompt, begun + MS * 101);
        clock.heard(11_000, begun + MS * 1_030);
        let slow = clock.instant(11_100, 11_000, begun + MS * 1_000, begun + MS * 1_030);
        assert!(slow - begun < MS * 1_103, "{:?}", slow - begun);
        clock.heard(5_000, begun + MS * 2_001);
        let set = clock.instant(5_100, 5_000, begun + MS * 2_000, begun + MS * 2_001);
        assert!((MS * 2_100..=MS * 2_101).contains(&(set - begun)), "{:?}", set - begun);
        clock.heard(90_000, begun + MS * 3_001);
        assert_eq!(clock.instant(90_000, 90_000, begun + MS * 3_000, begun + MS * 3_001), begun + MS * 3_001);
    }
}
