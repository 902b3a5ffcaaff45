//! `[schedules.*]` of the configuration as entries.

use std::time::Duration;

use indexmap::IndexMap;
use umbel_proto::Value;
use umbel_scheduler::beat::{Entry, Source};

use super::written::{Distance, Written, zone};
use crate::config::{ConfigError, Name, Setting, Sourced};

/// The entries of the configuration, in order; `timezone` is that of entries that name none.
///
/// # Errors
/// What is wrong, each with its place.
pub fn configured(
    schedules: &IndexMap<String, IndexMap<String, Sourced<Setting>>>,
    timezone: &Sourced<String>,
) -> Result<Vec<Entry>, Vec<ConfigError>> {
    let mut errors = Vec::new();
    if let Err(reason) = zone(timezone) {
        errors.push(ConfigError::new("timezone", timezone.origin.clone(), reason).value(format!("{:?}", timezone.value)));
        return Err(errors);
    }
    let mut entries = Vec::new();
    for (name, settings) in schedules {
        match written(settings).entry(name, Source::Config, timezone) {
            Ok(entry) => entries.push(entry),
            Err(reason) => {
                let origin = settings.values().next().map_or_else(|| timezone.origin.clone(), |setting| setting.origin.clone());
                errors.push(ConfigError::new(Name::new(["schedules", name]).to_string(), origin, format!("is no schedule: {reason}")));
            }
        }
    }
    if errors.is_empty() { Ok(entries) } else { Err(errors) }
}

fn written(settings: &IndexMap<String, Sourced<Setting>>) -> Written {
    let get = |key: &str| settings.get(key).map(|setting| &setting.value);
    let text = |key: &str| match get(key) {
        Some(Setting::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let flag = |key: &str| match get(key) {
        Some(Setting::Bool(flag)) => Some(*flag),
        _ => None,
    };
    let distance = |key: &str| match get(key) {
        Some(Setting::Duration(duration)) => Some(Distance::from(*duration)),
        _ => None,
    };
    let value = |key: &str| match get(key) {
        Some(Setting::Value(value)) => Some(value.clone()),
        _ => None,
    };
    Written {
        task: text("task").unwrap_or_default(),
        cron: text("cron"),
        every: distance("every"),
        relative: flag("relative").unwrap_or(false),
        at: text("at"),
        solar: text("solar"),
        latitude: value("latitude").as_ref().and_then(Value::as_f64),
        longitude: value("longitude").as_ref().and_then(Value::as_f64),
        timezone: text("timezone"),
        args: match value("args") {
            Some(Value::List(args)) => args,
            Some(single) => vec![single],
            None => Vec::new(),
        },
        kwargs: value("kwargs").and_then(map).unwrap_or_default(),
        options: value("options").and_then(map).unwrap_or_default(),
        queue: text("queue"),
        catch_up: text("catch_up"),
        catch_up_window: distance("catch_up_window"),
        jitter: distance("jitter").filter(|jitter| *jitter != Distance::from(Duration::ZERO)),
        starts: text("starts"),
        ends: text("ends"),
        one_off: flag("one_off").unwrap_or(false),
        enabled: flag("enabled"),
    }
}

fn map(value: Value) -> Option<umbel_proto::Map> {
    match value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}
