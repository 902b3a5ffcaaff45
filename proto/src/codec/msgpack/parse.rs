//! Building values from msgpack.

use super::{
    BIG_INT,
    scan::{Scanner, Token},
};
use crate::{DecodeError, Limits, Map, Value, value::halves};

/// Reads a document.
///
/// # Errors
/// When it is not msgpack as kombu writes it, or beyond `limits`.
pub(crate) fn parse(bytes: &[u8], limits: Limits) -> Result<Value, DecodeError> {
    read(bytes, limits, false)
}

/// Reads what [`write_record`] wrote.
pub(crate) fn parse_record(bytes: &[u8], limits: Limits) -> Result<Value, DecodeError> {
    read(bytes, limits, true)
}

fn read(bytes: &[u8], limits: Limits, record: bool) -> Result<Value, DecodeError> {
    if bytes.len() > limits.size_bytes {
        return Err(DecodeError::new("", format!("{} bytes, more than the limit of {}", bytes.len(), limits.size_bytes)));
    }
    let mut scanner = Scanner::new(bytes, limits.depth);
    let value = value(&mut scanner, record)?;
    scanner.end()?;
    Ok(value)
}

/// A list or map whose end has not been seen, and how many values it still lacks.
enum Open {
    List(Vec<Value>, usize),
    Map(Map, String, usize),
}

/// What a length may cost before the elements have been seen.
const PREALLOCATED: usize = 256;

/// Text as a value has it. Records have it so already.
fn text_of(text: &str, record: bool) -> String {
    if record { text.to_owned() } else { halves::apart(text).into_owned() }
}

/// Reads one value without recursion.
fn value(scanner: &mut Scanner<'_>, record: bool) -> Result<Value, DecodeError> {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let mut done = match scanner.token()? {
            Token::Scalar(value) => value,
            Token::Text(text) => Value::Str(text_of(text, record)),
            Token::Bytes(bytes) => Value::Bytes(bytes.to_owned()),
            Token::Extension(BIG_INT, digits) if record => match std::str::from_utf8(digits) {
                Ok(digits) => Value::BigInt(digits.into()),
                Err(_) => return scanner.error("an integer that is none ends"),
            },
            Token::Extension(..) => return scanner.error("an extension, which Celery does not send, ends"),
            Token::List(0) => Value::List(Vec::new()),
            Token::Map(0) => Value::Map(Map::new()),
            Token::List(_) | Token::Map(_) if open.len() >= scanner.depth => return scanner.too_deep(),
            Token::List(length) => {
                open.push(Open::List(Vec::with_capacity(length.min(PREALLOCATED)), length));
                continue;
            }
            Token::Map(length) => {
                let key = text_of(scanner.key()?, record);
                open.push(Open::Map(Map::with_capacity(length.min(PREALLOCATED)), key, length));
                continue;
            }
        };
        loop {
            match open.pop() {
                None => return Ok(done),
                Some(Open::List(mut items, left)) => {
                    items.push(done);
                    if left > 1 {
                        open.push(Open::List(items, left - 1));
                        break;
                    }
                    done = Value::List(items);
                }
                Some(Open::Map(mut map, name, left)) => {
                    map.insert(name, done);
                    if left > 1 {
                        let key = text_of(scanner.key()?, record);
                        open.push(Open::Map(map, key, left - 1));
                        break;
                    }
                    done = Value::Map(map);
                }
            }
        }
    }
}
