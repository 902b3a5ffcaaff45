//! msgpack as kombu writes it: `use_bin_type=True`, `raw=False`.
//!
//! Maps have text keys, integers at most 64 bits, and there are no extension types. Only in records of Umbel's own
//! is an integer beyond that written as an extension, because those must hold every value there is.

mod parse;
mod scan;
mod write;

pub(crate) use parse::{parse, parse_record};
pub(crate) use scan::{Kind, Scanner};
pub(crate) use write::{write, write_record};

/// The extension type of an integer in decimal, in Umbel's own records.
const BIG_INT: i8 = 1;

#[cfg(test)]
mod tests;
