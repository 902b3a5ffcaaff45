//! The fields of a log line, in order.

use std::{collections::HashMap, fmt};

use serde::de::IgnoredAny;
use serde_json::Value;
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::{OUTPUT, text};

/// What an event says.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) others: Vec<(&'static str, Value)>,
}

impl Fields {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    /// What somebody's process has written as a JSON object, as applications with log formats of their own do: whoever collects those reads
    /// it as it is. Not where it could move a cursor, which JSON need not write as an escape, nor where it looks like a line of the node's own.
    pub(super) fn as_written(&self, event: &Event<'_>) -> Option<&str> {
        let text = self.message.as_str();
        let ours = |object: HashMap<String, IgnoredAny>| object.contains_key("node") && object.contains_key("target");
        let is_theirs = || text.starts_with('{') && serde_json::from_str(text).is_ok_and(|object| !ours(object));
        (event.metadata().target() == OUTPUT && is_theirs() && !text.contains(text::is_harmful)).then_some(text)
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

/// Celery's (that is, Python's) name of a level.
pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}
