//! Reading a list item by item.

use std::borrow::Cow;

use super::{
    parse::{text, value},
    scan::Scanner,
};
use crate::{DecodeError, Limits, Value};

/// The items of a document that is a list, read one after the other without the list being built: for small records of which there
/// are many.
pub struct Items<'a> {
    scanner: Scanner<'a>,
    first: bool,
}

impl<'a> Items<'a> {
    /// The items of `bytes`.
    ///
    /// # Errors
    /// When it is not UTF-8, does not begin like a list, or is beyond `limits`.
    pub fn new(bytes: &'a [u8], limits: Limits) -> Result<Self, DecodeError> {
        if bytes.len() > limits.size_bytes {
            return Err(DecodeError::new("", format!("{} bytes, more than the limit of {}", bytes.len(), limits.size_bytes)));
        }
        // The list is one level itself.
        let mut scanner = Scanner::new(bytes, limits.depth.saturating_sub(1))?;
        if limits.depth == 0 {
            return scanner.too_deep();
        }
        scanner.expect(b'[')?;
        Ok(Self { scanner, first: true })
    }

    fn next(&mut self) -> Result<(), DecodeError> {
        if std::mem::take(&mut self.first) { Ok(()) } else { self.scanner.expect(b',') }
    }

    /// The next item, which is text; borrowed unless it has escapes.
    ///
    /// # Errors
    /// When it is something else, or there is none.
    pub fn text(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        self.next()?;
        self.scanner.peek();
        text(&mut self.scanner)
    }

    /// The next item.
    ///
    /// # Errors
    /// When it is not JSON (with Python's extensions), there is none, or it is nested too deep.
    pub fn value(&mut self) -> Result<Value, DecodeError> {
        self.next()?;
        value(&mut self.scanner)
    }

    /// Checks that those were all.
    ///
    /// # Errors
    /// When there are more items, or something follows the list.
    pub fn end(mut self) -> Result<(), DecodeError> {
        self.scanner.expect(b']')?;
        self.scanner.end()
    }
}
