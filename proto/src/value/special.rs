//! kombu's special values: `{"__type__": "datetime", "__value__": …}`, wire contract §1.5.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Map, Value};
use crate::DecodeError;

/// The types kombu itself registers; an unknown one makes a reader refuse the whole message.
pub(crate) const KNOWN: [&str; 7] = ["datetime", "date", "time", "decimal", "uuid", "bytes", "base64"];

/// The type and content of a map of exactly `__type__` and `__value__`.
pub(crate) fn of_map(map: &Map) -> Option<(&str, &Value)> {
    if map.len() != 2 {
        return None;
    }
    Some((map.get("__type__")?.as_str()?, map.get("__value__")?))
}

/// The special value of bytes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What a special value means to a Rust type.
pub(super) enum Meaning {
    /// Dates, times, decimals and UUIDs.
    Text(String),
    /// `bytes` and `base64`.
    Bytes(Vec<u8>),
}

/// Reads the special value in `map`, if it is one of those kombu knows.
pub(super) fn meaning(map: &Map) -> Option<Result<Meaning, DecodeError>> {
    let (kind, value) = of_map(map)?;
    let bad = |what: &str| Some(Err(DecodeError::new("__value__", format!("is not {what}"))));
    match (kind, value) {
        ("datetime" | "date" | "time" | "decimal", Value::Str(text)) => Some(Ok(Meaning::Text(text.clone()))),
        ("datetime" | "date" | "time" | "decimal", _) => bad("text"),
        ("uuid", value) => {
            let hex = value.as_str().or_else(|| value.as_map()?.get("hex")?.as_str());
            match hex.and_then(|hex| uuid::Uuid::try_parse(hex).ok()) {
                Some(uuid) => Some(Ok(Meaning::Text(uuid.to_string()))),
                None => bad("a UUID"),
            }
        }
        ("bytes", Value::Str(text)) => Some(Ok(Meaning::Bytes(text.clone().into_bytes()))),
        ("base64", Value::Str(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Some(Ok(Meaning::Bytes(bytes))),
            Err(_) => bad("base64"),
        },
        ("bytes" | "base64", _) => bad("text"),
        _ => None,
    }
}

/// Whether `text` is a decimal integer.
pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
