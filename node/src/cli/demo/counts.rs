//! What a task of the demo hands on: counts of some files, and counts of counts.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    files::WirePath,
    words::{self, Words},
};

/// The counts of some files.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Words and how often each occurs.
    pub(super) words: Words,
    /// Files counted.
    pub(super) files: u64,
    /// Files left out because they are binary.
    pub(super) binary: u64,
    /// Files that could not be read.
    pub(super) unreadable: Vec<Unreadable>,
}

/// A file or folder that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unreadable {
    path: WirePath,
    reason: String,
}

impl Unreadable {
    pub(super) fn new(path: WirePath, reason: impl ToString) -> Self {
        Self { path, reason: reason.to_string() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.to_path()
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

impl Counts {
    /// Counts the words of `files`. One that cannot be read is named in the answer, and the others are counted.
    ///
    /// # Errors
    /// Only when `stop` says to stop.
    pub(super) fn of(files: Vec<WirePath>, stop: &dyn Fn() -> bool) -> io::Result<Self> {
        let mut counts = Self::default();
        for file in files {
            // Into a map of its own, so that a file that fails in the middle adds nothing.
            let mut words = Words::new();
            match words::count(&file.to_path(), &mut words, stop) {
                Ok(true) => counts.files += 1,
                Ok(false) => counts.binary += 1,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    counts.unreadable.push(Unreadable::new(file, error));
                    continue;
                }
            }
            counts.add_words(words);
        }
        Ok(counts)
    }

    /// The sum of `parts`.
    pub(super) fn sum(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut sum = parts.next().unwrap_or_default();
        for part in parts {
            sum.files += part.files;
            sum.binary += part.binary;
            sum.unreadable.extend(part.unreadable);
            sum.add_words(part.words);
        }
        sum
    }

    /// All words, the most frequent first, equally frequent ones in the order of the alphabet.
    pub(super) fn ranked(&self) -> Vec<(&str, u64)> {
        let mut ranked: Vec<(&str, u64)> = self.words.iter().map(|(word, count)| (word.as_str(), *count)).collect();
        ranked.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
        ranked
    }

    fn add_words(&mut self, words: Words) {
        if self.words.is_empty() {
            self.words = words;
            return;
        }
        for (word, count) in words {
            *self.words.entry(word).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_read_are_named_and_the_others_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| WirePath::from(&*folder.path().join(name));
        std::fs::write(folder.path().join("a"), "b b a").unwrap();
        std::fs::write(folder.path().join("b"), "\0").unwrap();
        let counts = Counts::of(vec![path("a"), path("gone"), path("b"), path("a")], &|| false).unwrap();
        assert_eq!((counts.files, counts.binary), (2, 1));
        assert_eq!(counts.ranked(), [("b", 4), ("a", 2)]);
        let gone: Vec<PathBuf> = counts.unreadable.iter().map(Unreadable::path).collect();
        assert_eq!(gone, [folder.path().join("gone")]);
    }

    #[test]
    fn a_sum_has_everything_of_its_parts() {
        let part = |words: &[(&str, u64)], files| Counts {
            words: words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect(),
            files,
            binary: 1,
            unreadable: vec![Unreadable::new(WirePath::Text("x".to_owned()), "no")],
        };
        assert_eq!(Counts::sum([]), Counts::default());
        let sum = Counts::sum([part(&[("a", 1), ("b", 2)], 1), part(&[], 1), part(&[("c", 3), ("a", 2)], 2)]);
        assert_eq!(sum.ranked(), [("a", 3), ("c", 3), ("b", 2)]);
        assert_eq!((sum.files, sum.binary, sum.unreadable.len()), (4, 3, 3));
    }
}
