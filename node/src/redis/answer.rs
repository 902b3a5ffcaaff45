//! Reading what the server answers.

use redis::Value;

use super::error::RedisError;

/// An array.
pub(crate) fn list(value: Value, what: &str) -> Result<Vec<Value>, RedisError> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(RedisError::strange(what)),
    }
}

/// An integer.
pub(crate) fn int(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Int(int) => Some(*int),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse::<f64>().ok().map(|number| number as i64),
        Value::Double(number) => Some(*number as i64),
        _ => None,
    }
}

/// Bytes.
pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Int(int) => Some(int.to_string().into_bytes()),
        _ => None,
    }
}

/// Text; what is not UTF-8 is none.
pub(crate) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}
