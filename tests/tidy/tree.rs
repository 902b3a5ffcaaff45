//! The files of the workspace, or of an example.

use std::{collections::BTreeMap, fs, path::Path};

/// Text files by path from the top, with `/` between folders. Captured data is listed, with empty text.
pub(super) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Everything in the checkout but what git ignores and git itself.
    pub(super) fn workspace() -> Self {
        let mut files = BTreeMap::new();
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate is a folder of the workspace");
        read(top, "", &mut files);
        assert!(files.contains_key("Cargo.toml"), "{} is not the top of the workspace", top.display());
        Self { files }
    }

    /// An example.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// All files.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files whose name ends with `suffix`.
    pub(super) fn ending<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter(move |(path, _)| path.ends_with(suffix))
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is such a file or folder.
    pub(super) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.files.contains_key(path) || self.files.keys().any(|file| within(file, path))
    }
}

fn within(file: &str, folder: &str) -> bool {
    file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn read(folder: &Path, path: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace can be read") {
        let entry = entry.expect("an entry of a folder can be read");
        let name = entry.file_name().into_string().expect("file names of the workspace are UTF-8");
        let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        if name == ".git" || name == "target" || below.starts_with("tests/golden/tmp") {
            continue;
        }
        if entry.file_type().expect("a file has a type").is_dir() {
            read(&entry.path(), &below, files);
        } else {
            // Data of other people is not ours to tidy; bytes that are no text are data.
            files.insert(below, fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
}

/// Whether a file is test code as a whole.
pub(super) fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/benches/")
}

/// The lines of a Rust file that are not in an inline test module, with their numbers from 1.
///
/// Relies on rustfmt: an item that begins with `#[cfg(test)]` ends at the first line that closes at the same indentation.
pub(super) fn code_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut end: Option<String> = None;
    let mut pending = false;
    for (number, line) in text.lines().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        match &end {
            Some(closing) => {
                if line == closing {
                    end = None;
                }
                continue;
            }
            None if line.trim() == "#[cfg(test)]" => pending = true,
            None if pending && line.trim_start().starts_with("#[") => {}
            None if pending => {
                pending = false;
                if line.ends_with('{') {
                    end = Some(format!("{indent}}}"));
                }
            }
            None => lines.push((number + 1, line)),
        }
    }
    lines
}

#[test]
fn inline_test_modules_are_not_code() {
    let text =
        "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n#[cfg(test)]\nmod tests;\nfn d() {}\n";
    let lines: Vec<usize> = code_lines(text).into_iter().map(|(number, _)| number).collect();
    assert_eq!(lines, [1, 8, 11]);
}

#[test]
fn a_folder_is_known_by_its_files() {
    let tree = Tree::of(&[("a/b/c.rs", "")]);
    assert!(tree.has("a/b") && tree.has("a/b/") && tree.has("a/b/c.rs"));
    assert!(!tree.has("a/b/c") && !tree.has("a/c"));
}
