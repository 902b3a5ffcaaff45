//! Which of a crontab's times comes next.
//!
//! Times are times of the wall clock: the next one is the least minute after the minute the clock showed then. Where clocks are
//! changed, three rules of Celery's decide which instant that is (vectors of 5.6 and 5.7):
//!
//! * A time that is skipped is kept by the offset that held before: 02:30 comes when it is 03:30 already.
//! * A time that comes twice is kept at its first coming, so a crontab for every half hour is silent in the repeated hour.
//! * Only from an instant within the repeated hour on, times of that hour are looked for in it.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime},
};
use umbel_proto::Millis;

use super::Crontab;

/// How far ahead a time is looked for: a 29th of February that is a certain day of the week comes after 40 years at the latest.
const DAYS_MAX: u32 = 41 * 366;

impl Crontab {
    /// The first of its times after `instant`; `None` beyond the years that a date can hold.
    pub fn after(&self, instant: Millis) -> Option<Millis> {
        let start = Timestamp::from_millisecond(instant).ok()?;
        let mut wall = self.zone.to_datetime(start);
        loop {
            wall = self.wall_after(wall)?;
            let candidates = self.zone.to_ambiguous_timestamp(wall);
            let at = candidates.compatible().ok()?;
            if at > start {
                return Some(at.as_millisecond());
            }
            // The clock already shows this time for the second time, or is about to.
            if let Ok(again) = candidates.later()
                && again > start
            {
                return Some(again.as_millisecond());
            }
        }
    }

    /// The first of its times on the wall clock after the minute that `wall` is in.
    fn wall_after(&self, wall: DateTime) -> Option<DateTime> {
        let mut date = wall.date();
        if self.is_day(date) {
            let (hour, minute) = (wall.hour(), wall.minute());
            let later = self.minute.at_least(minute + 1).filter(|_| self.hour.contains(hour)).map(|minute| (hour, minute));
            let later = later.or_else(|| Some((self.hour.at_least(hour + 1)?, self.minute.at_least(0)?)));
            if let Some((hour, minute)) = later {
                return Some(date.at(hour, minute, 0, 0));
            }
        }
        for _ in 0..DAYS_MAX {
            date = if self.month_of_year.contains(date.month()) {
                date.tomorrow().ok()?
            } else {
                date.last_of_month().checked_add(SignedDuration::from_hours(24)).ok()?
            };
            if self.is_day(date) {
                return Some(date.at(self.hour.at_least(0)?, self.minute.at_least(0)?, 0, 0));
            }
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        self.month_of_year.contains(date.month())
            && self.day_of_month.contains(date.day())
            && self.day_of_week.contains(date.weekday().to_sunday_zero_offset())
    }
}
