//! Celery's events: what workers and clients tell monitors, wire contract §7.
//!
//! An event is a flat map with its `type` among the other keys. `worker-*` events and `task-sent` travel one by one, the
//! other `task-*` events of a worker in a list; [`Event::parse`] takes both. A receiver drops its connection over an event
//! without `hostname` or `type` (§7.3), so those two cannot be left out here.

mod field;
mod kinds;

use field::{Fields, put};
pub use kinds::{
    Action, TaskFailed, TaskReceived, TaskRejected, TaskRetried, TaskRevoked, TaskSent, TaskSucceeded, TaskUuid, WorkerElect,
    WorkerElectAck, WorkerState,
};

use crate::{DecodeError, Limits, Map, Value, codec::json};

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The node (or, of `task-sent`, the client) that says so.
    pub hostname: String,
    /// The sender's distance from UTC in hours, negative to the east; a whole number before Celery 5.7.
    pub utcoffset: f64,
    /// The sender's process.
    pub pid: Option<i64>,
    /// The sender's logical clock.
    pub clock: Option<i64>,
    /// When, in seconds since 1970 by the sender's clock.
    pub timestamp: Option<f64>,
    /// What happened.
    pub action: Action,
    /// Keys that this version does not know, kept as they came.
    pub extra: Map,
}

impl Event {
    /// Reads the payload of an event message: one event, or a list of them.
    ///
    /// # Errors
    /// Names the key that is missing or of the wrong type, in a list with its index.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Vec<Self>, DecodeError> {
        match json::parse(bytes, limits).map_err(|error| error.within("event"))? {
            Value::List(events) => events
                .into_iter()
                .enumerate()
                .map(|(index, event)| Self::from_value(event).map_err(|error| error.within(&format!("event[{index}]"))))
                .collect(),
            single => Ok(vec![Self::from_value(single).map_err(|error| error.within("event"))?]),
        }
    }

    /// The payload of a message of one event.
    pub fn write(&self) -> Vec<u8> {
        json::write(&self.to_value())
    }

    /// The payload of a message of several.
    pub fn write_all(events: &[Self]) -> Vec<u8> {
        let mut out = String::from("[");
        for (index, event) in events.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            json::push(&event.to_value(), &mut out);
        }
        out.push(']');
        out.into_bytes()
    }

    /// Reads the map form.
    ///
    /// # Errors
    /// Names the key that is missing or of the wrong type.
    pub fn from_value(value: Value) -> Result<Self, DecodeError> {
        let Value::Map(map) = value else { return Err(DecodeError::new("", format!("must be a map, is {}", value.kind()))) };
        let mut fields = Fields(map);
        let kind: String = fields.take("type")?;
        Ok(Self {
            hostname: fields.take("hostname")?,
            utcoffset: fields.take::<Option<f64>>("utcoffset")?.unwrap_or_default(),
            pid: fields.take("pid")?,
            clock: fields.take("clock")?,
            timestamp: fields.take("timestamp")?,
            action: Action::read(kind, &mut fields)?,
            extra: fields.0,
        })
    }

    /// The map form, keys in Celery's order.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(24);
        put(&mut map, "hostname", &self.hostname);
        put(&mut map, "utcoffset", &self.utcoffset);
        put(&mut map, "pid", &self.pid);
        put(&mut map, "clock", &self.clock);
        self.action.write(&mut map);
        put(&mut map, "timestamp", &self.timestamp);
        map.insert("type".to_owned(), self.action.kind().into());
        map.extend(self.extra.iter().map(|(key, value)| (key.clone(), value.clone())));
        Value::Map(map)
    }

    /// The routing key of a message of one event: `worker.heartbeat`. (That of a list is [`MULTI`].)
    pub fn routing_key(&self) -> String {
        self.action.kind().replace('-', ".")
    }
}

/// The routing key of a list of task events.
pub const MULTI: &str = "task.multi";

#[cfg(test)]
mod tests;
