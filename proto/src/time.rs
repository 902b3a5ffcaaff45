//! Time on the wire.

use jiff::{
    SignedDuration,
    civil::{Date, DateTime, Time},
    tz::Offset,
};

use crate::DecodeError;

/// Milliseconds since 1970-01-01T00:00:00Z. The only time that decisions are made with.
pub type Millis = i64;

/// A point in time as a message tells it: the text is kept, so that it is sent on as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    text: String,
    millis: Millis,
}

/// The years Python's `datetime` can hold: 0001-01-01T00:00:00 to 9999-12-31T23:59:59.999 in UTC.
const RANGE: std::ops::RangeInclusive<Millis> = -62_135_596_800_000..=253_402_300_799_999;

impl Timestamp {
    /// Reads ISO 8601 in the forms Celery accepts (wire contract §1.1); without an offset it is UTC.
    ///
    /// A date may stand alone, the separator may be a space, seconds and their fraction may be left out, and fractions finer
    /// than a microsecond are cut. Dates and times may also be written without `-` and `:`.
    ///
    /// # Errors
    /// When it is not a point in time.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        match millis(text) {
            Some(millis) => Ok(Self { text: text.to_owned(), millis }),
            None => Err(DecodeError::new("", "is not an ISO 8601 time such as 2026-11-21T05:45:09.950296+00:00")),
        }
    }

    /// The form Celery writes: `2026-11-21T05:45:09.950296+00:00`; years before 1 and after 9999 become the nearest there is.
    pub fn from_millis(millis: Millis) -> Self {
        let millis = millis.clamp(*RANGE.start(), *RANGE.end());
        let since_epoch = SignedDuration::from_millis(millis);
        let time = DateTime::constant(1970, 1, 1, 0, 0, 0, 0).saturating_add(since_epoch);
        let fraction = match millis.rem_euclid(1000) {
            0 => String::new(),
            rest => format!(".{rest:03}000"),
        };
        let text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}+00:00",
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        Self { text, millis }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The time.
    pub fn millis(&self) -> Millis {
        self.millis
    }
}

fn millis(text: &str) -> Option<Millis> {
    let mut cursor = Cursor(text.as_bytes());
    let date = date(&mut cursor)?;
    let (time, offset) = if cursor.0.is_empty() {
        (Time::midnight(), Offset::UTC)
    } else {
        if !matches!(cursor.next()?, b'T' | b't' | b' ') {
            return None;
        }
        (time(&mut cursor)?, offset(&mut cursor)?)
    };
    cursor.0.is_empty().then_some(())?;
    let timestamp = offset.to_timestamp(date.to_datetime(time)).ok()?;
    Some(timestamp.as_nanosecond().div_euclid(1_000_000) as Millis)
}

/// What has not been read yet.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn take(&mut self, wanted: u8) -> bool {
        let found = self.0.first() == Some(&wanted);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }
    fn digits(&mut self, count: usize) -> Option<i32> {
        let digits = self.0.get(..count).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        self.0 = &self.0[count..];
        Some(digits.iter().fold(0, |number, digit| number * 10 + i32::from(digit - b'0')))
    }
    fn two(&mut self) -> Option<i8> {
        i8::try_from(self.digits(2)?).ok()
    }
    fn at_digit(&self) -> bool {
        self.0.first().is_some_and(u8::is_ascii_digit)
    }
}

fn date(cursor: &mut Cursor<'_>) -> Option<Date> {
    let year = i16::try_from(cursor.digits(4)?).ok().filter(|year| *year > 0)?;
    let dashed = cursor.take(b'-');
    let month = cursor.two()?;
    if dashed && !cursor.take(b'-') {
        return None;
    }
    Date::new(year, month, cursor.two()?).ok()
}

fn time(cursor: &mut Cursor<'_>) -> Option<Time> {
    let hour = cursor.two()?;
    let colons = cursor.take(b':');
    let minute = if colons || cursor.at_digit() { cursor.two()? } else { 0 };
    let mut second = 0;
    let mut nanos = 0;
    if if colons { cursor.take(b':') } else { cursor.at_digit() } {
        second = cursor.two()?;
        if cursor.take(b'.') || cursor.take(b',') {
            cursor.at_digit().then_some(())?;
            let mut unit = 100_000_000;
            while cursor.at_digit() {
                nanos += cursor.digits(1)? * unit;
                unit /= 10;
            }
            nanos -= nanos % 1000;
        }
    }
    Time::new(hour, minute, second, nanos).ok()
}

fn offset(cursor: &mut Cursor<'_>) -> Option<Offset> {
    let sign = match cursor.0.first() {
        None => return Some(Offset::UTC),
        Some(b'Z' | b'z') => {
            cursor.next();
            return Some(Offset::UTC);
        }
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    cursor.next();
    let hours = cursor.digits(2)?;
    let colons = cursor.take(b':');
    let minutes = if colons || cursor.at_digit() { cursor.digits(2)? } else { 0 };
    let seconds = if (colons && cursor.take(b':')) || (!colons && cursor.at_digit()) { cursor.digits(2)? } else { 0 };
    (hours < 24 && minutes < 60 && seconds < 60).then_some(())?;
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60 + seconds)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn celerys_forms_are_read() {
        let expected = 1_795_239_909_950;
        for text in [
            "2026-11-21T05:45:09.950296+00:00",
            "2026-11-21T05:45:09.950296Z",
            "2026-11-21 05:45:09.950296+00:00",
            "2026-11-21T05:45:09.950",
            "2026-11-21T05:45:09.950296123+00:00",
            "20261121T054509.950Z",
            "2026-11-21T11:15:09.950296+05:30",
            "2026-11-21T00:45:09.950296-0500",
        ] {
            let time = Timestamp::parse(text).unwrap();
            assert_eq!((time.millis(), time.as_str()), (expected, text));
        }
        assert_eq!(Timestamp::parse("2026-11-21").unwrap().millis(), 1_795_219_200_000);
        assert_eq!(Timestamp::parse("1969-12-31T23:59:59.9999+00:00").unwrap().millis(), -1);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "tomorrow", "2026-13-01", "2026-02-30T00:00:00", "2026-11-21T", "2026-11-21T25:00", "2026-11-21T05:45:09.950x", "1e9"]
        {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_as_celery_does() {
        assert_eq!(Timestamp::from_millis(1_795_239_909_950).as_str(), "2026-11-21T05:45:09.950000+00:00");
        assert_eq!(Timestamp::from_millis(0).as_str(), "1970-01-01T00:00:00+00:00");
        assert_eq!(Timestamp::from_millis(-1).as_str(), "1969-12-31T23:59:59.999000+00:00");
        assert_eq!(Timestamp::from_millis(i64::MAX).as_str(), "9999-12-31T23:59:59.999000+00:00");
        assert_eq!(Timestamp::from_millis(i64::MIN).as_str(), "0001-01-01T00:00:00+00:00");
        let written = Timestamp::from_millis(1_795_239_909_950);
        assert_eq!(Timestamp::parse(written.as_str()).unwrap(), written);
    }
}
