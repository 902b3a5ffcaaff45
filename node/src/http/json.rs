//! Values as plain JSON, for readers that are not Python.
//!
//! Python's extensions have no place in JSON proper: `NaN` and the infinities become the strings `"NaN"`, `"Infinity"` and
//! `"-Infinity"`, integers beyond 64 bits become strings of digits, and bytes become kombu's `base64` special value.

use serde_json::{Number, Value as Json, json};
use umbel_proto::{Envelope, Invocation, Limits, ResultRecord, ResultTuple, Value};

/// `value` as JSON.
pub(super) fn value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Int(int) => Json::from(*int),
        Value::BigInt(digits) => Json::from(&**digits),
        Value::Float(float) => Number::from_f64(*float).map_or_else(|| Json::from(non_finite(*float)), Json::Number),
        Value::Str(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) => {
            // `[1, 2]` cannot be told from a list of integers; kombu's form can.
            let text = umbel_proto::codec::json::write(&Value::Bytes(bytes.clone()));
            serde_json::from_slice(&text).unwrap_or(Json::Null)
        }
        Value::List(list) => Json::Array(list.iter().map(self::value).collect()),
        Value::Map(map) => Json::Object(map.iter().map(|(key, item)| (key.clone(), self::value(item))).collect()),
    }
}

fn non_finite(float: f64) -> &'static str {
    if float.is_nan() {
        "NaN"
    } else if float > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// A result record in Celery's keys.
pub(super) fn record(record: &ResultRecord) -> Json {
    value(&record.to_value())
}

/// How many steps of a chain are shown in front of its last. Readers of JSON go no deeper than 128 levels (`serde_json`).
const PARENTS_MAX: usize = 30;

/// A result tree: `{"id", "parent", "children"}`, its parents up to a limit.
pub(super) fn tree(tuple: &ResultTuple) -> Json {
    tree_to(tuple, PARENTS_MAX)
}

fn tree_to(tuple: &ResultTuple, parents: usize) -> Json {
    let parent = tuple.parent.as_deref().filter(|_| parents > 0);
    json!({
        "id": tuple.id,
        "parent": parent.map(|parent| tree_to(parent, parents - 1)),
        "children": tuple.children.as_ref().map(|children| children.iter().map(|child| tree_to(child, parents)).collect::<Vec<_>>()),
    })
}

/// What can be shown of a waiting or dead message.
pub(super) fn message(envelope: &Result<Envelope, umbel_proto::DecodeError>) -> Json {
    let envelope = match envelope {
        Ok(envelope) => envelope,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    match Invocation::decode(envelope, Limits::default()) {
        Ok(invocation) => {
            let headers = &invocation.headers;
            json!({
                "id": headers.id, "task": headers.task, "args": headers.argsrepr, "kwargs": headers.kwargsrepr,
                "retries": headers.retries, "eta": headers.eta.as_ref().map(|eta| eta.as_str().to_owned()),
                "expires": headers.expires.as_ref().map(|expires| expires.as_str().to_owned()),
                "priority": invocation.properties.priority, "root_id": headers.root_id, "parent_id": headers.parent_id,
            })
        }
        Err(error) => json!({ "error": error.to_string(), "bytes": envelope.body.len() }),
    }
}
