//! Whether a value is a signature, all the way down, found out without building anything.
//!
//! Celery looks at a callback only after the task has run, and then fails the task for it (wire contract §11.10). Umbel
//! looks before. The recursion is bounded: a value's depth was limited when it was decoded, and each signature in a
//! signature is at least one level deeper.

use super::{Options, SubtaskType};
use crate::{DecodeError, Map, Value};

/// Checks a signature.
pub(super) fn signature(value: &Value) -> Result<(), DecodeError> {
    let Value::Map(map) = value else { return bad("", "a signature (a map)", value) };
    match map.get("task") {
        Some(Value::Str(task)) if !task.is_empty() => {}
        Some(Value::Str(_)) => return Err(DecodeError::new("task", "is empty")),
        Some(other) => return bad("task", "text", other),
        None => return Err(DecodeError::new("task", "is missing")),
    }
    // What Celery itself stumbles over when it is missing (§5.1); `args` and `subtask_type` it does without.
    for name in ["options", "kwargs", "immutable"] {
        if !map.contains_key(name) {
            return Err(DecodeError::new(name, "is missing"));
        }
    }
    expect(map, "args", "a list", |value| matches!(value, Value::List(_)))?;
    expect(map, "kwargs", "a map", |value| matches!(value, Value::Map(_)))?;
    expect(map, "options", "a map", |value| matches!(value, Value::Map(_)))?;
    expect(map, "immutable", "a boolean", |value| matches!(value, Value::Bool(_)))?;
    expect(map, "subtask_type", "a kind of signature: chain, group, chord, xmap, xstarmap or chunks", |value| {
        value.as_str().is_some_and(|name| SubtaskType::by_name(name).is_some())
    })?;
    if let Some(Value::Map(options)) = map.get("options") {
        Options::check(options).map_err(|error| error.within("options"))?;
    }
    let kind = map.get("subtask_type").and_then(Value::as_str).and_then(SubtaskType::by_name);
    match (kind, map.get("kwargs")) {
        (Some(kind), Some(Value::Map(kwargs))) => parts(kind, kwargs).map_err(|error| error.within("kwargs")),
        (Some(_), _) => Err(DecodeError::new("kwargs", "is null, but holds the parts of this kind of signature")),
        (None, _) => Ok(()),
    }
}

/// Checks a list of signatures.
pub(super) fn list(items: &[Value]) -> Result<(), DecodeError> {
    for (index, item) in items.iter().enumerate() {
        signature(item).map_err(|error| error.within(&format!("[{index}]")))?;
    }
    Ok(())
}

fn parts(kind: SubtaskType, kwargs: &Map) -> Result<(), DecodeError> {
    match kind {
        SubtaskType::Chain | SubtaskType::Group => some(kwargs, "tasks"),
        SubtaskType::Chord => {
            some(kwargs, "header")?;
            match kwargs.get("body") {
                None | Some(Value::Null) => Ok(()),
                Some(body) => signature(body).map_err(|error| error.within("body")),
            }
        }
        SubtaskType::Map | SubtaskType::Starmap | SubtaskType::Chunks => {
            expect(kwargs, "it", "a list", |value| matches!(value, Value::List(_)))?;
            match kwargs.get("task") {
                Some(task) => signature(task).map_err(|error| error.within("task")),
                None => Err(DecodeError::new("task", "is missing")),
            }
        }
    }
}

/// One or several signatures under `name`.
fn some(kwargs: &Map, name: &str) -> Result<(), DecodeError> {
    match kwargs.get(name) {
        None => Err(DecodeError::new(name, "is missing")),
        Some(Value::Null) => Ok(()),
        Some(Value::List(items)) => list(items).map_err(|error| error.within(name)),
        Some(single) => signature(single).map_err(|error| error.within(name)),
    }
}

fn expect(map: &Map, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<(), DecodeError> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if is(value) => Ok(()),
        Some(value) => bad(name, what, value),
    }
}

fn bad(name: &str, what: &str, value: &Value) -> Result<(), DecodeError> {
    Err(DecodeError::new(name, format!("must be {what}, is {}", value.kind())))
}
