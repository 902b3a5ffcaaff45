//! What Celery wrote, read and written again.
//!
//! The captures beside this file (see `README.md` there) hold every task message, envelope, unacked entry, result, chord
//! part and event that was recorded from live clients and workers. Every line of every file goes through the decoder and
//! the encoder and must come out equal; the number of lines is part of each test, so that none can be passed over.

mod events;
mod fields;
mod hostile;
mod messages;
mod results;

use umbel_proto::{Limits, Map, Value, codec::json};

/// One capture: where it is from and what it holds.
pub(crate) struct Capture {
    map: Map,
}

impl Capture {
    pub(crate) fn from(&self) -> &str {
        self.text("from")
    }

    /// The text as it was on the wire.
    pub(crate) fn raw(&self) -> &str {
        self.text("raw")
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.map[name].as_str().unwrap()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }
}

/// The captures in `<version>/<kind>.jsonl`, of which there are `count`.
pub(crate) fn captures(version: &str, kind: &str, count: usize) -> Vec<Capture> {
    let path = format!("{}/golden/{version}/{kind}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let captures: Vec<Capture> = text
        .lines()
        .map(|line| match parse(line) {
            Value::Map(map) => Capture { map },
            other => panic!("{path}: {other:?}"),
        })
        .collect();
    assert_eq!(captures.len(), count, "captures in {path}");
    captures
}

pub(crate) fn parse(text: &str) -> Value {
    json::parse(text.as_bytes(), Limits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Equality as Python sees it: `0 == 0.0`.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(_), Value::Float(_)) | (Value::Float(_), Value::Int(_)) => a.as_f64() == b.as_f64(),
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Map(a), Value::Map(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b))),
        _ => a == b,
    }
}

/// Asserts that `after` is what `before` was.
pub(crate) fn assert_equal(from: &str, before: &Value, after: &Value) {
    assert!(equal(before, after), "{from} was\n{before:?}\nand is now\n{after:?}");
}

/// `value` without the keys that are null: readers take a missing key for a null one.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Map(map) => {
            map.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())).collect::<Map>().into()
        }
        other => other.clone(),
    }
}
