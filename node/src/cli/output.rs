//! Who is looking at what is printed, and in which form they want it.

use std::{
    env,
    io::{self, BufWriter, IsTerminal, Write},
    path::Path,
};

use clap::ValueEnum;
use serde::Serialize;

use super::{exit::Exit, failure::Failure};

/// The form of what is printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON document and nothing else.
    Json,
}

/// Where output goes and what it may look like there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    /// What standard output is to hold.
    pub(super) format: Format,
    /// Whether standard error is a terminal: only there is progress drawn.
    pub(super) live: bool,
    colour: bool,
    colour_notes: bool,
}

impl Screen {
    /// That of this process.
    pub(super) fn of_process(format: Format, no_color: bool) -> Self {
        let (out, notes) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = set("CLICOLOR_FORCE") && env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = |terminal: bool| !no_color && !set("NO_COLOR") && (forced || (terminal && !dumb));
        Self { format, live: notes && !dumb, colour: colour(out), colour_notes: colour(notes) }
    }

    /// One without terminal and colours.
    #[cfg(test)]
    pub(super) fn plain(format: Format) -> Self {
        Self { format, live: false, colour: false, colour_notes: false }
    }

    /// `text` for standard output, in the colours `code` (of ANSI's SGR) where they are wanted.
    pub(super) fn paint(&self, text: &str, code: &str) -> String {
        paint(self.colour, text, code)
    }

    /// `text` for standard error, likewise.
    pub(super) fn paint_note(&self, text: &str, code: &str) -> String {
        paint(self.colour_notes, text, code)
    }

    /// Writes to standard output. A reader that has gone away (`| head`) has seen what it wanted.
    pub(super) fn print(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        match write(&mut out).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Failed, "cannot write to standard output", error))
            }
            _ => Ok(()),
        }
    }

    /// Writes one JSON document to standard output: on one line for programs, indented for people.
    pub(super) fn print_json(&self, document: &impl Serialize) -> Result<(), Failure> {
        let pretty = io::stdout().is_terminal();
        self.print(|out| {
            if pretty { serde_json::to_writer_pretty(&mut *out, document) } else { serde_json::to_writer(&mut *out, document) }?;
            out.write_all(b"\n")
        })
    }
}

/// Says something beside the data: a line on standard error.
pub(super) fn note(screen: &Screen, line: &str) {
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{} {line}", screen.paint_note("note:", "1;33"));
}

/// Says something for people that belongs to no data: lines on standard error, as they are.
pub(super) fn say(_screen: &Screen, lines: &str) {
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{lines}");
}

fn paint(colour: bool, text: &str, code: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// How the program was called, for commands that people are told to try.
pub(super) fn program() -> String {
    if env::var_os("CARGO_MANIFEST_DIR").is_some() && env::var_os("CARGO").is_some() {
        return if cfg!(debug_assertions) { "cargo run --" } else { "cargo run --release --" }.to_owned();
    }
    let called = env::args_os().next().unwrap_or_default();
    match Path::new(&called).file_stem().and_then(|name| name.to_str()) {
        Some("umbel") => "umbel".to_owned(),
        _ => "node".to_owned(),
    }
}

/// `text` as one word of a shell command.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// `number` with a comma between its thousands.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let grouped: Vec<String> = [0, 999, 1000, 1_234_567].into_iter().map(thousands).collect();
        assert_eq!(grouped, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_a_shell_would_split_is_quoted() {
        assert_eq!(quoted("/a/b-c.txt"), "/a/b-c.txt");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
