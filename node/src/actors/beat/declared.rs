//! What a node declares against what the store has.

use std::collections::{BTreeMap, BTreeSet};

use umbel_scheduler::beat::{Entry, Mark, Source};

use crate::schedules::{Book, Step, tables::Row};

/// What is to be put into the store, and what is to be removed from it, so that of each declared source it has what is declared.
///
/// A name that somebody added at run time is not taken over: run-time entries are changed where they were made. A name that
/// several sources declare is the first one's, in their order.
pub(super) fn difference(declared: &BTreeMap<Source, Vec<Entry>>, book: &Book) -> (Vec<Entry>, Vec<String>) {
    let kept: BTreeMap<&str, &Entry> = book.entries.iter().map(|kept| (kept.entry.name.as_str(), &kept.entry)).collect();
    let mut put = Vec::new();
    let mut seen: BTreeMap<&str, Source> = BTreeMap::new();
    for (source, entry) in declared.iter().flat_map(|(source, entries)| entries.iter().map(move |entry| (source, entry))) {
        if let Some(first) = seen.get(entry.name.as_str()).filter(|first| *first != source) {
            tracing::warn!(entry = entry.name, "declared by {} and by {}: what the first says counts", first.as_str(), source.as_str());
            continue;
        }
        seen.insert(&entry.name, *source);
        match kept.get(entry.name.as_str()) {
            Some(known) if *known == entry => {}
            Some(known) if known.source == Source::Api => {
                tracing::warn!(entry = entry.name, "a declared entry has the name of one that was added at run time, which stays");
            }
            _ => put.push(entry.clone()),
        }
    }
    let mut remove: Vec<String> = Vec::new();
    for (source, entries) in declared {
        let gone = kept.values().filter(|known| known.source == *source && !entries.iter().any(|entry| entry.name == known.name));
        remove.extend(gone.map(|known| known.name.clone()));
    }
    // What moved from one source to another is put, not removed.
    remove.retain(|name| !put.iter().any(|entry| entry.name == *name));
    (put, remove)
}

/// Moves the marks of rows that are new to the store to where another beat left them. `known` are the names that the store had.
///
/// A leader that died between putting an entry and this is made good for: an entry that was never sent, of a row that was.
pub(super) fn begin(rows: &[Row], known: &BTreeSet<String>, book: &Book) -> Vec<Step> {
    let rows: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.entry.name.as_str(), row)).collect();
    let theirs = book.entries.iter().filter(|kept| kept.entry.source == Source::Django);
    theirs
        .filter_map(|kept| {
            let row = rows.get(kept.entry.name.as_str())?;
            let is_new = !known.contains(&kept.entry.name) || kept.mark.sent.is_none() && row.last.is_some();
            let mark = Mark { paused: kept.mark.paused, ..row.mark(book.now) };
            let step = Step { name: kept.entry.name.clone(), from: kept.mark.due, mark, message: None };
            (is_new && step.mark != kept.mark).then_some(step)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use umbel_scheduler::{beat::Mark, schedule::When};

    use super::*;
    use crate::schedules::Kept;

    fn entry(name: &str, source: Source, every_ms: i64) -> Entry {
        Entry { source, ..Entry::new(name, "proj.tick", When::Every { every_ms, relative: false }) }
    }

    /// Goal: of each declared source the store ends up with what is declared; other sources are left alone.
    #[test]
    fn declared_sources_are_kept_the_same() {
        let kept = [
            entry("same", Source::Config, 1_000),
            entry("changed", Source::Config, 1_000),
            entry("gone", Source::Config, 1_000),
            entry("moved", Source::App, 1_000),
            entry("theirs", Source::Django, 1_000),
            entry("added", Source::Api, 1_000),
        ];
        let book = Book { entries: kept.map(|entry| Kept { entry, mark: Mark::new(0) }).into(), ..Book::default() };
        let declared = BTreeMap::from([
            (
                Source::Config,
                vec![
                    entry("same", Source::Config, 1_000),
                    entry("changed", Source::Config, 2_000),
                    entry("new", Source::Config, 1_000),
                    entry("moved", Source::Config, 1_000),
                    entry("added", Source::Config, 1_000),
                ],
            ),
            (Source::App, vec![entry("same", Source::App, 9_000)]),
        ]);
        let (put, remove) = difference(&declared, &book);
        let names: Vec<&str> = put.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!((names, remove), (vec!["changed", "new", "moved"], vec!["gone".to_owned()]));
    }

    /// Goal: a row's progress becomes the mark of an entry that is new, or was never sent; later the mark alone counts.
    #[test]
    fn rows_begin_where_another_beat_left_them() {
        let row = |name: &str, last| Row { entry: entry(name, Source::Django, 1_000), last, runs: 7, changed: Some(40) };
        let kept = |name: &str, mark| Kept { entry: entry(name, Source::Django, 1_000), mark };
        let begun = Mark { due: 90, sent: Some(90), runs: 8, paused: false };
        let book = Book {
            entries: vec![kept("new", Mark::new(100)), kept("left", Mark::new(100)), kept("runs", begun), kept("waits", Mark::new(100))],
            now: 100,
            ..Book::default()
        };
        let rows = [row("new", None), row("left", Some(50)), row("runs", Some(50)), row("waits", None)];
        let known = ["left", "runs", "waits"].map(str::to_owned).into();
        let steps = begin(&rows, &known, &book);
        let moved: Vec<_> = steps.iter().map(|step| (step.name.as_str(), step.from, step.mark.due, step.mark.runs)).collect();
        assert_eq!(moved, [("new", 100, 40, 7), ("left", 100, 50, 7)]);
    }
}
