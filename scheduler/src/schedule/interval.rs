//! Times at a distance from each other: `celery/schedules.py`, class `schedule`.
//!
//! The distance is time that passes, so `every 1h` comes in both passes of a repeated hour (as for Celery 5.7; 5.6 adds on the wall
//! clock and loses one). A *relative* schedule rounds each time down to the wall clock's day, hour, minute or second, whichever is
//! the largest that fits into the distance; where clocks are changed the rules are those of 5.7's `celery/utils/time.py`, `remaining`.

use jiff::{
    SignedDuration, Timestamp,
    civil::{DateTime, Time},
    tz::TimeZone,
};
use umbel_proto::Millis;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;

/// A distance, and how times are rounded.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    every_ms: Millis,
    /// The zone of the wall clock that times are rounded by, if they are.
    rounded: Option<TimeZone>,
}

impl Interval {
    /// The shortest distance, in milliseconds.
    pub const MIN_MS: Millis = 10;

    pub(super) fn new(every_ms: Millis, rounded: Option<TimeZone>) -> Self {
        Self { every_ms, rounded }
    }

    pub(super) fn after(&self, last: Millis) -> Option<Millis> {
        let end = last.checked_add(self.every_ms)?;
        let Some(zone) = &self.rounded else { return Some(end) };
        let rounded = Rounding { every_ms: self.every_ms, zone }.end(last, end);
        // Below a second nothing is left after rounding.
        Some(rounded.filter(|rounded| *rounded > last).unwrap_or(end))
    }

    /// The last time up to `now`, where it can be calculated.
    pub(super) fn latest(&self, last: Millis, now: Millis) -> Option<Millis> {
        let passed = now.checked_sub(last)?;
        self.rounded.is_none().then(|| last + passed.max(0) / self.every_ms * self.every_ms)
    }
}

struct Rounding<'a> {
    every_ms: Millis,
    zone: &'a TimeZone,
}

impl Rounding<'_> {
    fn end(&self, last: Millis, end: Millis) -> Option<Millis> {
        let wall = |instant| Some(self.zone.to_datetime(Timestamp::from_millisecond(instant).ok()?));
        let distance = SignedDuration::from_millis(self.every_ms);
        if self.every_ms >= DAY {
            // By days of the calendar: the first coming of that midnight that is still to come.
            let comings = self.comings(wall(last)?.checked_add(distance).ok()?)?;
            return comings.into_iter().find(|coming| *coming > last).or(Some(comings[0]));
        }
        let mut comings = self.comings(wall(end)?)?.to_vec();
        let before = |comings: &[Millis]| comings.iter().copied().filter(|coming| *coming > last && *coming <= end).max();
        if let Some(rounded) = before(&comings) {
            return Some(rounded);
        }
        if self.every_ms < MINUTE {
            return None;
        }
        // A clock that was put back by part of an hour: also the next full hour or minute, and the one on the wall clock.
        let unit = SignedDuration::from_millis(if self.every_ms >= HOUR { HOUR } else { MINUTE });
        comings.extend(self.comings(wall(end)?.checked_add(unit).ok()?)?);
        comings.extend(self.comings(wall(last)?.checked_add(distance).ok()?)?);
        before(&comings).or_else(|| comings.into_iter().filter(|coming| *coming > last).min())
    }

    /// The instants at which the clock shows `wall`, rounded down. A time that is skipped comes by the offset from before.
    fn comings(&self, wall: DateTime) -> Option<[Millis; 2]> {
        let time = match self.every_ms {
            DAY.. => Time::midnight(),
            HOUR.. => Time::constant(wall.hour(), 0, 0, 0),
            MINUTE.. => Time::constant(wall.hour(), wall.minute(), 0, 0),
            _ => Time::constant(wall.hour(), wall.minute(), wall.second(), 0),
        };
        let candidates = self.zone.to_ambiguous_timestamp(wall.date().to_datetime(time));
        let first = candidates.compatible().ok()?.as_millisecond();
        let second = candidates.later().ok()?.as_millisecond();
        Some([first, second])
    }
}
