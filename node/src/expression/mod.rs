//! Celery's notation for calls and workflows, as text: `add(2, 2) | mul(8)`.
//!
//! **What it owns.** The way from a text to a [`Signature`] ([`parse`]), back ([`print()`]), and from a file of signatures as
//! JSON ([`read_json`]). **What bounds it.** Texts up to [`LENGTH_MAX`] bytes, nested up to [`DEPTH_MAX`] deep. It runs nothing,
//! looks nothing up and never panics, whatever it is given.
//!
//! # The notation
//!
//! | written | means |
//! |---|---|
//! | `app.add(2, x=[1, {"a": None}])` | a call; `app.add.s(2)` is the same |
//! | `add.si(2)` | a call that takes no result of those before it |
//! | `a(1) \| b(2)`, `chain(a(1), b(2))` | one after the other; chains in chains are spliced |
//! | `group(a(), b())`, `group([a(), b()])` | side by side |
//! | `chord([a(), b()], c())`, `chord([a(), b()])(c())` | side by side, then `c` with the list of results |
//! | `add.map([1, 2])`, `xmap(add(), [1, 2])` | one task over arguments; likewise `starmap` and, with a size behind, `chunks` |
//! | `a().set(queue="q", countdown=5)` | options of the call |
//! | `a().link(b()).link_error(c())` | what follows success or failure |
//! | `(a() \| b()).link(c())` | brackets group |
//!
//! Values are Python's or JSON's: `True` and `true`, `None` and `null`, single and double quotes, tuples as lists. A name that
//! is not made of letters, digits, `_`, `-` and dots is quoted: `"odd name"(1)`. Calls are no values: Python would run them
//! first, and nothing runs here.

mod error;
mod lexer;
mod parser;
mod printer;
mod values;

#[cfg(test)]
mod tests;

use umbel_proto::{DecodeError, Limits, Signature, Value, codec::Serializer};

pub use error::ExpressionError;
pub use printer::print;

/// The longest text, in bytes.
pub const LENGTH_MAX: usize = 1 << 20;

/// The deepest nesting of brackets of all kinds. Every level of a workflow is copied into its parent when it is put together.
pub const DEPTH_MAX: usize = 48;

/// Reads an expression. With `known`, a task that is not among the names is an error, with the name that was perhaps meant.
///
/// # Errors
/// Points at the first place where the text is not an expression, and says what could have stood there.
pub fn parse(text: &str, known: Option<&[&str]>) -> Result<Signature, ExpressionError> {
    parser::parse(text, known)
}

/// Reads a file of signatures: one as a JSON object, or a list of them. The form is Celery's own, `json.dumps(signature)`.
///
/// # Errors
/// Names the signature and the key at fault.
pub fn read_json(text: &[u8]) -> Result<Vec<Signature>, DecodeError> {
    let limits = Limits { size_bytes: 64 << 20, depth: 256 };
    match Serializer::Json.decode(text, limits)? {
        Value::List(items) => {
            let signatures = items.iter().enumerate();
            signatures.map(|(index, item)| Signature::from_value(item).map_err(|error| error.within(&format!("[{index}]")))).collect()
        }
        single => Ok(vec![Signature::from_value(&single)?]),
    }
}
