//! Finding where msgpack values end, without building them.

use std::ops::Range;

use rmp::Marker;

use crate::{DecodeError, Value};

/// The kinds of value that hold others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A list.
    List,
    /// A map.
    Map,
}

/// What the next bytes are.
pub(super) enum Token<'a> {
    /// Null, a boolean or a number.
    Scalar(Value),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Bytes of a type of somebody's own.
    Extension(i8, &'a [u8]),
    /// The beginning of a list of so many values.
    List(usize),
    /// The beginning of a map of so many entries.
    Map(usize),
}

/// A position in a document.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) depth: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of `bytes` that enters at most `depth` levels of lists and maps.
    pub(crate) fn new(bytes: &'a [u8], depth: usize) -> Self {
        Self { bytes, at: 0, depth }
    }

    pub(super) fn error<T>(&self, what: &str) -> Result<T, DecodeError> {
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

    pub(super) fn token(&mut self) -> Result<Token<'a>, DecodeError> {
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

    pub(super) fn key(&mut self) -> Result<&'a str, DecodeError> {
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

    pub(super) fn too_deep<T>(&self) -> Result<T, DecodeError> {
        Err(DecodeError::new("", format!("nested deeper than {} levels", self.depth)))
    }
}
