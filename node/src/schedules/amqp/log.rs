//! The log of schedules, and what it comes to: lines go in, in their order, and everybody has the same entries and marks.
//!
//! Whoever reads from the first line knows everything. Because marks move with every tick, the leader writes a *digest* now and
//! then: all that is kept, as of some line. Each line says where the last whole digest begins to hold, so a new reader looks at the
//! end of the log, goes back there, and puts what it reads aside until the digest is whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use umbel_proto::Millis;
use umbel_scheduler::beat::{Entry, Mark};

use super::super::{Book, ENTRIES_MAX, Kept, node_of};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Its own name, by which its writer knows it again.
    pub(super) id: u64,
    /// When it was written, by the writer's clock.
    pub(super) at: Millis,
    /// The line from which on the log is to be read.
    #[serde(default)]
    pub(super) base: u64,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// Written by everybody who begins to read: everything before it has been read once it comes.
    Sync,
    /// Somebody leads; the place of this line is the token.
    Elected {
        candidate: String,
    },
    /// The leader under `token` has moved marks: of which entry, from which due time, to where.
    Ticks {
        token: u64,
        marks: Vec<(String, Millis, Mark)>,
    },
    /// Entries, each with its name in it. One that this version cannot understand is kept for those that can.
    Put(Vec<Json>),
    Remove(Vec<String>),
    Pause {
        name: String,
        paused: bool,
    },
    /// Part of the digest `of` that name.
    Digest {
        of: u64,
        entries: Vec<(Json, Mark)>,
    },
    /// The digest is whole, and holds from after line `through`.
    Digested {
        of: u64,
        through: u64,
        parts: usize,
        revision: u64,
        leader: Option<(u64, String)>,
    },
}

/// What a line has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changed, or was about, so many entries.
    Entries(usize),
    /// There would be too many.
    TooMany,
    /// It was written under a token that is not the leader's any more: nothing changed.
    Deposed,
}

/// What all lines come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pages {
    entries: BTreeMap<String, Page>,
    /// The token and the name of who was elected last.
    pub(super) leader: Option<(u64, String)>,
    pub(super) revision: u64,
    /// From where a new reader reads.
    pub(super) base: u64,
    /// The line after the last one.
    pub(super) next: u64,
    /// How many bytes have been read since the last digest, how many that had, and how many a new one has so far.
    pub(super) bytes: u64,
    pub(super) digest_bytes: u64,
    digesting: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Page {
    /// As it was written.
    written: Json,
    entry: Result<Entry, String>,
    mark: Mark,
}

impl Page {
    fn new(written: Json, mark: Mark) -> Self {
        let entry = Entry::deserialize(&written).map_err(|error| error.to_string());
        Self { written, entry, mark }
    }
}

impl Pages {
    /// Takes in a line, which is the one at `offset` and this long.
    pub(super) fn learn(&mut self, offset: u64, line: &Line, bytes: u64) -> Effect {
        self.next = offset + 1;
        self.bytes += bytes;
        match &line.what {
            What::Sync => Effect::Entries(0),
            What::Digest { .. } => {
                self.digesting += bytes;
                Effect::Entries(0)
            }
            What::Digested { through, .. } => {
                self.base = through + 1;
                self.bytes = 0;
                self.digest_bytes = std::mem::take(&mut self.digesting);
                Effect::Entries(0)
            }
            What::Elected { candidate } => {
                self.leader = Some((offset, candidate.clone()));
                Effect::Entries(0)
            }
            What::Ticks { token, .. } if self.token() != Some(*token) => Effect::Deposed,
            What::Ticks { marks, .. } => Effect::Entries(marks.iter().filter(|(name, from, mark)| self.tick(name, *from, mark)).count()),
            What::Put(written) => self.put(offset, line.at, written),
            What::Remove(names) => {
                let there = names.iter().filter(|name| self.entries.remove(*name).is_some()).count();
                self.changed(offset, there)
            }
            What::Pause { name, paused } => {
                let there = self.entries.get_mut(name).map(|page| page.mark.pause(*paused, line.at));
                self.changed(offset, usize::from(there.is_some()))
            }
        }
    }

    fn changed(&mut self, offset: u64, there: usize) -> Effect {
        if there > 0 {
            self.revision = offset + 1;
        }
        Effect::Entries(there)
    }

    fn tick(&mut self, name: &str, from: Millis, mark: &Mark) -> bool {
        let Some(page) = self.entries.get_mut(name).filter(|page| page.mark.due == from) else { return false };
        page.mark = Mark { paused: page.mark.paused, ..mark.clone() };
        true
    }

    fn put(&mut self, offset: u64, at: Millis, written: &[Json]) -> Effect {
        if self.entries.len() + written.len() > ENTRIES_MAX {
            return Effect::TooMany;
        }
        for entry in written {
            let Some(name) = entry["name"].as_str() else { continue };
            let old = self.entries.get(name);
            let mut mark = old.map_or_else(|| Mark::new(at), |page| page.mark.clone());
            if old.is_some_and(|page| page.written["enabled"] == false) && entry["enabled"] != false {
                mark.go_on(at);
            }
            self.entries.insert(name.to_owned(), Page::new(entry.clone(), mark));
        }
        self.changed(offset, written.len())
    }

    /// The token of who was elected last.
    pub(super) fn token(&self) -> Option<u64> {
        self.leader.as_ref().map(|(token, _)| *token)
    }

    /// Where an entry's mark stands; `None` when there is no such entry.
    pub(super) fn mark(&self, name: &str) -> Option<&Mark> {
        self.entries.get(name).map(|page| &page.mark)
    }

    /// Everything, for whoever asks.
    pub(super) fn book(&self, now: Millis) -> Book {
        let mut book =
            Book { leader: self.leader.as_ref().map(|(_, name)| node_of(name)), now, revision: self.revision, ..Book::default() };
        for (name, page) in &self.entries {
            match &page.entry {
                Ok(entry) => book.entries.push(Kept { entry: entry.clone(), mark: page.mark.clone() }),
                Err(reason) => book.unreadable.push((name.clone(), reason.clone())),
            }
        }
        book
    }

    /// A digest of this, in parts of so many entries.
    pub(super) fn digest(&self, of: u64, part: usize) -> Vec<What> {
        let pages: Vec<&Page> = self.entries.values().collect();
        let digest =
            |pages: &[&Page]| What::Digest { of, entries: pages.iter().map(|page| (page.written.clone(), page.mark.clone())).collect() };
        let mut lines: Vec<What> = pages.chunks(part.max(1)).map(digest).collect();
        let parts = lines.len();
        lines.push(What::Digested {
            of,
            through: self.next.saturating_sub(1),
            parts,
            revision: self.revision,
            leader: self.leader.clone(),
        });
        lines
    }
}

/// Somebody who begins to read, perhaps in the middle.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pages: Pages,
    began: bool,
    /// What was read in the middle, until a digest is whole.
    aside: Option<Vec<(u64, Line, u64)>>,
}

impl Reading {
    /// Takes in the next line. What it comes to is known once nothing is put aside any more.
    pub(super) fn read(&mut self, offset: u64, line: Line, bytes: u64) {
        if !self.began {
            self.began = true;
            self.aside = (offset > 0).then(Vec::new);
        }
        let Some(aside) = &mut self.aside else {
            self.pages.learn(offset, &line, bytes);
            return;
        };
        let ended = match &line.what {
            What::Digested { of, parts, .. } => whole(aside, *of, *parts),
            _ => None,
        };
        aside.push((offset, line, bytes));
        if let Some(entries) = ended {
            self.take(entries);
        }
    }

    fn take(&mut self, entries: Vec<(Json, Mark)>) {
        let aside = self.aside.take().unwrap_or_default();
        let Some((_, Line { what: What::Digested { through, revision, leader, .. }, .. }, _)) = aside.last() else { return };
        let through = *through;
        let named = |(written, mark): (Json, Mark)| Some((written["name"].as_str()?.to_owned(), Page::new(written, mark)));
        self.pages = Pages {
            entries: entries.into_iter().filter_map(named).collect(),
            leader: leader.clone(),
            revision: *revision,
            ..Pages::default()
        };
        for (offset, line, bytes) in aside.iter().filter(|(offset, ..)| *offset > through) {
            self.pages.learn(*offset, line, *bytes);
        }
    }

    /// Everything there was has been read.
    pub(super) fn done(self) -> Pages {
        let Self { mut pages, aside, .. } = self;
        if let Some(aside) = aside.filter(|aside| !aside.is_empty()) {
            // The log's beginning has gone and no digest holds; never, while the log is longer than a few digests.
            tracing::error!("the log of schedules has lost its beginning; entries may be missing: declare or add them again");
            for (offset, line, bytes) in aside {
                pages.learn(offset, &line, bytes);
            }
        }
        pages
    }
}

/// The entries of a digest, if all of its parts are there.
fn whole(aside: &[(u64, Line, u64)], wanted: u64, parts: usize) -> Option<Vec<(Json, Mark)>> {
    let found = aside.iter().filter_map(|(_, line, _)| match &line.what {
        What::Digest { of, entries } if *of == wanted => Some(entries),
        _ => None,
    });
    let found: Vec<_> = found.collect();
    (found.len() == parts).then(|| found.into_iter().flatten().cloned().collect())
}

#[cfg(test)]
mod tests;
