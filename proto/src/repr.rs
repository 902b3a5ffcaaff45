//! Python's `repr` of a value: part of the contract in `argsrepr`, events and `ChordError` texts (wire contract §11.17).

use std::fmt::Write;

use crate::{Map, TaskError, Value, float};

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    push(value, &mut out);
    out
}

/// `repr(tuple(args))`: `(2, 2)`, `(1,)`, `()`; cut at 1024 characters as Celery's `saferepr` does.
pub fn args_repr(args: &[Value]) -> String {
    let mut out = String::new();
    push_tuple(args, &mut out);
    cut(out)
}

/// `repr(kwargs)`, cut likewise.
pub fn kwargs_repr(kwargs: &Map) -> String {
    let mut out = String::new();
    push_map(kwargs, &mut out);
    cut(out)
}

/// `repr(exception)`: `ValueError('bad', 1)`.
pub fn error_repr(error: &TaskError) -> String {
    let mut out = error.exc_type.rsplit('.').next().unwrap_or_default().to_owned();
    out.push('(');
    push_items(&error.exc_message, &mut out);
    out.push(')');
    out
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(1024) {
        text.truncate(end);
        text.push_str("...");
    }
    text
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
        Value::Str(text) => push_text(text, out),
        Value::Bytes(bytes) => push_bytes(bytes, out),
        Value::List(items) => {
            out.push('[');
            push_items(items, out);
            out.push(']');
        }
        Value::Map(map) => push_map(map, out),
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

fn push_tuple(items: &[Value], out: &mut String) {
    out.push('(');
    push_items(items, out);
    out.push_str(if items.len() == 1 { ",)" } else { ")" });
}

fn push_map(map: &Map, out: &mut String) {
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        push_text(key, out);
        out.push_str(": ");
        push(value, out);
    }
    out.push('}');
}

/// The quote Python chooses: single, unless that is in the text and double is not.
fn quote(single: bool, double: bool) -> char {
    if single && !double { '"' } else { '\'' }
}

fn push_text(text: &str, out: &mut String) {
    let quote = quote(text.contains('\''), text.contains('"'));
    out.push(quote);
    for char in text.chars() {
        let code = u32::from(char);
        let _ = match char {
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\\' => write!(out, "\\\\"),
            _ if char == quote => write!(out, "\\{char}"),
            _ if is_printable(char) => write!(out, "{char}"),
            _ if code < 0x100 => write!(out, "\\x{code:02x}"),
            _ if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
    }
    out.push(quote);
}

fn push_bytes(bytes: &[u8], out: &mut String) {
    let quote = quote(bytes.contains(&b'\''), bytes.contains(&b'"'));
    out.push('b');
    out.push(quote);
    for byte in bytes {
        let _ = match byte {
            b'\n' => write!(out, "\\n"),
            b'\r' => write!(out, "\\r"),
            b'\t' => write!(out, "\\t"),
            b'\\' => write!(out, "\\\\"),
            _ if char::from(*byte) == quote => write!(out, "\\{quote}"),
            b' '..=b'~' => write!(out, "{}", char::from(*byte)),
            _ => write!(out, "\\x{byte:02x}"),
        };
    }
    out.push(quote);
}

/// What Python calls printable. Rust's `Debug` of a string goes by the same Unicode categories; a letter in front keeps
/// it from escaping combining characters, which it does only at the beginning.
fn is_printable(char: char) -> bool {
    match char {
        ' '..='~' => true,
        _ if char.is_ascii() => false,
        _ => {
            let mut text = [b'a', 0, 0, 0, 0];
            let length = char.encode_utf8(&mut text[1..]).len();
            std::str::from_utf8(&text[..=length]).is_ok_and(|text| text.escape_debug().count() == 2)
        }
    }
}
