//! What a node declares against what the store has.

use std::collections::BTreeMap;

use umbel_scheduler::beat::{Entry, Source};

use crate::schedules::Book;

/// What is to be put into the store, and what is to be removed from it, so that of each declared source it has what is declared.
///
/// A name that somebody added at run time is not taken over: run-time entries are changed where they were made.
pub(super) fn difference(declared: &BTreeMap<Source, Vec<Entry>>, book: &Book) -> (Vec<Entry>, Vec<String>) {
    let kept: BTreeMap<&str, &Entry> = book.entries.iter().map(|kept| (kept.entry.name.as_str(), &kept.entry)).collect();
    let mut put = Vec::new();
    for entry in declared.values().flatten() {
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
            (Source::App, Vec::new()),
        ]);
        let (put, remove) = difference(&declared, &book);
        let names: Vec<&str> = put.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!((names, remove), (vec!["changed", "new", "moved"], vec!["gone".to_owned()]));
    }
}
