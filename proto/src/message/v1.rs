//! Protocol 1, upgraded: wire contract §1.6.
//!
//! Its headers are empty; everything is in the body, a map. Chains were links then, so nothing of it is lost.

use super::{Body, Embed, Headers, Raw, headers::wrong};
use crate::{DecodeError, Map, Value, codec::Serializer};

/// Reads the body of a message without a `task` header.
pub(super) fn upgrade(serializer: Serializer, body: Value) -> Result<(Headers, Body), DecodeError> {
    let Value::Map(mut map) = body else { return Err(unknown()) };
    if !map.contains_key("task") {
        return Err(unknown());
    }
    let args = part(serializer, map.shift_remove("args"), Value::List(Vec::new()), |value| matches!(value, Value::List(_)), "a list")
        .map_err(|error| error.within("args").within("body"))?;
    let kwargs = part(serializer, map.shift_remove("kwargs"), Value::Map(Map::new()), |value| matches!(value, Value::Map(_)), "a map")
        .map_err(|error| error.within("kwargs").within("body"))?;
    let mut follows = Map::new();
    for name in ["callbacks", "errbacks", "chord"] {
        follows.extend(map.shift_remove(name).map(|value| (name.to_owned(), value)));
    }
    let embed = Embed::read(Value::Map(follows)).map_err(|error| error.within("body"))?;
    // Times are in UTC or carry an offset whatever this says; Celery 5 does not look at it either.
    map.shift_remove("utc");
    if let Some(set) = map.shift_remove("taskset").filter(|set| !set.is_null()) {
        map.insert("group".to_owned(), set);
    }
    let headers = Headers::read(&map).map_err(|error| error.within("body"))?;
    Ok((headers, Body::Parts { args, kwargs, embed }))
}

fn part(serializer: Serializer, value: Option<Value>, default: Value, is: impl Fn(&Value) -> bool, what: &str) -> Result<Raw, DecodeError> {
    let value = value.unwrap_or(default);
    if !is(&value) {
        return Err(wrong(what, &value));
    }
    let bytes = serializer.encode_as_is(&value).map_err(|error| DecodeError::new("", error.reason))?;
    Ok(Raw { serializer, bytes })
}

pub(super) fn unknown() -> DecodeError {
    DecodeError::new("headers.task", "is missing, and the body is not a protocol 1 message either")
}
