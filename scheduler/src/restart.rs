//! How often a child may be restarted before its supervisor gives up.

use umbel_proto::Millis;

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
    /// A child died.
    pub fn died(&mut self, _now: Millis) -> Restart {
        todo!()
    }
}
