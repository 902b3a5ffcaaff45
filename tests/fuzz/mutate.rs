//! Damage.

/// A row of numbers that is the same every time (splitmix64).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    pub(super) fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// What decoders look for, and what they should not trust.
const TOKENS: [&[u8]; 34] = [
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-1",
    b"0.5",
    b"[",
    b"]",
    b"{",
    b"}",
    b"[]",
    b"{}",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\ud83d",
    b"\\u0000",
    b"{\"__type__\":\"x\",\"__value__\":1}",
    b"\"options\"",
    b"[[[[[[[[",
    b"\xff",
    b"\xc3\x28",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\x00\x00\x00\x01",
    b"\xc6\xff\xff\xff\xff",
    b"\xd6\xff\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"+25:61",
    b"9999-12-31",
];

/// `bytes`, changed in one to six places; `other` lends pieces.
pub(super) fn mutated(bytes: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(6) {
        step(&mut bytes, other, dice);
    }
    bytes
}

fn step(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    if bytes.is_empty() {
        let token: &&[u8] = dice.one_of(&TOKENS);
        bytes.extend_from_slice(token);
        return;
    }
    let at = dice.below(bytes.len());
    let end = (at + 1 + dice.below(40)).min(bytes.len());
    match dice.below(9) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.roll() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => bytes.truncate(at),
        4 => {
            let copy = bytes[at..end].to_vec();
            let to = dice.below(bytes.len());
            bytes.splice(to..to, copy);
        }
        5 => drop(bytes.splice(at..at, dice.one_of(&TOKENS).iter().copied())),
        6 => value(bytes, at, dice),
        7 => {
            let start = dice.below(other.len().max(1)).min(other.len());
            let stop = (start + dice.below(60)).min(other.len());
            drop(bytes.splice(at..end, other[start..stop].iter().copied()));
        }
        _ => bytes.swap(at, end - 1),
    }
}

/// Replaces what stands behind a colon at or after `at`, up to the next comma, by something else: a document that is still
/// JSON and does not say what it should.
fn value(bytes: &mut Vec<u8>, at: usize, dice: &mut Dice) {
    let Some(colon) = bytes[at..].iter().position(|byte| *byte == b':') else { return };
    let start = at + colon + 1;
    let length = bytes[start..].iter().position(|byte| matches!(byte, b',' | b'}' | b']')).unwrap_or(0);
    drop(bytes.splice(start..start + length, dice.one_of(&TOKENS[..16]).iter().copied()));
}
