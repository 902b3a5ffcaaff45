//! What is written on a message on its way through Redis.
//!
//! How often a message has been taken, and what became of it, travels with it: as the property `umbel` of its envelope, beside
//! kombu's own `redelivered` flags. A Celery worker that takes and restores the message keeps the property without looking at
//! it, and nothing has to be cleaned up when it acknowledges.

use umbel_proto::{Limits, Map, Millis, Value, codec::json};

/// The property's name.
const NAME: &str = "umbel";

/// What travels with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Passage {
    /// How often it has been taken.
    pub(crate) attempts: u32,
    /// How many executors died under it.
    pub(crate) crashes: u32,
    /// Whether it was acknowledged early by a node that died before the ending.
    pub(crate) lost: bool,
    /// When it was published, if by a node.
    pub(crate) at: Option<Millis>,
}

impl Passage {
    /// Reads and removes the property. What Celery restored without a node ever having taken it was taken once.
    pub(crate) fn take(properties: &mut Map) -> Self {
        let redelivered = properties
            .get("delivery_info")
            .and_then(Value::as_map)
            .and_then(|info| info.get("redelivered"))
            .is_some_and(|flag| flag.as_bool() == Some(true));
        match properties.shift_remove(NAME) {
            Some(Value::Map(map)) => Self::read(&map),
            _ => Self { attempts: u32::from(redelivered), ..Self::default() },
        }
    }

    fn read(map: &Map) -> Self {
        let number = |name: &str| map.get(name).and_then(Value::as_i64);
        let count = |name: &str| number(name).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        Self { attempts: count("attempts"), crashes: count("crashes"), lost: count("lost") > 0, at: number("at") }
    }

    fn write(self) -> Value {
        let mut map = Map::new();
        map.insert("attempts".to_owned(), Value::from(self.attempts));
        if self.crashes > 0 {
            map.insert("crashes".to_owned(), Value::from(self.crashes));
        }
        if self.lost {
            map.insert("lost".to_owned(), Value::from(1));
        }
        if let Some(at) = self.at {
            map.insert("at".to_owned(), Value::from(at));
        }
        Value::Map(map)
    }

    /// Writes it among the properties of a new message.
    pub(crate) fn put(self, properties: &mut Map) {
        properties.insert(NAME.to_owned(), self.write());
    }
}

/// An entry of `unacked` on its way back to a queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Back {
    /// The envelope as it goes back.
    pub(crate) envelope: Vec<u8>,
    /// The exchange it had been sent to; empty for straight to a queue.
    pub(crate) exchange: String,
    /// The routing key, or the queue.
    pub(crate) routing_key: String,
    /// Its priority.
    pub(crate) priority: Option<i64>,
    /// What travels with it from now on.
    pub(crate) passage: Passage,
    /// Its own delivery tag, if it has one.
    pub(crate) tag: Option<String>,
}

/// Reads an entry and marks its envelope as delivered before, as kombu does (`kombu/transport/virtual/base.py`), `change` having
/// a last word on what travels with it. An envelope that cannot be read goes back as it came.
pub(crate) fn restore(entry: &[u8], change: impl FnOnce(&mut Passage)) -> Back {
    match json::parse(entry, Limits::default()) {
        Ok(Value::List(mut items)) if items.len() == 3 => {
            let routing_key = text(items.pop());
            let exchange = text(items.pop());
            let envelope = items.pop().unwrap_or_default();
            mark(envelope, exchange, routing_key, change)
        }
        _ => unreadable(entry, change),
    }
}

fn mark(mut envelope: Value, exchange: String, routing_key: String, change: impl FnOnce(&mut Passage)) -> Back {
    let mut passage = Passage::default();
    let (mut priority, mut tag) = (None, None);
    if let Value::Map(map) = &mut envelope {
        if let Some(Value::Map(properties)) = map.get_mut("properties") {
            passage = Passage::take(properties);
            priority = properties.get("priority").and_then(Value::as_i64);
            tag = properties.get("delivery_tag").and_then(Value::as_str).map(str::to_owned);
            change(&mut passage);
            passage.put(properties);
            if let Some(Value::Map(info)) = properties.get_mut("delivery_info") {
                info.insert("redelivered".to_owned(), Value::Bool(true));
            }
        } else {
            change(&mut passage);
        }
        if let Some(Value::Map(headers)) = map.get_mut("headers") {
            headers.insert("redelivered".to_owned(), Value::Bool(true));
        }
    }
    Back { envelope: json::write(&envelope), exchange, routing_key, priority, passage, tag }
}

/// An entry around an envelope that is not JSON.
fn unreadable(entry: &[u8], change: impl FnOnce(&mut Passage)) -> Back {
    let mut passage = Passage::default();
    change(&mut passage);
    let (envelope, routing_key) = split(entry);
    Back { envelope: envelope.to_vec(), exchange: String::new(), routing_key, priority: None, passage, tag: None }
}

/// The envelope and the queue of an entry that a node wrote, which is `[envelope,"","queue"]`, whatever the envelope is.
pub(crate) fn split(entry: &[u8]) -> (&[u8], String) {
    let cut = entry.windows(4).rposition(|bytes| bytes == b",\"\",").unwrap_or(entry.len());
    let queue = entry.get(cut + 4..entry.len().saturating_sub(1)).unwrap_or_default();
    (entry.get(1..cut).unwrap_or_default(), text(json::parse(queue, Limits::default()).ok()))
}

/// What stands behind the envelope in an entry of `queue`.
pub(crate) fn tail(queue: &str) -> String {
    let queue = json::write(&Value::from(queue));
    format!(",\"\",{}]", String::from_utf8_lossy(&queue))
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::Str(text)) => text,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_message_carries_kombus_flags_and_its_passage() {
        let entry = br#"[{"body":"e30=","headers":{"id":"1"},"properties":{"priority":4,"delivery_tag":"t","delivery_info":{}}},"","q"]"#;
        let back = restore(entry, |passage| passage.attempts += 1);
        assert_eq!((&*back.routing_key, &*back.exchange, back.priority, back.tag.as_deref()), ("q", "", Some(4), Some("t")));
        let Ok(Value::Map(map)) = json::parse(&back.envelope, Limits::default()) else { panic!("an envelope is a map") };
        let flag = |value: Option<&Value>| value.and_then(Value::as_map).and_then(|map| map.get("redelivered")).cloned();
        let Some(Value::Map(mut properties)) = map.get("properties").cloned() else { panic!("properties are a map") };
        assert_eq!(flag(map.get("headers")), Some(Value::Bool(true)));
        assert_eq!(flag(properties.get("delivery_info")), Some(Value::Bool(true)));
        assert_eq!(Passage::take(&mut properties), Passage { attempts: 1, ..Passage::default() });
        assert!(!properties.contains_key("umbel"), "tasks do not see it");
    }

    #[test]
    fn what_celery_restored_was_taken_once() {
        let info = Map::from_iter([("redelivered".to_owned(), Value::Bool(true))]);
        let mut properties = Map::from_iter([("delivery_info".to_owned(), Value::Map(info))]);
        assert_eq!(Passage::take(&mut properties).attempts, 1);
        assert_eq!(Passage::take(&mut Map::new()).attempts, 0);
    }

    #[test]
    fn an_envelope_that_cannot_be_read_goes_back_as_it_came() {
        let back = restore(b"[no json,\"\",\"a\\\"b\"]", |_| ());
        assert_eq!((&*back.envelope, &*back.routing_key), (&b"no json"[..], "a\"b"));
        assert_eq!(restore(b"", |_| ()).envelope, b"");
    }
}
