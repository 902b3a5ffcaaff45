//! The properties of a message: wire contract §1.2.

use super::{Properties, headers::text};
use crate::{DecodeError, Map, Value};

impl Properties {
    /// Reads the table; what is not known here goes to `other`, also what else `delivery_info` holds.
    pub(super) fn read(table: &Map) -> Result<Self, DecodeError> {
        let mut properties = Self::default();
        for (name, value) in table {
            properties.set(name, value).map_err(|error| error.within(name))?;
        }
        Ok(properties)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), DecodeError> {
        match (name, value) {
            // The transport's own name of one delivery; the next sending has another.
            ("delivery_tag", _) => {}
            // Written whenever nothing else is said: tasks survive a restart of the broker.
            ("delivery_mode", Value::Int(2)) => {}
            ("correlation_id" | "reply_to" | "priority" | "delivery_info", Value::Null) => {}
            // Some senders use integers here; it is an opaque label for all of them.
            ("correlation_id", Value::Int(int)) => self.correlation_id = Some(int.to_string()),
            ("correlation_id", _) => self.correlation_id = Some(text(value)?.to_owned()),
            ("reply_to", _) => self.reply_to = Some(text(value)?.to_owned()),
            ("priority", Value::Int(int)) => self.priority = Some(u8::try_from((*int).clamp(0, 255)).unwrap_or(u8::MAX)),
            ("priority", _) => return Err(super::headers::wrong("an integer", value)),
            ("delivery_info", Value::Map(info)) => self.set_delivery(info)?,
            ("delivery_info", _) => return Err(super::headers::wrong("a map", value)),
            _ => {
                self.other.insert(name.to_owned(), value.clone());
            }
        }
        Ok(())
    }

    fn set_delivery(&mut self, info: &Map) -> Result<(), DecodeError> {
        let mut rest = Map::new();
        for (name, value) in info {
            match (name.as_str(), value) {
                ("exchange" | "routing_key" | "redelivered", Value::Null) => {}
                ("exchange", _) => text(value).map_err(|error| error.within(name))?.clone_into(&mut self.exchange),
                ("routing_key", _) => text(value).map_err(|error| error.within(name))?.clone_into(&mut self.routing_key),
                ("redelivered", Value::Bool(redelivered)) => self.redelivered = *redelivered,
                _ => {
                    rest.insert(name.clone(), value.clone());
                }
            }
        }
        if !rest.is_empty() {
            self.other.insert("delivery_info".to_owned(), Value::Map(rest));
        }
        Ok(())
    }

    /// The table, in kombu's order.
    pub(super) fn write(&self, delivery_tag: &str) -> Map {
        let mut table = Map::with_capacity(6 + self.other.len());
        for (name, text) in [("correlation_id", &self.correlation_id), ("reply_to", &self.reply_to)] {
            if let Some(text) = text {
                table.insert(name.to_owned(), text.as_str().into());
            }
        }
        let mut info = Map::with_capacity(3);
        info.insert("exchange".to_owned(), self.exchange.as_str().into());
        info.insert("routing_key".to_owned(), self.routing_key.as_str().into());
        if self.redelivered {
            info.insert("redelivered".to_owned(), true.into());
        }
        table.insert("delivery_mode".to_owned(), Value::Int(2));
        for (name, value) in &self.other {
            match (name.as_str(), value) {
                ("delivery_info", Value::Map(rest)) => info.extend(rest.iter().map(|(name, value)| (name.clone(), value.clone()))),
                _ => {
                    table.insert(name.clone(), value.clone());
                }
            }
        }
        table.insert("delivery_info".to_owned(), Value::Map(info));
        if let Some(priority) = self.priority {
            table.insert("priority".to_owned(), Value::Int(priority.into()));
        }
        table.insert("delivery_tag".to_owned(), delivery_tag.into());
        table
    }
}
