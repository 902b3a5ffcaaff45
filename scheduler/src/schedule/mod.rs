//! When something is due, again and again: every kind of schedule Celery has (`celery/schedules.py`, and `clocked` of
//! django-celery-beat).
//!
//! [`When`] is what is written down, in a file, a message or a store; [`Schedule`] is what was understood of it, in a time zone that
//! was looked up by the caller (zones are files, and nothing here does I/O). Both are values: a schedule's next time depends on the
//! time given to it and on nothing else.

mod interval;
mod solar;

#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use thiserror::Error;
use umbel_proto::Millis;

use crate::crontab::{Crontab, CrontabError, Fields};
pub use interval::Interval;
pub use solar::{Solar, SolarError, SolarEvent};

/// A schedule as it is written down.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum When {
    /// At a distance from the last time.
    Every {
        /// The distance, in milliseconds.
        every_ms: i64,
        /// Whether times are rounded down to the day, hour, minute or second, whichever fits into the distance.
        #[serde(default)]
        relative: bool,
    },
    /// By the wall clock.
    Crontab {
        /// The fields.
        #[serde(flatten)]
        fields: Fields,
    },
    /// By the sun.
    Solar {
        /// What it does.
        event: SolarEvent,
        /// Where: degrees north.
        latitude: f64,
        /// Where: degrees east.
        longitude: f64,
    },
    /// Once.
    Clocked {
        /// When.
        at: Millis,
    },
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Every { every_ms, relative } => {
                let (number, unit) = match every_ms {
                    ms if ms % 86_400_000 == 0 => (ms / 86_400_000, "d"),
                    ms if ms % 3_600_000 == 0 => (ms / 3_600_000, "h"),
                    ms if ms % 60_000 == 0 => (ms / 60_000, "m"),
                    ms if ms % 1_000 == 0 => (ms / 1_000, "s"),
                    ms => (*ms, "ms"),
                };
                write!(f, "every {number}{unit}{}", if *relative { ", rounded" } else { "" })
            }
            Self::Crontab { fields } => write!(f, "{fields}"),
            Self::Solar { event, latitude, longitude } => write!(f, "{event} at {latitude}, {longitude}"),
            Self::Clocked { at } => write!(f, "once at {}", umbel_proto::Timestamp::from_millis(*at).as_str()),
        }
    }
}

/// Why something is no schedule.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ScheduleError {
    /// A distance that is too short, or no distance at all.
    #[error("a distance of {every_ms} ms is too short; at least {} ms are needed", Interval::MIN_MS)]
    TooShort {
        /// The distance.
        every_ms: i64,
    },
    /// No crontab.
    #[error(transparent)]
    Crontab(#[from] CrontabError),
    /// No place on earth.
    #[error(transparent)]
    Solar(#[from] SolarError),
}

/// A schedule, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// See [`When::Every`].
    Every(Interval),
    /// See [`When::Crontab`].
    Crontab(Box<Crontab>),
    /// See [`When::Solar`].
    Solar(Solar),
    /// See [`When::Clocked`].
    Clocked(Millis),
}

impl Schedule {
    /// Understands what was written down; wall clocks show the time of `zone`.
    ///
    /// # Errors
    /// When it is no schedule.
    pub fn new(when: &When, zone: TimeZone) -> Result<Self, ScheduleError> {
        Ok(match when {
            When::Every { every_ms, .. } if *every_ms < Interval::MIN_MS => return Err(ScheduleError::TooShort { every_ms: *every_ms }),
            When::Every { every_ms, relative } => Self::Every(Interval::new(*every_ms, relative.then_some(zone))),
            When::Crontab { fields } => Self::Crontab(Box::new(Crontab::new(fields, zone)?)),
            When::Solar { event, latitude, longitude } => Self::Solar(Solar::new(*event, *latitude, *longitude)?),
            When::Clocked { at } => Self::Clocked(*at),
        })
    }

    /// The first time after `last`, which is when it was due last, or when it began. `None` when there is none any more.
    pub fn after(&self, last: Millis) -> Option<Millis> {
        let next = match self {
            Self::Every(interval) => interval.after(last),
            Self::Crontab(crontab) => crontab.after(last),
            Self::Solar(solar) => solar.after(last),
            Self::Clocked(at) => Some(*at).filter(|at| *at > last),
        };
        debug_assert!(next.is_none_or(|next| next > last), "time goes on: {self:?} after {last} is {next:?}");
        next
    }

    /// The last time after `last` that is not after `now`; `None` when there is none.
    ///
    /// It is found without going through all times between, of which an outage of a month may hold millions.
    pub fn latest(&self, last: Millis, now: Millis) -> Option<Millis> {
        if let Self::Every(interval) = self
            && let Some(latest) = interval.latest(last, now)
        {
            return Some(latest).filter(|latest| *latest > last);
        }
        let first = self.after(last).filter(|first| *first <= now)?;
        // From ever farther back, until a time lies between.
        let mut back = 60_000;
        let mut latest = loop {
            let from = now.saturating_sub(back);
            if from <= first {
                break first;
            }
            match self.after(from) {
                Some(found) if found <= now => break found,
                _ => back = back.saturating_mul(4),
            }
        };
        while let Some(next) = self.after(latest).filter(|next| *next <= now) {
            latest = next;
        }
        Some(latest)
    }
}
