//! `repr` of text and bytes.

use std::fmt::Write;

use crate::value::halves;

/// The quote Python chooses: single, unless that is in the text and double is not.
fn quote(single: bool, double: bool) -> char {
    if single && !double { '"' } else { '\'' }
}

/// Appends `repr(text)`.
pub(super) fn push(text: &str, out: &mut String) {
    let quote = quote(text.contains('\''), text.contains('"'));
    out.push(quote);
    for char in text.chars() {
        let code = halves::half(char).map_or(u32::from(char), u32::from);
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

/// Appends `repr(bytes)`.
pub(super) fn push_bytes(bytes: &[u8], out: &mut String) {
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
