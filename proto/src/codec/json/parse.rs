//! Building values from JSON.

use std::{borrow::Cow, ops::Range};

use super::scan::{Literal, Scanner};
use crate::{DecodeError, Limits, Map, Value, value::halves};

/// Parses a document.
///
/// As Python does: of equal keys the last wins, `-0` is the integer 0, and floats beyond range are infinite. An escaped
/// half of a surrogate pair, which Python keeps and UTF-8 has no form for, becomes a private character (`value/halves.rs`).
///
/// # Errors
/// When it is not JSON (with Python's extensions) or beyond `limits`.
pub fn parse(bytes: &[u8], limits: Limits) -> Result<Value, DecodeError> {
    if bytes.len() > limits.size_bytes {
        return Err(DecodeError::new("", format!("{} bytes, more than the limit of {}", bytes.len(), limits.size_bytes)));
    }
    let mut scanner = Scanner::new(bytes, limits.depth)?;
    let value = value(&mut scanner)?;
    scanner.end()?;
    Ok(value)
}

impl Scanner<'_> {
    /// Reads a whole value and tells where it is.
    pub(crate) fn value(&mut self) -> Result<(Range<usize>, Value), DecodeError> {
        self.peek();
        let start = self.at();
        let value = value(self)?;
        Ok((start..self.at(), value))
    }

    /// Reads the key of a map's entry and the colon behind it.
    pub(crate) fn entry(&mut self) -> Result<String, DecodeError> {
        key(self)
    }
}

/// A list or map whose end has not been seen.
enum Open {
    List(Vec<Value>),
    Map(Map, String),
}

/// Room for the entries of a map before they have been counted: enough for a signature.
const ENTRIES: usize = 8;

/// Reads one value. Does not recurse: open lists and maps wait on a stack no higher than the scanner's depth.
pub(crate) fn value(scanner: &mut Scanner<'_>) -> Result<Value, DecodeError> {
    let mut open: Vec<Open> = Vec::new();
    'value: loop {
        let next = scanner.peek();
        if matches!(next, b'[' | b'{') && open.len() >= scanner.depth() {
            return scanner.too_deep();
        }
        let mut done = match next {
            b'[' => {
                scanner.expect(b'[')?;
                if !scanner.take(b']') {
                    open.push(Open::List(Vec::new()));
                    continue;
                }
                Value::List(Vec::new())
            }
            b'{' => {
                scanner.expect(b'{')?;
                if !scanner.take(b'}') {
                    let key = key(scanner)?;
                    open.push(Open::Map(Map::with_capacity(ENTRIES), key));
                    continue;
                }
                Value::Map(Map::new())
            }
            _ => scalar(scanner, next)?,
        };
        loop {
            // What is open stays where it is until it ends: most of what is read are entries.
            let Some(innermost) = open.last_mut() else { return Ok(done) };
            done = match innermost {
                Open::List(items) => {
                    items.push(done);
                    if scanner.take(b',') {
                        continue 'value;
                    }
                    if !scanner.take(b']') {
                        return scanner.error("',' or ']'");
                    }
                    Value::List(std::mem::take(items))
                }
                Open::Map(map, name) => {
                    map.insert(std::mem::take(name), done);
                    if scanner.take(b',') {
                        *name = key(scanner)?;
                        continue 'value;
                    }
                    if !scanner.take(b'}') {
                        return scanner.error("',' or '}'");
                    }
                    Value::Map(std::mem::take(map))
                }
            };
            open.pop();
        }
    }
}

fn key(scanner: &mut Scanner<'_>) -> Result<String, DecodeError> {
    let key = text(scanner)?;
    scanner.expect(b':')?;
    Ok(key.into_owned())
}

/// Reads a string; borrowed unless it has escapes.
pub(crate) fn text<'a>(scanner: &mut Scanner<'a>) -> Result<Cow<'a, str>, DecodeError> {
    let literal = scanner.string()?;
    Ok(unescape(scanner, literal))
}

fn scalar(scanner: &mut Scanner<'_>, next: u8) -> Result<Value, DecodeError> {
    Ok(match next {
        b'"' => Value::Str(text(scanner)?.into_owned()),
        b'n' if scanner.word("null") => Value::Null,
        b't' if scanner.word("true") => Value::Bool(true),
        b'f' if scanner.word("false") => Value::Bool(false),
        b'N' if scanner.word("NaN") => Value::Float(f64::NAN),
        b'I' if scanner.word("Infinity") => Value::Float(f64::INFINITY),
        b'-' if scanner.word("-Infinity") => Value::Float(f64::NEG_INFINITY),
        _ => {
            let (range, integer) = scanner.number()?;
            let text = scanner.text(range);
            match (integer, text.parse::<i64>()) {
                (true, Ok(int)) => Value::Int(int),
                (true, Err(_)) => Value::BigInt(text.into()),
                (false, _) => Value::Float(text.parse().or_else(|_| scanner.error("a number"))?),
            }
        }
    })
}

/// The text of a literal whose escapes the scanner has checked.
fn unescape<'a>(scanner: &Scanner<'a>, literal: Literal) -> Cow<'a, str> {
    let raw = scanner.text(literal.content);
    let raw = halves::apart(raw);
    if !literal.escaped {
        return raw;
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = &*raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let (char, length) = match escape.as_bytes().first() {
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{c}', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b't') => ('\t', 1),
            Some(b'u') => unicode(escape),
            // The quote, the backslash and the slash stand for themselves.
            Some(byte) => (char::from(*byte), 1),
            None => break,
        };
        text.push(char);
        rest = &escape[length..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character of `uXXXX` or `uXXXX\uXXXX`, and how long that was.
fn unicode(escape: &str) -> (char, usize) {
    let unit = |at: usize| escape.get(at..at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let Some(first) = unit(1) else { return (char::REPLACEMENT_CHARACTER, escape.len()) };
    let second = if escape.get(5..7) == Some("\\u") { unit(7) } else { None };
    let pair = [first, second.unwrap_or_default()];
    match char::decode_utf16(pair).next() {
        // One that would stand for a half is taken for its own two.
        Some(Ok(char)) if halves::half(char).is_none() => (char, if char.len_utf16() == 2 { 11 } else { 5 }),
        _ => (halves::stand_in(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
    }
}
