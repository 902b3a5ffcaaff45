//! Finding where JSON values end, without building them.

use std::ops::Range;

use crate::DecodeError;

/// A position in a document, and what may be read from there.
///
/// Nothing here recurses: the nesting is kept in a list that cannot outgrow `depth`.
#[derive(Clone)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// A string literal: where its content is, and whether it has escapes.
pub(super) struct Literal {
    pub(super) content: Range<usize>,
    pub(super) escaped: bool,
}

/// How many bytes at the beginning of `bytes` stand for themselves in a string: all but the quote, the backslash and control
/// characters. Looks at eight at once.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let stops = below(word, 0x20) | below(word ^ (ONES * u64::from(b'"')), 1) | below(word ^ (ONES * u64::from(b'\\')), 1);
        if stops != 0 {
            // A borrow can only mark bytes above a stop, so the lowest mark is one.
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of `bytes`, which must be UTF-8, that enters at most `depth` levels of lists and maps.
    pub(crate) fn new(bytes: &'a [u8], depth: usize) -> Result<Self, DecodeError> {
        let text =
            std::str::from_utf8(bytes).map_err(|error| DecodeError::new("", format!("not UTF-8 at byte {}", error.valid_up_to())))?;
        Ok(Self { text, at: 0, depth })
    }

    pub(super) fn text(&self, range: Range<usize>) -> &'a str {
        &self.text[range]
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn error<T>(&self, expected: &str) -> Result<T, DecodeError> {
        let found = if self.at < self.text.len() { "" } else { ", where it ends" };
        Err(DecodeError::new("", format!("not JSON: expected {expected} at byte {}{found}", self.at)))
    }

    pub(super) fn too_deep<T>(&self) -> Result<T, DecodeError> {
        Err(DecodeError::new("", format!("nested deeper than {} levels", self.depth)))
    }

    /// Skips white space and shows the next byte; 0 at the end.
    pub(crate) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    /// Takes `byte` if it is next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte && self.at < self.text.len();
        self.at += usize::from(found);
        found
    }

    /// Takes `byte`.
    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), DecodeError> {
        if self.take(byte) { Ok(()) } else { self.error(&format!("'{}'", byte as char)) }
    }

    /// Checks that nothing but white space follows.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { self.error("nothing more") }
    }

    /// Passes a string literal, whose quote is next.
    pub(super) fn string(&mut self) -> Result<Literal, DecodeError> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_run(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Literal { content: start..self.at - 1, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.error("a character that needs no escape, or '\"'"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), DecodeError> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') if bytes.get(self.at + 2..self.at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => self.at += 6,
            _ => return self.error("an escape that JSON has"),
        }
        Ok(())
    }

    /// Passes a number; says whether it is an integer.
    pub(super) fn number(&mut self) -> Result<(Range<usize>, bool), DecodeError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += usize::from(bytes.get(self.at) == Some(&b'-'));
        match bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.error("a value"),
        }
        let mut integer = true;
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            integer = false;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            integer = false;
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            self.some_digits()?;
        }
        Ok((start..self.at, integer))
    }

    fn some_digits(&mut self) -> Result<(), DecodeError> {
        let before = self.at;
        self.digits();
        if self.at == before { self.error("a digit") } else { Ok(()) }
    }

    fn digits(&mut self) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// Passes `word` if it is next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn scalar(&mut self) -> Result<(), DecodeError> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'n' if self.word("null") => Ok(()),
            b't' if self.word("true") => Ok(()),
            b'f' if self.word("false") => Ok(()),
            b'N' if self.word("NaN") => Ok(()),
            b'I' if self.word("Infinity") => Ok(()),
            b'-' if self.word("-Infinity") => Ok(()),
            _ => self.number().map(drop),
        }
    }

    /// Passes a whole value and tells where it is.
    pub(crate) fn skip(&mut self) -> Result<Range<usize>, DecodeError> {
        self.peek();
        let start = self.at;
        // Whether each open level is a map.
        let mut open: Vec<bool> = Vec::new();
        'value: loop {
            if matches!(self.peek(), b'[' | b'{') && open.len() >= self.depth {
                return self.too_deep();
            }
            if self.take(b'[') {
                if self.peek() != b']' {
                    open.push(false);
                    continue;
                }
                self.at += 1;
            } else if self.take(b'{') {
                if self.peek() != b'}' {
                    open.push(true);
                    self.key()?;
                    continue;
                }
                self.at += 1;
            } else {
                self.scalar()?;
            }
            loop {
                let Some(is_map) = open.last().copied() else { return Ok(start..self.at) };
                if self.take(b',') {
                    if is_map {
                        self.key()?;
                    }
                    continue 'value;
                }
                if !self.take(if is_map { b'}' } else { b']' }) {
                    return self.error(if is_map { "',' or '}'" } else { "',' or ']'" });
                }
                open.pop();
            }
        }
    }

    fn key(&mut self) -> Result<&'a str, DecodeError> {
        let key = self.string()?;
        self.expect(b':')?;
        Ok(self.text(key.content))
    }

    /// Passes a map; `entry` passes the value of each key, whose escapes are left as they are, or says no. Everything in it is
    /// one level deeper.
    fn entries(&mut self, mut entry: impl FnMut(&mut Self, &str) -> Option<()>) -> Option<()> {
        self.depth = self.depth.checked_sub(1)?;
        self.expect(b'{').ok()?;
        let mut first = true;
        while !self.take(b'}') {
            if !std::mem::take(&mut first) {
                self.expect(b',').ok()?;
            }
            let key = self.key().ok()?;
            entry(self, key)?;
        }
        self.depth += 1;
        Some(())
    }

    /// Passes the signature of a task and tells where it is, if one is next that can be read for sure and has no other signature in
    /// it. Passes nothing otherwise: it may be another kind of signature, or none.
    pub(crate) fn plain_signature(&mut self) -> Option<Range<usize>> {
        let mut ahead = self.clone();
        ahead.peek();
        let start = ahead.at;
        let (mut task, mut kwargs, mut options, mut immutable) = (false, false, false, false);
        ahead.entries(|map, key| {
            // A key with an escape may be any of these.
            if key.contains('\\') {
                return None;
            }
            let next = map.peek();
            match key {
                "task" if next == b'"' => task = true,
                "args" if matches!(next, b'[' | b'n') => {}
                "kwargs" if matches!(next, b'{' | b'n') => kwargs = true,
                "immutable" if matches!(next, b't' | b'f' | b'n') => immutable = true,
                "subtask_type" if next == b'n' => {}
                "options" if next == b'{' => {
                    options = true;
                    return map.entries(|options, key| {
                        let other = matches!(key, "link" | "link_error" | "chain" | "chord") || key.contains('\\');
                        (!other || options.peek() == b'n').then(|| options.skip().ok().map(drop))?
                    });
                }
                "task" | "args" | "kwargs" | "immutable" | "subtask_type" | "options" => return None,
                _ => {}
            }
            let value = map.skip().ok()?;
            (key != "task" || value.len() > 2).then_some(())
        })?;
        if !(task && kwargs && options && immutable) {
            return None;
        }
        self.at = ahead.at;
        Some(start..self.at)
    }
}
