//! JSON as Python writes and reads it.
//!
//! More than the standard: bare `NaN`, `Infinity` and `-Infinity`, and integers of any size. Written compact and
//! ASCII-escaped. Own code rather than a JSON crate because no crate offers all of this together with
//! a scanner that checks a value without building it, which is what keeps a task's arguments bytes.

mod items;
mod parse;
mod scan;
mod write;

pub use items::Items;
pub use parse::parse;
pub(crate) use parse::{text, value};
pub(crate) use scan::Scanner;
pub use write::write;
pub(crate) use write::{push, push_text};

#[cfg(test)]
mod tests;
