//! Errors people see: what failed, the value and where it came from, why, and the next command to try.

use std::io::Write;

use super::{exit::Exit, output::Screen};

/// Why a verb could not do what it was told.
///
/// Printed as `error: <what> <value> (<source>): <reason>`, and below it `  try: <command>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    exit: Exit,
    what: String,
    value: Option<(String, String)>,
    reason: String,
    lines: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// `what` did not work, because of `reason`. Both in lower case and without a full stop.
    pub(super) fn new(exit: Exit, what: impl Into<String>, reason: impl ToString) -> Self {
        Self(Box::new(Parts { exit, what: what.into(), value: None, reason: reason.to_string(), lines: Vec::new(), hint: None }))
    }

    /// The process was told to stop. Whoever told it knows: nothing is printed.
    pub(super) fn interrupted(exit: Exit) -> Self {
        Self::new(exit, "", "")
    }

    /// The value that was used, and where it came from: an argument, a variable, a line of a file.
    pub(super) fn value(mut self, value: impl Into<String>, source: &'static str) -> Self {
        self.0.value = Some((value.into(), source.to_owned()));
        self
    }

    /// The value that was used, and the origin the configuration gives it.
    pub(super) fn value_from(mut self, value: impl Into<String>, origin: impl Into<String>) -> Self {
        self.0.value = Some((value.into(), origin.into()));
        self
    }

    /// Several reasons, one below the other.
    pub(super) fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.0.lines.extend(lines);
        self
    }

    /// The command to try next.
    pub(super) fn hint(mut self, command: impl Into<String>) -> Self {
        self.0.hint = Some(command.into());
        self
    }

    /// The command to try next, if there is one.
    pub(super) fn next(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The code the program ends with.
    pub(super) fn exit(&self) -> Exit {
        self.0.exit
    }

    /// Prints it. Control characters of values are escaped: a file name cannot write a line of its own.
    pub(super) fn print(&self, screen: &Screen, to: &mut impl Write) {
        if self.0.what.is_empty() {
            return;
        }
        let mut line = self.0.what.clone();
        if let Some((value, source)) = &self.0.value {
            line.push_str(&format!(" {} ({source})", visible(value)));
        }
        let error = screen.paint_note("error:", "1;31");
        let hint = self.0.hint.as_ref().map(|hint| format!("  {} {hint}\n", screen.paint_note("try:", "1"))).unwrap_or_default();
        // There is nobody left to tell when standard error is closed.
        let reason = if self.0.lines.is_empty() { format!(" {}", visible(&self.0.reason)) } else { String::new() };
        let lines: String = self.0.lines.iter().map(|line| format!("  {}\n", visible(line))).collect();
        let _ = write!(to, "{error} {line}:{reason}\n{lines}{hint}");
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.what)?;
        if let Some((value, source)) = &self.0.value {
            write!(f, " {} ({source})", visible(value))?;
        }
        let reasons = if self.0.lines.is_empty() { self.0.reason.clone() } else { self.0.lines.join("; ") };
        write!(f, ": {}", visible(&reasons))
    }
}

/// `text` with its control characters escaped.
pub(super) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { visible.extend(char.escape_default()) } else { visible.push(char) }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;

    fn printed(failure: &Failure) -> String {
        let mut bytes = Vec::new();
        failure.print(&Screen::plain(Format::Text), &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn names_what_failed_the_value_its_source_and_the_next_command() {
        let failure =
            Failure::new(Exit::NotFound, "cannot read the folder", "there is no such folder").value("/a", "FOLDER").hint("node demo .");
        assert_eq!(printed(&failure), "error: cannot read the folder /a (FOLDER): there is no such folder\n  try: node demo .\n");
        assert_eq!(failure.exit(), Exit::NotFound);
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let failure = Failure::new(Exit::Failed, "cannot read", "no").value("a\nerror: b\u{1b}[2J", "FOLDER");
        assert_eq!(printed(&failure), "error: cannot read a\\nerror: b\\u{1b}[2J (FOLDER): no\n");
    }
}
