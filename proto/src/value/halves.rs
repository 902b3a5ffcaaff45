//! Halves of surrogate pairs, which Python's text may hold and UTF-8 has no form for: it is how Python keeps file names that are not
//! UTF-8 (`surrogateescape`), and its JSON carries them as escapes.
//!
//! In a [`Value`](crate::Value) each stands as a character of its own, one of the last 2,048 of the private plane 16, and is written as what it
//! stands for. A text that is read and holds such a character itself has those of its two halves instead, which a reader of what is
//! written joins again.

use std::borrow::Cow;

/// The first half, and the character that stands for it.
const FIRST: u16 = 0xd800;
const STAND_IN: u32 = 0x10_f800;

/// How many there are.
const COUNT: u16 = 0x800;

/// What stands for `unit`, if that is a half.
pub(crate) fn stand_in(unit: u16) -> Option<char> {
    let number = unit.checked_sub(FIRST).filter(|number| *number < COUNT)?;
    char::from_u32(STAND_IN + u32::from(number))
}

/// The half that `char` stands for.
pub(crate) fn half(char: char) -> Option<u16> {
    // There is no character above these.
    let number = u32::from(char).checked_sub(STAND_IN)?;
    u16::try_from(number).ok().map(|number| FIRST + number)
}

/// Whether something in `text` stands for a half, or would.
pub(crate) fn are_in(text: &str) -> bool {
    // Most texts have no character of that plane.
    text.as_bytes().contains(&0xf4) && text.chars().any(|char| half(char).is_some())
}

/// Text as it was read, in which characters that would stand for halves are taken apart.
pub(crate) fn apart(text: &str) -> Cow<'_, str> {
    if !are_in(text) {
        return text.into();
    }
    let mut apart = String::with_capacity(text.len() + 4);
    text.chars().for_each(|char| push_apart(char, &mut apart));
    apart.into()
}

/// Appends a character that was read.
pub(crate) fn push_apart(char: char, out: &mut String) {
    match half(char) {
        None => out.push(char),
        Some(_) => out.extend(char.encode_utf16(&mut [0; 2]).iter().filter_map(|unit| stand_in(*unit))),
    }
}

/// Text to be written where halves have no form: whole, or `None` when a half has no other.
pub(crate) fn joined(text: &str) -> Option<Cow<'_, str>> {
    if !are_in(text) {
        return Some(text.into());
    }
    let units = text.chars().flat_map(|char| {
        let mut pair = [0; 2];
        let units = half(char).map_or_else(|| char.encode_utf16(&mut pair).to_vec(), |half| vec![half]);
        units.into_iter()
    });
    char::decode_utf16(units).collect::<Result<String, _>>().ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_would_stand_for_halves_come_back() {
        for text in ["a\u{10ffff}b", "\u{10f800}", "\u{10f7ff}x"] {
            assert_eq!(joined(&apart(text)).unwrap(), text);
        }
        assert!(!apart("\u{10ffff}").contains('\u{10ffff}') || half('\u{10ffff}') == Some(0xdfff));
        assert_eq!(joined("\u{10fce9}"), None);
    }

    #[test]
    fn each_half_has_its_own() {
        let all: Vec<u16> = (0xd800..=0xdfff).collect();
        let back: Vec<u16> = all.iter().filter_map(|unit| half(stand_in(*unit)?)).collect();
        assert_eq!(back, all);
        assert_eq!((stand_in(0xd7ff), stand_in(0xe000), half('\u{10f7ff}')), (None, None, None));
        assert_eq!(half(char::MAX), Some(0xdfff));
        assert!(are_in("caf\u{10fce9}") && !are_in("caf\u{e9}") && !are_in("\u{10f000}"));
    }
}
