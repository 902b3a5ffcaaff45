//! An entry as people write it: in `umbel.toml`, on the command line, in a request.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use umbel_proto::{Map, Millis, Timestamp, Value};
use umbel_scheduler::{
    beat::{CatchUp, Entry, Source},
    schedule::{Schedule, SolarEvent, When},
};

use crate::config::{parse_duration, suggest::closest};

/// An entry as it is written. Exactly one of `cron`, `every`, `at` and `solar` says when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Written {
    /// The task.
    pub task: String,
    /// Minute, hour, day of month, month, day of week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The distance: `10s`, `1h30m`, or seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Distance>,
    /// Whether times at a distance are rounded down to the clock.
    pub relative: bool,
    /// Once, at this time (ISO 8601).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What the sun does: `sunrise`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solar: Option<String>,
    /// Where the sun does it: degrees north.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// Degrees east.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
    /// The time zone of the wall clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// Options of the call.
    pub options: Map,
    /// The queue; the same as the option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// `skip`, `one` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<String>,
    /// How far back `all` goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up_window: Option<Distance>,
    /// Up to how long after its due time it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Distance>,
    /// Not due before (ISO 8601).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts: Option<String>,
    /// Not due after (ISO 8601).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// Whether it is over once it has been sent.
    pub one_off: bool,
    /// Whether it is sent at all; so if nobody says anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A length of time: text such as `90s`, or seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Distance {
    /// Seconds.
    Secs(f64),
    /// As people write it.
    Text(String),
}

impl From<Duration> for Distance {
    fn from(duration: Duration) -> Self {
        Self::Secs(duration.as_secs_f64())
    }
}

impl Distance {
    fn millis(&self, field: &str) -> Result<Millis, String> {
        let duration = match self {
            Self::Secs(secs) => Duration::try_from_secs_f64(*secs).ok(),
            Self::Text(text) => parse_duration(text),
        };
        let millis = duration.and_then(|duration| Millis::try_from(duration.as_millis()).ok());
        millis.ok_or_else(|| format!("{field} is no length of time; write it like 90s, 500ms or 1h30m"))
    }
}

impl Written {
    /// The entry, checked; `timezone` is that of entries that name none.
    ///
    /// # Errors
    /// What is wrong with it, the field first.
    pub fn entry(self, name: &str, source: Source, timezone: &str) -> Result<Entry, String> {
        let when = self.when()?;
        let mut options = self.options;
        if let Some(queue) = self.queue {
            options.insert("queue".to_owned(), Value::from(queue));
        }
        let millis = |distance: &Option<Distance>, field: &str| distance.as_ref().map(|distance| distance.millis(field)).transpose();
        let window_ms = millis(&self.catch_up_window, "catch_up_window")?;
        let catch_up = match self.catch_up.as_deref() {
            None | Some("one") => CatchUp::One,
            Some("skip") => CatchUp::Skip,
            Some("all") => CatchUp::All { window_ms: window_ms.unwrap_or(CatchUp::WINDOW_MS) },
            Some(other) => return Err(format!("catch_up is {other:?}; allowed: skip, one, all")),
        };
        if window_ms.is_some() && !matches!(catch_up, CatchUp::All { .. }) {
            return Err("catch_up_window means something only together with catch_up = \"all\"".to_owned());
        }
        let entry = Entry {
            timezone: Some(self.timezone.unwrap_or_else(|| timezone.to_owned())),
            args: self.args,
            kwargs: self.kwargs,
            options,
            catch_up,
            jitter_ms: millis(&self.jitter, "jitter")?.unwrap_or(0),
            starts: time(self.starts.as_deref(), "starts")?,
            ends: time(self.ends.as_deref(), "ends")?,
            one_off: self.one_off,
            enabled: self.enabled.unwrap_or(true),
            source,
            ..Entry::new(name, self.task, when)
        };
        schedule(&entry, timezone)?;
        Ok(entry)
    }

    fn when(&self) -> Result<When, String> {
        let given =
            [("cron", self.cron.is_some()), ("every", self.every.is_some()), ("at", self.at.is_some()), ("solar", self.solar.is_some())];
        let given: Vec<&str> = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect();
        if given.len() != 1 {
            let found = if given.is_empty() { "none of them is given".to_owned() } else { format!("given are {}", given.join(" and ")) };
            return Err(format!("exactly one of cron, every, at and solar says when: {found}"));
        }
        if self.relative && self.every.is_none() {
            return Err("relative means something only together with every".to_owned());
        }
        if let Some(line) = &self.cron {
            return Ok(When::Crontab { fields: line.parse().map_err(|error| format!("cron: {error}"))? });
        }
        if let Some(every) = &self.every {
            return Ok(When::Every { every_ms: every.millis("every")?, relative: self.relative });
        }
        if let Some(at) = time(self.at.as_deref(), "at")? {
            return Ok(When::Clocked { at });
        }
        let name = self.solar.as_deref().unwrap_or_default();
        let event = SolarEvent::named(name).ok_or_else(|| {
            let names = SolarEvent::ALL.map(|(name, _)| name);
            let near = closest(name, names).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            format!("solar is {name:?}, which the sun does not do{near} (it does {})", names.join(", "))
        })?;
        let (Some(latitude), Some(longitude)) = (self.latitude, self.longitude) else {
            return Err("solar needs latitude and longitude, in degrees".to_owned());
        };
        Ok(When::Solar { event, latitude, longitude })
    }
}

fn time(text: Option<&str>, field: &str) -> Result<Option<Millis>, String> {
    let read = |text: &str| Timestamp::parse(text).map_err(|error| format!("{field} is {text:?}, which {}", error.reason));
    Ok(text.map(read).transpose()?.map(|time| time.millis()))
}

/// The schedule of an entry, in its own time zone or in `timezone`. Reads the zone.
///
/// # Errors
/// Why it is none.
pub fn schedule(entry: &Entry, timezone: &str) -> Result<Schedule, String> {
    let name = entry.timezone.as_deref().unwrap_or(timezone);
    entry.schedule(zone(name)?).map_err(|error| error.to_string())
}

/// The time zone of a name, of the system's tables or of those in the program.
///
/// # Errors
/// When there is none.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("the time zone {name:?} is not known; zones are named like Europe/Berlin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Entry, String> {
        let written: Written = serde_json::from_str(json).map_err(|error| error.to_string())?;
        written.entry("e", Source::Api, "Europe/Berlin")
    }

    /// Goal: every way to say when is understood, with everything that may stand beside it.
    #[test]
    fn entries_are_read() {
        let entry =
            read(r#"{"task": "t", "cron": "0 7 * * mon-fri", "queue": "q", "catch_up": "all", "jitter": "2s", "args": [1]}"#).unwrap();
        assert_eq!((entry.timezone.as_deref(), entry.jitter_ms, entry.args.len()), (Some("Europe/Berlin"), 2_000, 1));
        assert_eq!(entry.options.get("queue"), Some(&Value::from("q")));
        assert_eq!(entry.catch_up, CatchUp::All { window_ms: CatchUp::WINDOW_MS });
        let every = read(r#"{"task": "t", "every": 0.5, "ends": "2030-01-01"}"#).unwrap();
        assert_eq!((every.when, every.ends), (When::Every { every_ms: 500, relative: false }, Some(1_893_456_000_000)));
        let relative = read(r#"{"task": "t", "every": "1h30m", "relative": true}"#).unwrap();
        assert_eq!(relative.when, When::Every { every_ms: 5_400_000, relative: true });
        assert_eq!(read(r#"{"task": "t", "at": "2030-01-01T00:00:00Z"}"#).unwrap().when, When::Clocked { at: 1_893_456_000_000 });
        read(r#"{"task": "t", "solar": "sunset", "latitude": 52.5, "longitude": 13.4, "one_off": true, "enabled": false}"#).unwrap();
    }

    /// Goal: what is wrong is named.
    #[test]
    fn mistakes_are_named() {
        for (json, named) in [
            (r#"{"task": "t"}"#, "none of them is given"),
            (r#"{"task": "t", "cron": "* * * * *", "every": "1s"}"#, "cron and every"),
            (r#"{"task": "t", "cron": "* * * *"}"#, "4 fields"),
            (r#"{"task": "t", "cron": "61 * * * *"}"#, "the minute \"61\""),
            (r#"{"task": "t", "cron": "* * 30 2 *"}"#, "never"),
            (r#"{"task": "t", "every": "soon"}"#, "every is no length of time"),
            (r#"{"task": "t", "every": 0}"#, "too short"),
            (r#"{"every": "1s"}"#, "names no task"),
            (r#"{"task": "t", "every": "1s", "catch_up": "some"}"#, "allowed: skip, one, all"),
            (r#"{"task": "t", "every": "1s", "catch_up_window": "1h"}"#, "catch_up_window"),
            (r#"{"task": "t", "cron": "* * * * *", "relative": true}"#, "relative"),
            (r#"{"task": "t", "cron": "* * * * *", "timezone": "Mars/Base"}"#, "Mars/Base"),
            (r#"{"task": "t", "at": "tomorrow"}"#, "at is \"tomorrow\""),
            (r#"{"task": "t", "solar": "sunrice"}"#, "did you mean sunrise?"),
            (r#"{"task": "t", "solar": "sunset"}"#, "latitude and longitude"),
            (r#"{"task": "t", "evry": "1s"}"#, "unknown field `evry`"),
        ] {
            let reason = read(json).expect_err(json);
            assert!(reason.contains(named), "{json}: {reason}");
        }
    }
}
