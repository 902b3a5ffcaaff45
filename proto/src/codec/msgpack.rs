//! msgpack as kombu writes it: `use_bin_type=True`, `raw=False`.
//!
//! Maps have text keys, integers at most 64 bits, and there are no extension types. Only in records of Umbel's own
//! is an integer beyond that written as an extension, because those must hold every value there is.

use std::ops::Range;

use rmp::{Marker, encode};

use crate::{DecodeError, EncodeError, Limits, Map, Value};

/// The extension type of an integer in decimal, in Umbel's own records.
const BIG_INT: i8 = 1;

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

fn push(value: &Value, out: &mut Vec<u8>, record: bool) -> Result<(), EncodeError> {
    let failed = |error: &dyn std::fmt::Display| EncodeError::new("msgpack", error.to_string());
    let length = |length: usize| u32::try_from(length).map_err(|_| EncodeError::new("msgpack", "longer than 4 GiB"));
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
        Value::Str(text) => push_text(text, out, length(text.len())?).map_err(|error| failed(&error)),
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
                push_text(key, out, length(key.len())?).map_err(|error| failed(&error))?;
                push(value, out, record)
            })
        }
    }
}

fn push_text(text: &str, out: &mut Vec<u8>, length: u32) -> Result<(), encode::ValueWriteError> {
    encode::write_str_len(out, length)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

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

/// The kinds of value that hold others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A list.
    List,
    /// A map.
    Map,
}

/// What the next bytes are.
enum Token<'a> {
    Scalar(Value),
    Text(&'a str),
    Bytes(&'a [u8]),
    Extension(i8, &'a [u8]),
    List(usize),
    Map(usize),
}

/// A position in a document.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of `bytes` that enters at most `depth` levels of lists and maps.
    pub(crate) fn new(bytes: &'a [u8], depth: usize) -> Self {
        Self { bytes, at: 0, depth }
    }

    fn error<T>(&self, what: &str) -> Result<T, DecodeError> {
        Err(DecodeError::new("", format!("not msgpack: {what} at byte {}", self.at)))
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        match self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end)) {
            Some(slice) => {
                self.at += length;
                Ok(slice)
            }
            None => self.error("it ends in the middle of a value"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N)?);
        Ok(array)
    }

    /// A length of 1, 2 or 4 bytes.
    fn length(&mut self, width: usize) -> Result<usize, DecodeError> {
        Ok(self.slice(width)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    /// A count of values that need at least `each` bytes: one that cannot be true is refused before anything believes it.
    fn count(&mut self, width: usize, each: usize) -> Result<usize, DecodeError> {
        let count = self.length(width)?;
        self.believable(count, each)
    }

    fn believable(&self, count: usize, each: usize) -> Result<usize, DecodeError> {
        if count.saturating_mul(each) <= self.bytes.len() - self.at { Ok(count) } else { self.error("a length beyond the end") }
    }

    /// Checks that nothing follows.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { self.error("more than one value") }
    }

    /// The kind of what is next, if it holds other values.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match Marker::from_u8(*self.bytes.get(self.at)?) {
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => Some(Kind::List),
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => Some(Kind::Map),
            _ => None,
        }
    }

    /// Enters a list and tells its length; `None` when something else is next.
    pub(crate) fn list(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.token()? {
            Token::List(length) => Ok(Some(length)),
            _ => Ok(None),
        }
    }

    fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        let [first] = self.array()?;
        Ok(match Marker::from_u8(first) {
            Marker::Null => Token::Scalar(Value::Null),
            Marker::True => Token::Scalar(Value::Bool(true)),
            Marker::False => Token::Scalar(Value::Bool(false)),
            Marker::FixPos(int) => Token::Scalar(Value::Int(int.into())),
            Marker::FixNeg(int) => Token::Scalar(Value::Int(int.into())),
            Marker::U8 => Token::Scalar(Value::Int(u8::from_be_bytes(self.array()?).into())),
            Marker::U16 => Token::Scalar(Value::Int(u16::from_be_bytes(self.array()?).into())),
            Marker::U32 => Token::Scalar(Value::Int(u32::from_be_bytes(self.array()?).into())),
            Marker::U64 => Token::Scalar(Value::from(u64::from_be_bytes(self.array()?))),
            Marker::I8 => Token::Scalar(Value::Int(i8::from_be_bytes(self.array()?).into())),
            Marker::I16 => Token::Scalar(Value::Int(i16::from_be_bytes(self.array()?).into())),
            Marker::I32 => Token::Scalar(Value::Int(i32::from_be_bytes(self.array()?).into())),
            Marker::I64 => Token::Scalar(Value::Int(i64::from_be_bytes(self.array()?))),
            Marker::F32 => Token::Scalar(Value::Float(f32::from_be_bytes(self.array()?).into())),
            Marker::F64 => Token::Scalar(Value::Float(f64::from_be_bytes(self.array()?))),
            Marker::FixStr(length) => self.text(length.into())?,
            Marker::Str8 => self.sized_text(1)?,
            Marker::Str16 => self.sized_text(2)?,
            Marker::Str32 => self.sized_text(4)?,
            Marker::Bin8 => self.sized_bytes(1)?,
            Marker::Bin16 => self.sized_bytes(2)?,
            Marker::Bin32 => self.sized_bytes(4)?,
            Marker::FixArray(length) => Token::List(self.believable(length.into(), 1)?),
            Marker::Array16 => Token::List(self.count(2, 1)?),
            Marker::Array32 => Token::List(self.count(4, 1)?),
            Marker::FixMap(length) => Token::Map(self.believable(length.into(), 2)?),
            Marker::Map16 => Token::Map(self.count(2, 2)?),
            Marker::Map32 => Token::Map(self.count(4, 2)?),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.sized_extension(1)?,
            Marker::Ext16 => self.sized_extension(2)?,
            Marker::Ext32 => self.sized_extension(4)?,
            Marker::Reserved => return self.error("the byte that stands for nothing"),
        })
    }

    fn sized_text(&mut self, width: usize) -> Result<Token<'a>, DecodeError> {
        let length = self.length(width)?;
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<Token<'a>, DecodeError> {
        match std::str::from_utf8(self.slice(length)?) {
            Ok(text) => Ok(Token::Text(text)),
            Err(_) => self.error("text that is not UTF-8 ends"),
        }
    }

    fn sized_bytes(&mut self, width: usize) -> Result<Token<'a>, DecodeError> {
        let length = self.length(width)?;
        Ok(Token::Bytes(self.slice(length)?))
    }

    fn sized_extension(&mut self, width: usize) -> Result<Token<'a>, DecodeError> {
        let length = self.length(width)?;
        self.extension(length)
    }

    fn extension(&mut self, length: usize) -> Result<Token<'a>, DecodeError> {
        let kind = i8::from_be_bytes(self.array()?);
        Ok(Token::Extension(kind, self.slice(length)?))
    }

    fn key(&mut self) -> Result<&'a str, DecodeError> {
        match self.token()? {
            Token::Text(key) => Ok(key),
            _ => self.error("a map key that is not text ends"),
        }
    }

    /// Passes a whole value and tells where it is.
    pub(crate) fn skip(&mut self) -> Result<Range<usize>, DecodeError> {
        let start = self.at;
        // How many values are left in each open level, and whether it is a map.
        let mut open: Vec<(usize, bool)> = Vec::new();
        loop {
            let entered = match self.token()? {
                Token::List(length) if length > 0 => Some((length, false)),
                Token::Map(length) if length > 0 => Some((length, true)),
                Token::Extension(..) => return self.error("an extension, which Celery does not send, ends"),
                _ => None,
            };
            if let Some(level) = entered {
                if open.len() >= self.depth {
                    return self.too_deep();
                }
                open.push(level);
            } else {
                while let Some((left, _)) = open.last_mut() {
                    *left -= 1;
                    if *left > 0 {
                        break;
                    }
                    open.pop();
                }
            }
            match open.last() {
                None => return Ok(start..self.at),
                Some((_, true)) => drop(self.key()?),
                Some((_, false)) => {}
            }
        }
    }

    fn too_deep<T>(&self) -> Result<T, DecodeError> {
        Err(DecodeError::new("", format!("nested deeper than {} levels", self.depth)))
    }
}

/// A list or map whose end has not been seen, and how many values it still lacks.
enum Open {
    List(Vec<Value>, usize),
    Map(Map, String, usize),
}

/// What a length may cost before the elements have been seen.
const PREALLOCATED: usize = 256;

/// Reads one value without recursion.
fn value(scanner: &mut Scanner<'_>, record: bool) -> Result<Value, DecodeError> {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let mut done = match scanner.token()? {
            Token::Scalar(value) => value,
            Token::Text(text) => Value::Str(text.to_owned()),
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
                let key = scanner.key()?.to_owned();
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
                        let key = scanner.key()?.to_owned();
                        open.push(Open::Map(map, key, left - 1));
                        break;
                    }
                    done = Value::Map(map);
                }
            }
        }
    }
}
