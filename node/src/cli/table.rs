//! Tables: aligned columns on a terminal, tab-separated lines for programs.

use std::io::IsTerminal as _;

use super::{
    failure::{Failure, visible},
    output::Screen,
};

/// Rows under a heading.
#[derive(Debug)]
pub(super) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// One more row, a cell for each column. Control characters are escaped.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| visible(&cell)).collect());
    }

    /// Prints it; `empty` where there are no rows.
    pub(super) fn print(self, screen: &Screen, empty: &str) -> Result<(), Failure> {
        let terminal = std::io::stdout().is_terminal();
        if self.rows.is_empty() && terminal {
            return screen.print(|out| writeln!(out, "{empty}"));
        }
        let text = if terminal { self.aligned(screen) } else { self.tabs() };
        screen.print(|out| out.write_all(text.as_bytes()))
    }

    /// As text for one of several on a page; `empty` where there are no rows.
    pub(super) fn page(&self, screen: &Screen, empty: &str) -> String {
        if self.rows.is_empty() { format!("{empty}\n") } else { self.aligned(screen) }
    }

    fn tabs(&self) -> String {
        let heading = self.heading.join("\t");
        self.rows.iter().fold(heading + "\n", |text, row| text + &row.join("\t") + "\n")
    }

    fn aligned(&self, screen: &Screen) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.heading[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heading.len()).map(width).collect();
        let numeric = |column: usize| self.rows.iter().all(|row| row[column].starts_with(|c: char| c.is_ascii_digit() || c == '-'));
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                let gap = " ".repeat(width - cell.chars().count());
                if numeric(column) { gap + cell } else { cell.clone() + &gap }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let heading: Vec<String> = self.heading.iter().map(ToString::to_string).collect();
        self.rows.iter().fold(screen.paint(line(&heading).trim_end(), "1") + "\n", |text, row| text + &line(row))
    }
}

/// How long ago, as people say it.
pub(super) fn ago(millis: i64) -> String {
    let secs = (crate::clock::now() - millis).max(0) / 1_000;
    match secs {
        0..60 => format!("{secs}s"),
        60..3_600 => format!("{}m{}s", secs / 60, secs % 60),
        3_600..86_400 => format!("{}h{}m", secs / 3_600, secs / 60 % 60),
        _ => format!("{}d{}h", secs / 86_400, secs / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;

    fn table() -> Table {
        let mut table = Table::new(&["QUEUE", "READY"]);
        table.row(["celery".to_owned(), "5".to_owned()]);
        table.row(["a\nb".to_owned(), "1234567".to_owned()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_numbers_to_the_right() {
        assert_eq!(table().aligned(&Screen::plain(Format::Text)), "QUEUE     READY\ncelery        5\na\\nb    1234567\n");
    }

    #[test]
    fn programs_get_tabs() {
        assert_eq!(table().tabs(), "QUEUE\tREADY\ncelery\t5\na\\nb\t1234567\n");
    }
}
