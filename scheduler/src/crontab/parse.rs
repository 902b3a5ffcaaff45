//! What the text of a crontab's field may be: `celery/schedules.py`, class `crontab_parser`.
//!
//! Parts between commas, each `*`, a number or a range, the last two of them with a step: `*/15`, `8-17/2`. Ranges may wrap (`22-4`,
//! `fri-mon`), and a step then counts on through the wrap. Names count by their first three letters in any field, those of months
//! before those of days. Celery's patterns match the beginning of a part only, so `1-5-7` is `1-5`; this is kept, because
//! crontabs that work today must work the same here.

use thiserror::Error;

use super::Numbers;

/// What is wrong with the text of a field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FieldError {
    /// Nothing at all, or nothing between two commas.
    #[error("has an empty part")]
    Empty,
    /// A `/` with nothing behind it.
    #[error("has no step behind its /")]
    NoStep,
    /// A step that is not a number above 0.
    #[error("has the step {0:?}, which is not a number above 0")]
    Step(String),
    /// Neither a number nor a name.
    #[error("has {0:?} in it, which is neither a number nor the name of a month or a day")]
    Word(String),
    /// A number that the field does not have.
    #[error("has {number} in it, which is not from {min} to {max}")]
    Range {
        /// The number.
        number: i64,
        /// The least.
        min: u32,
        /// The greatest.
        max: u32,
    },
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The numbers that `text` stands for, in a field of `size` numbers from `min` on.
pub(super) fn field(text: &str, min: u32, size: u32) -> Result<Numbers, FieldError> {
    let mut numbers = Numbers::default();
    for part in text.split(',') {
        for number in (Field { min, size }).part(part)? {
            numbers.insert(number);
        }
    }
    Ok(numbers)
}

struct Field {
    min: u32,
    size: u32,
}

impl Field {
    fn part(&self, part: &str) -> Result<Vec<u32>, FieldError> {
        if part.is_empty() {
            return Err(FieldError::Empty);
        }
        if part == "*" {
            return Ok(self.all());
        }
        if let Some(rest) = part.strip_prefix("*/") {
            return stepped(self.all(), word(rest).0);
        }
        let (from, rest) = word(part);
        let (to, rest) = rest.strip_prefix('-').map_or(("", rest), word);
        if from.is_empty() || to.is_empty() {
            return Ok(vec![self.number(part)?]);
        }
        let range = |field: &Self| Ok(field.range(field.number(from)?, field.number(to)?));
        match rest.strip_prefix('/') {
            Some(rest) => stepped(range(self)?, word(rest).0),
            None => range(self),
        }
    }

    fn max(&self) -> u32 {
        self.min + self.size - 1
    }

    fn all(&self) -> Vec<u32> {
        (self.min..=self.max()).collect()
    }

    fn range(&self, from: u32, to: u32) -> Vec<u32> {
        if to < from { (from..=self.max()).chain(self.min..=to).collect() } else { (from..=to).collect() }
    }

    fn number(&self, text: &str) -> Result<u32, FieldError> {
        let number = match integer(text) {
            Some(number) => number,
            None => named(text).ok_or_else(|| FieldError::Word(text.to_owned()))?,
        };
        let out_of_range = FieldError::Range { number, min: self.min, max: self.max() };
        u32::try_from(number).ok().filter(|number| (self.min..=self.max()).contains(number)).ok_or(out_of_range)
    }
}

fn stepped(numbers: Vec<u32>, step: &str) -> Result<Vec<u32>, FieldError> {
    if step.is_empty() {
        return Err(FieldError::NoStep);
    }
    match integer(step).and_then(|step| usize::try_from(step).ok()) {
        Some(step @ 1..) => Ok(numbers.into_iter().step_by(step).collect()),
        _ => Err(FieldError::Step(step.to_owned())),
    }
}

/// The letters, digits and underscores that `text` begins with (`\w+`), and the rest.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.split_at(end)
}

/// As Python's `int`: spaces around it, a sign, and underscores between digits are allowed.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_plain = |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    if !digits.split('_').all(is_plain) {
        return None;
    }
    let size: i64 = digits.replace('_', "").parse().ok()?;
    Some(if text.starts_with('-') { -size } else { size })
}

fn named(text: &str) -> Option<i64> {
    let start: String = text.chars().take(3).collect::<String>().to_lowercase();
    let month = MONTHS.iter().position(|month| *month == start).map(|at| at as i64 + 1);
    month.or_else(|| DAYS.iter().position(|day| *day == start).map(|at| at as i64))
}
