//! How often a child may be restarted before its supervisor gives up.

use umbel_proto::Millis;

/// The delay of the second restart within the window; doubled with each further one.
const FIRST_DELAY: Millis = 100;
/// The longest delay.
const MAX_DELAY: Millis = 5_000;

/// A restart meter: at most `max` restarts within `window`, with growing delays in between.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartMeter {
    max: u32,
    window: Millis,
    restarts: Vec<Millis>,
}

/// What to do about a dead child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start it again after this many milliseconds.
    After(Millis),
    /// It dies too often: give up.
    GiveUp,
}

impl RestartMeter {
    /// At most `max` restarts within `window` milliseconds.
    pub fn new(max: u32, window: Millis) -> Self {
        Self { max, window, restarts: Vec::new() }
    }

    /// A child died. The first restart within a window is immediate; the next ones wait 100 ms, 200 ms, … up to 5 s.
    pub fn died(&mut self, now: Millis) -> Restart {
        let window = self.window;
        self.restarts.retain(|at| now.saturating_sub(*at) < window);
        let recent = self.restarts.len();
        if recent >= self.max as usize {
            return Restart::GiveUp;
        }
        self.restarts.push(now);
        Restart::After(match recent {
            0 => 0,
            _ => FIRST_DELAY.saturating_mul(1 << (recent - 1).min(16)).min(MAX_DELAY),
        })
    }
}

#[cfg(test)]
mod tests;
