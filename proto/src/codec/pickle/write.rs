//! Writing, in protocol 3: the oldest that has bytes.

use super::op;
use crate::{EncodeError, Value, value::halves};

/// Writes plain data.
///
/// # Errors
/// For integers beyond 64 bits, for text with half of a surrogate pair, and for text of 4 GiB.
pub(crate) fn write(value: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![op::PROTO, 3];
    put(&mut out, value)?;
    out.push(op::STOP);
    Ok(out)
}

fn put(out: &mut Vec<u8>, value: &Value) -> Result<(), EncodeError> {
    match value {
        Value::Null => out.push(op::NONE),
        Value::Bool(true) => out.push(op::NEWTRUE),
        Value::Bool(false) => out.push(op::NEWFALSE),
        Value::Int(number) => {
            out.extend([op::LONG1, 8]);
            out.extend(number.to_le_bytes());
        }
        Value::BigInt(_) => return Err(EncodeError::new("pickle", "an integer beyond 64 bits")),
        Value::Float(number) => {
            out.push(op::BINFLOAT);
            out.extend(number.to_be_bytes());
        }
        Value::Str(text) => put_text(out, text)?,
        Value::Bytes(bytes) => put_sized(out, op::BINBYTES, bytes)?,
        Value::List(items) => {
            out.extend([op::EMPTY_LIST, op::MARK]);
            items.iter().try_for_each(|item| put(out, item))?;
            out.push(op::APPENDS);
        }
        Value::Map(map) => {
            out.extend([op::EMPTY_DICT, op::MARK]);
            for (key, value) in map {
                put_text(out, key)?;
                put(out, value)?;
            }
            out.push(op::SETITEMS);
        }
    }
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    let text = halves::joined(text).ok_or_else(|| EncodeError::new("pickle", "half of a surrogate pair"))?;
    put_sized(out, op::BINUNICODE, text.as_bytes())
}

fn put_sized(out: &mut Vec<u8>, code: u8, bytes: &[u8]) -> Result<(), EncodeError> {
    let length = u32::try_from(bytes.len()).map_err(|_| EncodeError::new("pickle", "more than 4 GiB of text or bytes"))?;
    out.push(code);
    out.extend(length.to_le_bytes());
    out.extend(bytes);
    Ok(())
}
