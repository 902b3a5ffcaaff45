//! Crontabs, as Celery means them: `celery/schedules.py`, class `crontab`.
//!
//! A crontab is five sets of numbers, and a time is one of its times when its minute, hour, day of the month, month **and** day of
//! the week are each in their set. (Other crons run on days that are in either of the two sets of days.) Sunday is 0 and 7 is a
//! mistake. What the text of a field may be is in [`parse`], which time comes next, also where clocks are changed, in [`next`].

mod next;
mod parse;

#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use thiserror::Error;

pub use parse::FieldError;

/// The five fields as text, in the order of a crontab's line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fields {
    /// 0–59.
    pub minute: String,
    /// 0–23.
    pub hour: String,
    /// 1–31.
    pub day_of_month: String,
    /// 1–12.
    pub month_of_year: String,
    /// 0–6, where 0 is Sunday.
    pub day_of_week: String,
}

impl Default for Fields {
    /// Every minute.
    fn default() -> Self {
        let any = || "*".to_owned();
        Self { minute: any(), hour: any(), day_of_month: any(), month_of_year: any(), day_of_week: any() }
    }
}

impl std::fmt::Display for Fields {
    /// As a line: `30 7 * * mon-fri`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { minute, hour, day_of_month, month_of_year, day_of_week } = self;
        write!(f, "{minute} {hour} {day_of_month} {month_of_year} {day_of_week}")
    }
}

impl std::str::FromStr for Fields {
    type Err = CrontabError;

    /// Reads a line: minute, hour, day of the month, month, day of the week (Celery's `crontab.from_string`).
    fn from_str(line: &str) -> Result<Self, CrontabError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [minute, hour, day_of_month, month_of_year, day_of_week] = words[..] else {
            return Err(CrontabError::Words { line: line.to_owned(), words: words.len() });
        };
        Ok(Self {
            minute: minute.to_owned(),
            hour: hour.to_owned(),
            day_of_month: day_of_month.to_owned(),
            month_of_year: month_of_year.to_owned(),
            day_of_week: day_of_week.to_owned(),
        })
    }
}

/// Why something is no crontab.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CrontabError {
    /// A line of more or fewer than five words.
    #[error("the crontab {line:?} has {words} fields; five are needed: minute, hour, day of month, month, day of week")]
    Words {
        /// The line.
        line: String,
        /// Its words.
        words: usize,
    },
    /// A field that cannot be understood.
    #[error("the {field} {text:?} of the crontab {source}")]
    Field {
        /// Which field.
        field: &'static str,
        /// Its text.
        text: String,
        /// What is wrong with it.
        source: FieldError,
    },
    /// It has no time at all, such as the 30th of February. (Celery 5.6 accepts it and then never ticks; 5.7 refuses.)
    #[error("the crontab can never be due: no month of {months:?} has a day of {days:?}")]
    Never {
        /// The days of the month.
        days: String,
        /// The months.
        months: String,
    },
}

/// A set of numbers below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers(u64);

impl Numbers {
    fn insert(&mut self, number: u32) {
        self.0 |= 1 << number;
    }

    /// Whether `number` is one of them.
    pub fn contains(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.0 >> number & 1 == 1)
    }

    /// The least of them that is at least `from`.
    fn at_least(self, from: i8) -> Option<i8> {
        let left = self.0 & (u64::MAX << from.clamp(0, 63));
        (left != 0).then(|| left.trailing_zeros() as i8)
    }

    /// All of them, the least first.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |number| self.0 >> number & 1 == 1)
    }
}

/// A crontab in a time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Crontab {
    minute: Numbers,
    hour: Numbers,
    day_of_month: Numbers,
    month_of_year: Numbers,
    day_of_week: Numbers,
    zone: TimeZone,
}

impl Crontab {
    /// Reads the fields.
    ///
    /// # Errors
    /// When one of them cannot be understood, or no time fits them all.
    pub fn new(fields: &Fields, zone: TimeZone) -> Result<Self, CrontabError> {
        let read = |field, text: &String, min, size| {
            parse::field(text, min, size).map_err(|source| CrontabError::Field { field, text: text.clone(), source })
        };
        let crontab = Self {
            minute: read("minute", &fields.minute, 0, 60)?,
            hour: read("hour", &fields.hour, 0, 24)?,
            day_of_month: read("day of month", &fields.day_of_month, 1, 31)?,
            month_of_year: read("month", &fields.month_of_year, 1, 12)?,
            day_of_week: read("day of week", &fields.day_of_week, 0, 7)?,
            zone,
        };
        match crontab.is_ever() {
            true => Ok(crontab),
            false => Err(CrontabError::Never { days: fields.day_of_month.clone(), months: fields.month_of_year.clone() }),
        }
    }

    fn is_ever(&self) -> bool {
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        self.month_of_year.iter().any(|month| self.day_of_month.iter().any(|day| day <= longest(month)))
    }
}
