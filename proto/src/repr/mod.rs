//! Python's `repr` of a value: part of the contract in `argsrepr`, events and `ChordError` texts (wire contract §11.17).
//!
//! There are two of them. [`repr`] is Python's own, for exceptions. [`safe_repr`], [`args_repr`] and [`kwargs_repr`] are what
//! Celery calls `saferepr`: cut to a length, three levels deep, and with text in quotes as it is, escapes and all. Values
//! that kombu marks (`{"__type__": "decimal", …}`) look as they do in the Python program that sent them.

mod safe;
mod special;
mod text;

use std::fmt::Write;

pub use safe::{args_repr, kwargs_repr, safe_repr};

use crate::{Map, TaskError, Value, float};

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    push(value, &mut out);
    out
}

/// `repr(exception)`: `ValueError('bad', 1)`.
pub fn error_repr(error: &TaskError) -> String {
    // Python shows the name of a class, not where it is nested.
    let mut out = error.exc_type.rsplit('.').next().unwrap_or_default().to_owned();
    out.push('(');
    push_items(&error.exc_message, &mut out);
    out.push(')');
    out
}

fn push(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(bool) => out.push_str(if *bool { "True" } else { "False" }),
        Value::Int(int) => {
            let _ = write!(out, "{int}");
        }
        Value::BigInt(digits) => out.push_str(digits),
        Value::Float(float) => float::push_repr(*float, out),
        Value::Str(text) => text::push(text, out),
        Value::Bytes(bytes) => text::push_bytes(bytes, out),
        Value::List(items) => {
            out.push('[');
            push_items(items, out);
            out.push(']');
        }
        Value::Map(map) => match special::of_map(map) {
            Some(special::Shown::Text(text)) => out.push_str(&text),
            Some(special::Shown::Bytes(bytes)) => text::push_bytes(&bytes, out),
            None => push_map(map, out),
        },
    }
}

fn push_items(items: &[Value], out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        push(item, out);
    }
}

fn push_map(map: &Map, out: &mut String) {
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        text::push(key, out);
        out.push_str(": ");
        push(value, out);
    }
    out.push('}');
}

#[cfg(test)]
mod tests;
