//! What the demo prints when it is done.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::counts::Counts;
use crate::cli::{
    failure::{Failure, visible},
    output::{self, Format, Screen, program, quoted, thousands},
};

/// How many unreadable files are named one by one.
const UNREADABLE_SHOWN: usize = 5;

/// How a run went.
pub(super) struct Report<'a> {
    pub(super) folder: &'a Path,
    pub(super) counts: &'a Counts,
    /// Tasks of the workflow, the one that merges included.
    pub(super) tasks: usize,
    /// From the submission to the result.
    pub(super) took: Duration,
    pub(super) top: usize,
    /// The store, if it was kept.
    pub(super) kept: Option<&'a Path>,
}

impl Report<'_> {
    pub(super) fn print(&self, screen: &Screen) -> Result<(), Failure> {
        let ranked = self.counts.ranked();
        self.name_unreadable(screen);
        match screen.format {
            Format::Json => screen.print_json(&Ranked(&ranked)),
            Format::Text => screen.print(|out| self.write(out, screen, &ranked)),
        }
    }

    fn write(&self, out: &mut dyn Write, screen: &Screen, ranked: &[(&str, u64)]) -> io::Result<()> {
        let shown = &ranked[..ranked.len().min(self.top)];
        if !shown.is_empty() {
            let width = shown.iter().map(|(_, count)| thousands(*count).len()).max().unwrap_or_default().max("COUNT".len());
            writeln!(out, "{}", screen.paint(&format!("{:>width$}  WORD", "COUNT"), "1"))?;
            for (word, count) in shown {
                writeln!(out, "{:>width$}  {word}", thousands(*count))?;
            }
            writeln!(out)?;
        }
        let words: u64 = ranked.iter().map(|(_, count)| count).sum();
        let folder = visible(&self.folder.to_string_lossy());
        writeln!(
            out,
            "{}, {} of them different, in {} of {folder}{}",
            count(words, "word"),
            thousands(ranked.len() as u64),
            count(self.counts.files, "file"),
            match self.counts.binary {
                0 => String::new(),
                binary => format!(" ({} left out)", count(binary, "binary file")),
            }
        )?;
        writeln!(out, "counted by a chord of {} in {}", count(self.tasks as u64, "task"), seconds(self.took))?;
        self.write_next(out, screen)
    }

    fn write_next(&self, out: &mut dyn Write, screen: &Screen) -> io::Result<()> {
        let program = program();
        let folder = quoted(&self.folder.to_string_lossy());
        writeln!(out, "\n{}", screen.paint("Try next:", "1"))?;
        writeln!(out, "  {program} demo {folder} --top 100      more of the words")?;
        writeln!(out, "  {program} demo {folder} -o json        all of them, as one JSON object")?;
        match self.kept {
            Some(store) => {
                writeln!(out, "  {program} demo {folder} --data-dir {}   again, in the same store", quoted(&store.to_string_lossy()))
            }
            None => writeln!(out, "  {program} demo {folder} --data-dir ./demo   and keep the store"),
        }
    }

    /// On standard error, so that it does not mix with the counts.
    fn name_unreadable(&self, screen: &Screen) {
        let unreadable = &self.counts.unreadable;
        for file in unreadable.iter().take(UNREADABLE_SHOWN) {
            let path = visible(&file.path().to_string_lossy());
            output::note(screen, &format!("not counted: {path}: {}", visible(file.reason())));
        }
        if let Some(more) = unreadable.len().checked_sub(UNREADABLE_SHOWN).filter(|more| *more > 0) {
            output::note(screen, &format!("not counted: {} more", thousands(more as u64)));
        }
    }
}

/// Counts as one JSON object, in their order.
struct Ranked<'a>(&'a [(&'a str, u64)]);

impl Serialize for Ranked<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (word, count) in self.0 {
            map.serialize_entry(word, count)?;
        }
        map.end()
    }
}

/// `1 file`, `2 files`.
fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(number), if number == 1 { "" } else { "s" })
}

fn seconds(took: Duration) -> String {
    match took.as_secs_f64() {
        secs if secs < 1.0 => format!("{:.0} ms", secs * 1000.0),
        secs => format!("{secs:.1} s"),
    }
}
