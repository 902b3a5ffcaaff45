//! Writing values as msgpack.

use std::borrow::Cow;

use rmp::encode;

use super::BIG_INT;
use crate::{EncodeError, Value, value::halves};

/// Writes a value for others to read.
pub(crate) fn write(value: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(128);
    push(value, &mut out, false)?;
    Ok(out)
}

/// Writes a value for Umbel to read.
pub(crate) fn write_record(value: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(128);
    push(value, &mut out, true)?;
    Ok(out)
}

fn failed(error: &dyn std::fmt::Display) -> EncodeError {
    EncodeError::new("msgpack", error.to_string())
}

fn length(length: usize) -> Result<u32, EncodeError> {
    u32::try_from(length).map_err(|_| EncodeError::new("msgpack", "longer than 4 GiB"))
}

fn push(value: &Value, out: &mut Vec<u8>, record: bool) -> Result<(), EncodeError> {
    match value {
        Value::Null => encode::write_nil(out).map_err(|error| failed(&error)),
        Value::Bool(bool) => encode::write_bool(out, *bool).map_err(|error| failed(&error)),
        Value::Int(int) => encode::write_sint(out, *int).map(drop).map_err(|error| failed(&error)),
        Value::BigInt(digits) => match digits.parse::<u64>() {
            Ok(int) => encode::write_uint(out, int).map(drop).map_err(|error| failed(&error)),
            Err(_) if record => {
                encode::write_ext_meta(out, length(digits.len())?, BIG_INT).map_err(|error| failed(&error))?;
                out.extend_from_slice(digits.as_bytes());
                Ok(())
            }
            Err(_) => Err(EncodeError::new("integer", "is beyond the 64 bits that msgpack has")),
        },
        Value::Float(float) => encode::write_f64(out, *float).map_err(|error| failed(&error)),
        Value::Str(text) => push_text(text, out, record),
        Value::Bytes(bytes) => {
            encode::write_bin_len(out, length(bytes.len())?).map_err(|error| failed(&error))?;
            out.extend_from_slice(bytes);
            Ok(())
        }
        Value::List(items) => {
            encode::write_array_len(out, length(items.len())?).map_err(|error| failed(&error))?;
            items.iter().try_for_each(|item| push(item, out, record))
        }
        Value::Map(map) => {
            encode::write_map_len(out, length(map.len())?).map_err(|error| failed(&error))?;
            map.iter().try_for_each(|(key, value)| {
                push_text(key, out, record)?;
                push(value, out, record)
            })
        }
    }
}

fn push_text(text: &str, out: &mut Vec<u8>, record: bool) -> Result<(), EncodeError> {
    let text = if record { Some(Cow::Borrowed(text)) } else { halves::joined(text) };
    let text = text.ok_or_else(|| EncodeError::new("text", "half of a surrogate pair, which UTF-8 and so msgpack have no form for"))?;
    encode::write_str_len(out, length(text.len())?).map_err(|error| failed(&error))?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}
