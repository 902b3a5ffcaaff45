//! Data-driven tests: one case a line, in `scheduler/testdata`.

/// The cases of a file, each with its line number; `#` begins a comment line.
pub(crate) fn cases(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The value of `name=value` among words.
pub(crate) fn word<'a>(words: &'a str, name: &str) -> Option<&'a str> {
    words.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}
