//! When and whether to run a task again: `celery/app/task.py::retry`, `celery/app/autoretry.py`.

use umbel_proto::{Millis, Retry};

use crate::{Backoff, TaskSpec};

/// The answer to a task that asks for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Run again at this time.
    At(Millis),
    /// No attempts are left.
    Exhausted,
}

/// Decides. `retries` is how many were made before this run; `dice` is drawn from `[0, 1)` and sets the jitter.
///
/// `max_retries` of 3 means four runs. A delay that the task names wins; else an automatic retry grows by the task's
/// [`Backoff`], and any other waits `retry_delay_secs` (wire contract §8.4). Only the jitter differs from Celery's in grain:
/// it is drawn in milliseconds, not in whole seconds.
pub fn again(ask: &Retry, retries: u32, spec: &TaskSpec, now: Millis, dice: f64) -> Again {
    let max = ask.max_retries.unwrap_or(spec.max_retries);
    if max.is_some_and(|max| retries >= max) {
        return Again::Exhausted;
    }
    let secs = match (ask.countdown_secs, spec.backoff) {
        (Some(secs), _) => secs,
        (None, Some(backoff)) if ask.automatic => backoff.secs(retries, dice),
        (None, _) => spec.retry_delay_secs,
    };
    Again::At(now.saturating_add(millis(secs)))
}

impl Backoff {
    /// The delay after `retries` retries: `min(max, factor * 2^retries)`, with jitter any part of it.
    fn secs(self, retries: u32, dice: f64) -> f64 {
        let full = (self.factor_secs * 2f64.powi(retries.min(1_000) as i32)).min(self.max_secs);
        if self.jitter { full * dice } else { full }
    }
}

/// The delay before a message runs again whose executor died, after `crashes` such deaths: 1 s, 2 s, 4 s, … up to a minute,
/// so that a task that kills its executor leaves the others room.
pub fn after_crash(crashes: u32, now: Millis) -> Millis {
    now.saturating_add(1_000i64.saturating_mul(1 << crashes.min(6)).min(60_000))
}

/// Seconds as milliseconds; what is negative or no number is no delay.
pub(crate) fn millis(secs: f64) -> Millis {
    if secs > 0.0 { (secs * 1_000.0).round() as Millis } else { 0 }
}

#[cfg(test)]
mod tests;
