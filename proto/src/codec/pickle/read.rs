//! Reading.

use super::op;
use crate::{DecodeError, Limits, Map, Value, value::halves};

/// The most bytes of text that may come out of the memo, or go into it besides what was read: it lets a few bytes stand for many.
const REPEATED_MAX: usize = 1 << 20;

/// How much the memo may take for each byte that is read: a text of one takes four there, and some thirty here.
const KEPT: usize = 10;

/// Reads plain data.
///
/// # Errors
/// When `bytes` are no pickle, hold something else, or go beyond `limits`.
pub(crate) fn parse(bytes: &[u8], limits: Limits) -> Result<Value, DecodeError> {
    if bytes.len() > limits.size_bytes {
        return Err(DecodeError::new("", format!("{} bytes are more than {}", bytes.len(), limits.size_bytes)));
    }
    let mut reader = Reader { bytes, at: 0, depth: limits.depth, stack: Vec::new(), memo: Vec::new(), kept: 0, repeated: 0 };
    loop {
        if reader.step()? {
            return match (reader.stack.pop(), reader.stack.is_empty()) {
                (Some(Item::Value(value, _)), true) => Ok(value),
                _ => reader.error("it stops in the middle of a value"),
            };
        }
    }
}

/// How much a value that holds no others takes.
fn size(value: &Value) -> usize {
    match value {
        Value::Str(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

/// What is on the stack: a value with how deep it is, or a mark.
enum Item {
    Value(Value, usize),
    Mark,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    stack: Vec<Item>,
    /// What was read before, by number; `None` where that holds others, which plain data has no reason to share.
    memo: Vec<Option<Value>>,
    kept: usize,
    repeated: usize,
}

impl<'a> Reader<'a> {
    fn error<T>(&self, what: &str) -> Result<T, DecodeError> {
        Err(DecodeError::new("", format!("not a pickle of plain data: {what} at byte {}", self.at)))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end)) {
            Some(slice) => {
                self.at += count;
                Ok(slice)
            }
            None => self.error("it ends in the middle of a value"),
        }
    }

    /// A little-endian number.
    fn number(&mut self, width: usize) -> Result<usize, DecodeError> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Item::Value(value, 0));
    }

    fn pop(&mut self) -> Result<(Value, usize), DecodeError> {
        match self.stack.pop() {
            Some(Item::Value(value, depth)) => Ok((value, depth)),
            _ => self.error("a value is missing"),
        }
    }

    /// What stands behind the last mark, which goes as well, and how deep the deepest of it is.
    fn marked(&mut self) -> Result<(Vec<Value>, usize), DecodeError> {
        let Some(mark) = self.stack.iter().rposition(|item| matches!(item, Item::Mark)) else { return self.error("a mark is missing") };
        let mut deepest = 0;
        let values = self.stack.drain(mark..).filter_map(|item| match item {
            Item::Value(value, depth) => {
                deepest = deepest.max(depth);
                Some(value)
            }
            Item::Mark => None,
        });
        let values = values.collect();
        Ok((values, deepest))
    }

    /// As many values as a tuple is long.
    fn last(&mut self, count: usize) -> Result<(Vec<Value>, usize), DecodeError> {
        let mut values = Vec::with_capacity(count);
        let mut deepest = 0;
        for _ in 0..count {
            let (value, depth) = self.pop()?;
            deepest = deepest.max(depth);
            values.push(value);
        }
        values.reverse();
        Ok((values, deepest))
    }

    fn tuple(&mut self, (values, deepest): (Vec<Value>, usize)) -> Result<(), DecodeError> {
        let depth = self.above(deepest)?;
        self.stack.push(Item::Value(Value::List(values), depth));
        Ok(())
    }

    /// How deep something is that holds what is `deepest`.
    fn above(&self, deepest: usize) -> Result<usize, DecodeError> {
        if deepest >= self.depth { self.error("it is nested too deeply") } else { Ok(deepest + 1) }
    }

    fn extend(&mut self, (values, deepest): (Vec<Value>, usize)) -> Result<(), DecodeError> {
        let above = self.above(deepest)?;
        match self.stack.last_mut() {
            Some(Item::Value(Value::List(list), depth)) => {
                list.extend(values);
                *depth = above.max(*depth);
                Ok(())
            }
            _ => self.error("values for no list"),
        }
    }

    fn insert(&mut self, (values, deepest): (Vec<Value>, usize)) -> Result<(), DecodeError> {
        let above = self.above(deepest)?;
        let mut entries = Map::with_capacity(values.len() / 2);
        let mut values = values.into_iter();
        while let Some(key) = values.next() {
            match (key, values.next()) {
                (Value::Str(key), Some(value)) => drop(entries.insert(key, value)),
                _ => return self.error("a key that is no text, or a key without a value"),
            }
        }
        match self.stack.last_mut() {
            Some(Item::Value(Value::Map(map), depth)) => {
                map.extend(entries);
                *depth = above.max(*depth);
                Ok(())
            }
            _ => self.error("entries for no dict"),
        }
    }

    fn text(&mut self, length: usize) -> Result<(), DecodeError> {
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => self.push(Value::Str(halves::apart(text).into_owned())),
            Err(_) => return self.error("text that is not UTF-8 ends"),
        }
        Ok(())
    }

    /// An integer of up to 64 bits in two's complement; no command has longer ones.
    fn long(&mut self) -> Result<(), DecodeError> {
        let length = self.number(1)?;
        if length > 8 {
            return self.error("an integer beyond 64 bits");
        }
        let bytes = self.take(length)?;
        let fill = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut whole = [fill; 8];
        whole[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(whole)));
        Ok(())
    }

    fn memoize(&mut self, number: usize) -> Result<(), DecodeError> {
        // Numbers are given one after the other.
        if number > self.memo.len() {
            return self.error("a number of the memo that is not the next");
        }
        let value = match self.stack.last() {
            Some(Item::Value(Value::List(_) | Value::Map(_), _)) => None,
            Some(Item::Value(value, _)) => Some(value),
            _ => return self.error("nothing for the memo"),
        };
        // Each text is kept once; whoever keeps one again and again is after the memory.
        self.kept += value.map_or(0, size) + size_of::<Value>();
        if self.kept > KEPT * self.bytes.len() + REPEATED_MAX {
            return self.error("it keeps too much");
        }
        let kept = value.cloned();
        if number < self.memo.len() {
            self.memo[number] = kept;
        } else {
            self.memo.push(kept);
        }
        Ok(())
    }

    fn recall(&mut self, number: usize) -> Result<(), DecodeError> {
        let Some(Some(value)) = self.memo.get(number) else { return self.error("what is shared is no text or number") };
        self.repeated += size(value);
        if self.repeated > REPEATED_MAX {
            return self.error("it repeats too much");
        }
        let value = value.clone();
        self.push(value);
        Ok(())
    }

    /// Carries out one opcode; whether that was the last.
    fn step(&mut self) -> Result<bool, DecodeError> {
        match self.number(1)? as u8 {
            op::STOP => return Ok(true),
            op::PROTO => drop(self.take(1)?),
            op::FRAME => drop(self.take(8)?),
            op::MARK => self.stack.push(Item::Mark),
            op::NONE => self.push(Value::Null),
            op::NEWTRUE => self.push(Value::Bool(true)),
            op::NEWFALSE => self.push(Value::Bool(false)),
            op::BININT => {
                let number = self.number(4)? as u32;
                self.push(Value::Int(i64::from(number.cast_signed())));
            }
            code @ (op::BININT1 | op::BININT2) => {
                let number = self.number(if code == op::BININT1 { 1 } else { 2 })?;
                self.push(Value::Int(number as i64));
            }
            op::LONG1 => self.long()?,
            op::BINFLOAT => {
                let bits = self.take(8)?.iter().fold(0, |bits: u64, byte| bits << 8 | u64::from(*byte));
                self.push(Value::Float(f64::from_bits(bits)));
            }
            code @ (op::BINUNICODE | op::SHORT_BINUNICODE) => {
                let length = self.number(if code == op::BINUNICODE { 4 } else { 1 })?;
                self.text(length)?;
            }
            code @ (op::BINBYTES | op::SHORT_BINBYTES) => {
                let length = self.number(if code == op::BINBYTES { 4 } else { 1 })?;
                let bytes = self.take(length)?.to_vec();
                self.push(Value::Bytes(bytes));
            }
            op::EMPTY_LIST | op::EMPTY_TUPLE => self.stack.push(Item::Value(Value::List(Vec::new()), 1)),
            op::EMPTY_DICT => self.stack.push(Item::Value(Value::Map(Map::new()), 1)),
            op::TUPLE => {
                let values = self.marked()?;
                self.tuple(values)?;
            }
            code @ op::TUPLE1..=op::TUPLE3 => {
                let values = self.last(usize::from(code - op::TUPLE1) + 1)?;
                self.tuple(values)?;
            }
            code @ (op::APPEND | op::APPENDS) => {
                let values = if code == op::APPEND { self.last(1)? } else { self.marked()? };
                self.extend(values)?;
            }
            code @ (op::SETITEM | op::SETITEMS) => {
                let entries = if code == op::SETITEM { self.last(2)? } else { self.marked()? };
                self.insert(entries)?;
            }
            code @ (op::BINPUT | op::LONG_BINPUT) => {
                let number = self.number(if code == op::BINPUT { 1 } else { 4 })?;
                self.memoize(number)?;
            }
            op::MEMOIZE => self.memoize(self.memo.len())?,
            code @ (op::BINGET | op::LONG_BINGET) => {
                let number = self.number(if code == op::BINGET { 1 } else { 4 })?;
                self.recall(number)?;
            }
            other => return self.error(&format!("opcode {other:#04x}, which may make something else,")),
        }
        Ok(false)
    }
}
