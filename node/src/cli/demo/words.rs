//! Counting the words of one file: the rule, and how a file of any size is read by it.
//!
//! **The rule.** A word is a maximal run of Unicode letters, numbers and underscores, in lower case:
//! `[\p{L}\p{N}_]+`, which is what `\w+` matches in Python. Bytes that are not UTF-8 separate words. A file with a NUL byte
//! among its first 8 KiB is taken for binary and not counted, as `git` and `grep` do.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::LazyLock,
};

use regex::bytes::Regex;

/// How far into a file a NUL byte is looked for.
const BINARY_CHECK_BYTES: usize = 8 << 10;

/// How much of a file is read at once. What is held of it is this and the longest run without a separator.
const CHUNK_BYTES: usize = 1 << 20;

static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("the pattern is valid"));

/// Words and how often each occurs.
pub(super) type Words = HashMap<String, u64>;

/// Adds the words of the file at `path` to `words`; `Ok(false)` when it is binary.
///
/// `stop` is asked between pieces of the file; once it says yes, counting ends with [`io::ErrorKind::Interrupted`].
pub(super) fn count(path: &Path, words: &mut Words, stop: &dyn Fn() -> bool) -> io::Result<bool> {
    count_from(File::open(path)?, words, stop)
}

fn count_from(mut input: impl Read, words: &mut Words, stop: &dyn Fn() -> bool) -> io::Result<bool> {
    let mut buffer = Vec::new();
    let mut first = true;
    loop {
        if stop() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "told to stop"));
        }
        let read = input.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut buffer)?;
        if first && buffer[..buffer.len().min(BINARY_CHECK_BYTES)].contains(&0) {
            return Ok(false);
        }
        first = false;
        if read == 0 {
            add(&buffer, words);
            return Ok(true);
        }
        // An ASCII separator is inside neither a word nor a UTF-8 sequence, so both sides of it can be counted apart.
        if let Some(last) = buffer.iter().rposition(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric() && *byte != b'_') {
            add(&buffer[..last], words);
            buffer.drain(..=last);
        }
    }
}

fn add(text: &[u8], words: &mut Words) {
    let mut lower = String::new();
    for found in WORD.find_iter(text) {
        // The pattern is of Unicode characters, so it matches nothing that is not UTF-8.
        let Ok(word) = str::from_utf8(found.as_bytes()) else { continue };
        lower.clear();
        if word.is_ascii() {
            lower.push_str(word);
            lower.make_ascii_lowercase();
        } else {
            lower.push_str(&word.to_lowercase());
        }
        match words.get_mut(&lower) {
            Some(count) => *count += 1,
            None => {
                words.insert(lower.clone(), 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(bytes: &[u8]) -> Option<Vec<(String, u64)>> {
        let mut words = Words::new();
        let text = count_from(bytes, &mut words, &|| false).unwrap();
        let mut sorted: Vec<_> = words.into_iter().collect();
        sorted.sort();
        text.then_some(sorted)
    }

    fn pairs(expected: &[(&str, u64)]) -> Option<Vec<(String, u64)>> {
        Some(expected.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect())
    }

    #[test]
    fn words_are_runs_of_letters_numbers_and_underscores_in_lower_case() {
        assert_eq!(counted(b"One fish, two_fish; ONE-2 fish's"), pairs(&[("2", 1), ("fish", 2), ("one", 2), ("s", 1), ("two_fish", 1)]));
        assert_eq!(counted("Ärger “ärger” №½ naïve—x".as_bytes()), pairs(&[("naïve", 1), ("x", 1), ("½", 1), ("ärger", 2)]));
        assert_eq!(counted(b""), pairs(&[]));
    }

    #[test]
    fn what_is_not_utf8_separates() {
        assert_eq!(counted(b"a\xffb \xe2\x82c"), pairs(&[("a", 1), ("b", 1), ("c", 1)]));
    }

    #[test]
    fn a_nul_among_the_first_8_kib_is_binary() {
        assert_eq!(counted(b"a\0b"), None);
        let late = [b" a".repeat(BINARY_CHECK_BYTES / 2), b"\0".to_vec()].concat();
        assert_eq!(counted(&late), pairs(&[("a", BINARY_CHECK_BYTES as u64 / 2)]));
    }

    #[test]
    fn words_across_pieces_of_a_file_are_whole() {
        // The word of three bytes a letter lies across the boundary, and so does one without any separator before it.
        let mut text = " x".repeat(CHUNK_BYTES / 2 - 1).into_bytes();
        text.extend_from_slice(" ééé世世 y".as_bytes());
        assert_eq!(counted(&text), pairs(&[("x", CHUNK_BYTES as u64 / 2 - 1), ("y", 1), ("ééé世世", 1)]));
        let long = "w".repeat(CHUNK_BYTES * 2 + 1);
        assert_eq!(counted(long.as_bytes()), pairs(&[(&long, 1)]));
    }

    #[test]
    fn it_stops_when_told_to() {
        let stopped = count_from(&b"a"[..], &mut Words::new(), &|| true).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
    }
}
