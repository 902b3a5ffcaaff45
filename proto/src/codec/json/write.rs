//! Writing values as JSON.

use std::fmt::Write;

use crate::{
    Value, float,
    value::{halves, special},
};

/// Writes a document, compact, ASCII-escaped as Python does.
pub fn write(value: &Value) -> Vec<u8> {
    let mut out = String::with_capacity(256);
    push(value, &mut out);
    out.into_bytes()
}

/// Appends a value.
pub(crate) fn push(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Int(int) => {
            let _ = write!(out, "{int}");
        }
        Value::BigInt(digits) => out.push_str(digits),
        Value::Float(float) => float::push_json(*float, out),
        Value::Str(text) => push_text(text, out),
        Value::Bytes(bytes) => {
            out.push_str("{\"__type__\":\"base64\",\"__value__\":\"");
            out.push_str(&special::base64(bytes));
            out.push_str("\"}");
        }
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_text(key, out);
                out.push(':');
                push(value, out);
            }
            out.push('}');
        }
    }
}

/// Appends a string literal.
pub(crate) fn push_text(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(stop) = rest.bytes().position(|byte| !(b' '..=b'~').contains(&byte) || matches!(byte, b'"' | b'\\')) {
        let (plain, tail) = rest.split_at(stop);
        out.push_str(plain);
        let mut chars = tail.chars();
        if let Some(char) = chars.next() {
            push_escape(char, out);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn push_escape(char: char, out: &mut String) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        _ => {
            let (half, mut pair) = (halves::half(char), [0; 2]);
            for unit in half.as_ref().map_or_else(|| &*char.encode_utf16(&mut pair), std::slice::from_ref) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}
