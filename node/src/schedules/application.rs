//! `beat_schedule` of a Celery application as entries.
//!
//! The application's own interpreter says what is in it; what is no schedule of Celery's own (a class of the
//! application's) is named and left out.

use serde_json::Value as Json;
use umbel_proto::Value;
use umbel_scheduler::{
    beat::{Entry, Source},
    crontab::Fields,
    schedule::{SolarEvent, When},
};

use super::written::schedule;
use crate::executors::python::{AppEntry, AppSchedule};

/// The entries of an application, and what is wrong with those that are left out. `timezone` is the application's.
pub fn entries(reported: Vec<AppEntry>, timezone: &str) -> (Vec<Entry>, Vec<String>) {
    let (mut entries, mut wrong) = (Vec::new(), Vec::new());
    for entry in reported {
        let name = entry.name.clone();
        match one(entry, timezone) {
            Ok(entry) => entries.push(entry),
            Err(reason) => wrong.push(format!("the entry {name:?} of beat_schedule is left out: {reason}")),
        }
    }
    (entries, wrong)
}

pub(super) fn one(reported: AppEntry, timezone: &str) -> Result<Entry, String> {
    let AppEntry { name, task, schedule: when, args, kwargs, options, relative } = reported;
    let when = match when {
        AppSchedule::Every { seconds, relative: rounded } => {
            When::Every { every_ms: (seconds * 1_000.0).round() as i64, relative: relative || rounded }
        }
        AppSchedule::Crontab { minute, hour, day_of_week, day_of_month, month_of_year } => {
            let [minute, hour, day_of_week, day_of_month, month_of_year] =
                [minute, hour, day_of_week, day_of_month, month_of_year].map(|field| plain(&field));
            When::Crontab { fields: Fields { minute, hour, day_of_month, month_of_year, day_of_week } }
        }
        AppSchedule::Solar { event, lat, lon } => {
            let event = SolarEvent::named(&event).ok_or_else(|| format!("the sun does not do {event:?}"))?;
            When::Solar { event, latitude: lat, longitude: lon }
        }
        AppSchedule::Clocked { at } => When::Clocked { at },
        AppSchedule::Other { repr } => return Err(format!("{repr} is a schedule of the application's own, which only its own beat knows")),
    };
    let values = |values: Vec<Json>| values.into_iter().map(value).collect::<Result<Vec<_>, _>>();
    let map =
        |map: serde_json::Map<String, Json>| map.into_iter().map(|(key, json)| Ok((key, value(json)?))).collect::<Result<_, String>>();
    let entry = Entry {
        args: values(args)?,
        kwargs: map(kwargs)?,
        options: map(options)?,
        timezone: Some(timezone.to_owned()),
        source: Source::App,
        ..Entry::new(name, task, when)
    };
    schedule(&entry, timezone)?;
    Ok(entry)
}

fn value(json: Json) -> Result<Value, String> {
    serde_json::from_value(json).map_err(|error| format!("a value of it cannot be read: {error}"))
}

/// A field that was given as a list or a set, as the text that means the same.
fn plain(field: &str) -> String {
    let inner = field.trim().trim_start_matches(['{', '[', '(']).trim_end_matches(['}', ']', ')']);
    if inner.len() == field.trim().len() { field.to_owned() } else { inner.trim_end_matches(',').replace([' ', '\''], "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each kind of schedule that Celery has becomes the same here; what has no equal is named.
    #[test]
    fn an_applications_entries_are_understood() {
        let reported = r#"[
            {"name": "a", "task": "t", "schedule": {"kind": "every", "seconds": 0.5, "relative": false}, "args": [1], "kwargs": {"x": 2},
             "options": {"queue": "q", "expires": 60}, "relative": true},
            {"name": "b", "task": "t", "schedule": {"kind": "crontab", "minute": "{0, 30}", "hour": "[8, 17]", "day_of_week": "mon-fri",
             "day_of_month": "*", "month_of_year": "*"}, "args": [], "kwargs": {}, "options": {}, "relative": false},
            {"name": "c", "task": "t", "schedule": {"kind": "solar", "event": "sunset", "lat": 52.5, "lon": 13.4},
             "args": [], "kwargs": {}, "options": {}, "relative": false},
            {"name": "d", "task": "t", "schedule": {"kind": "other", "repr": "<moon>"}, "args": [], "kwargs": {}, "options": {},
             "relative": false},
            {"name": "e", "task": "t", "schedule": {"kind": "crontab", "minute": "99", "hour": "*", "day_of_week": "*",
             "day_of_month": "*", "month_of_year": "*"}, "args": [], "kwargs": {}, "options": {}, "relative": false}
        ]"#;
        let (entries, wrong) = entries(serde_json::from_str(reported).unwrap(), "Europe/Berlin");
        assert_eq!(entries[0].when, When::Every { every_ms: 500, relative: true });
        assert_eq!((entries[0].options.get("queue"), entries[0].source), (Some(&Value::from("q")), Source::App));
        assert_eq!(entries[1].when.to_string(), "0,30 8,17 * * mon-fri");
        assert_eq!((entries[2].when.to_string().as_str(), entries[2].timezone.as_deref()), ("sunset at 52.5, 13.4", Some("Europe/Berlin")));
        assert_eq!((entries.len(), wrong.len()), (3, 2));
        assert!(wrong[0].contains("<moon>") && wrong[1].contains("99"), "{wrong:?}");
    }
}
