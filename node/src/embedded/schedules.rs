//! Entries of beat, their marks, and who leads.

use std::time::{Duration, Instant};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use umbel_proto::{Millis, NodeId};
use umbel_scheduler::{
    beat::{Entry, Mark},
    lease::{Standing, Token},
};

use super::{
    error::StoreError,
    messages::NewMessage,
    record,
    tables::{BEAT_ENTRIES, BEAT_MARKS, BEAT_REVISION_KEY, BEAT_TOKEN_KEY, META},
    tx::Tx,
};
use crate::schedules::{Answer, Book, ENTRIES_MAX, Kept, Poll, node_of};

/// A tick, encoded.
pub(crate) struct NewTick {
    pub(crate) name: String,
    pub(crate) from: Millis,
    pub(crate) mark: Mark,
    pub(crate) message: Option<NewMessage>,
}

/// Who leads, in the writer's memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct BeatLease {
    holder: Option<Holder>,
    revision: u64,
}

#[derive(Debug, Clone)]
struct Holder {
    name: String,
    token: Token,
    ends: Instant,
}

impl BeatLease {
    /// Renews a lease that runs, or says who has it; `None` when there is none to renew.
    pub(crate) fn renew(&mut self, name: &str, lease: Duration) -> Option<Poll> {
        let now = Instant::now();
        let holder = self.holder.as_mut().filter(|holder| holder.ends > now)?;
        let standing = if holder.name == name {
            holder.ends = now + lease;
            Standing::Leads(holder.token)
        } else {
            Standing::Follows { ends_in_ms: i64::try_from((holder.ends - now).as_millis()).unwrap_or(i64::MAX) }
        };
        Some(Poll { standing, leader: node_of(&holder.name), now: 0, revision: self.revision })
    }

    pub(crate) fn resign(&mut self, name: &str) {
        self.holder.take_if(|holder| holder.name == name);
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.holder.as_ref().filter(|holder| holder.ends > Instant::now()).map(|holder| node_of(&holder.name))
    }

    fn leads(&self, name: &str, token: Token) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.name == name && holder.token == token && holder.ends > Instant::now())
    }
}

impl Tx<'_> {
    /// Gives the lease to `name` if nobody has it.
    pub(crate) fn campaign(&mut self, name: &str, lease: Duration) -> Result<Poll, StoreError> {
        if let Some(poll) = self.state.beat.renew(name, lease) {
            return Ok(Poll { now: self.now, ..poll });
        }
        let mut meta = self.txn.open_table(META)?;
        let token = meta.get(BEAT_TOKEN_KEY)?.map_or(0, |token| token.value()) + 1;
        meta.insert(BEAT_TOKEN_KEY, token)?;
        let revision = meta.get(BEAT_REVISION_KEY)?.map_or(0, |revision| revision.value());
        let token = Token(token);
        // Should the transaction be undone, the next one gives the same number to whoever asks then; nothing has been done under it.
        self.state.beat = BeatLease { holder: Some(Holder { name: name.to_owned(), token, ends: Instant::now() + lease }), revision };
        Ok(Poll { standing: Standing::Leads(token), leader: node_of(name), now: self.now, revision })
    }

    /// Carries out ticks under a token.
    pub(crate) fn tick(&mut self, name: &str, token: Token, ticks: &[NewTick]) -> Result<Vec<Answer>, StoreError> {
        ticks.iter().map(|tick| self.tick_one(name, token, tick)).collect()
    }

    fn tick_one(&mut self, name: &str, token: Token, tick: &NewTick) -> Result<Answer, StoreError> {
        if !self.state.beat.leads(name, token) {
            return Ok(Answer::Deposed);
        }
        {
            let mut marks = self.txn.open_table(BEAT_MARKS)?;
            let known = marks.get(tick.name.as_str())?.map(|row| record::decode::<MarkRow>(row.value())).transpose()?;
            let Some(mark) = known.map(Mark::from).filter(|mark| !mark.paused) else { return Ok(Answer::Gone) };
            if mark.due != tick.from {
                return Ok(Answer::Moved(mark));
            }
            marks.insert(tick.name.as_str(), record::encode(&MarkRow::from(&tick.mark))?.as_slice())?;
        }
        if let Some(message) = &tick.message {
            self.publish(message)?;
        }
        Ok(Answer::Done)
    }

    /// Adds or replaces entries.
    pub(crate) fn put_entries(&mut self, new: &[Entry]) -> Result<(), StoreError> {
        {
            let mut entries = self.txn.open_table(BEAT_ENTRIES)?;
            let mut marks = self.txn.open_table(BEAT_MARKS)?;
            if entries.len()? + new.len() as u64 > ENTRIES_MAX as u64 {
                return Err(StoreError::Refused(format!("there are more than {ENTRIES_MAX} entries")));
            }
            for entry in new {
                // An entry is what people wrote, with fields that come and go: JSON, which says what it holds.
                let row = serde_json::to_vec(entry).map_err(|error| StoreError::Refused(format!("an entry cannot be written: {error}")))?;
                let old = entries.insert(entry.name.as_str(), row.as_slice())?.map(|old| is_on(old.value()));
                let known = marks.get(entry.name.as_str())?.map(|row| record::decode::<MarkRow>(row.value())).transpose()?;
                let mut mark = known.map_or_else(|| Mark::new(self.now), Mark::from);
                if entry.enabled && old == Some(false) {
                    mark.go_on(self.now);
                }
                marks.insert(entry.name.as_str(), record::encode(&MarkRow::from(&mark))?.as_slice())?;
            }
        }
        self.entries_changed()
    }

    /// Removes entries and their marks.
    pub(crate) fn remove_entries(&mut self, names: &[String]) -> Result<usize, StoreError> {
        let mut removed = 0;
        {
            let mut entries = self.txn.open_table(BEAT_ENTRIES)?;
            let mut marks = self.txn.open_table(BEAT_MARKS)?;
            for name in names {
                removed += usize::from(entries.remove(name.as_str())?.is_some());
                marks.remove(name.as_str())?;
            }
        }
        self.entries_changed()?;
        Ok(removed)
    }

    /// Pauses or resumes an entry.
    pub(crate) fn pause_entry(&mut self, name: &str, paused: bool) -> Result<bool, StoreError> {
        {
            let mut marks = self.txn.open_table(BEAT_MARKS)?;
            let known = marks.get(name)?.map(|row| record::decode::<MarkRow>(row.value())).transpose()?;
            let Some(mut mark) = known.map(Mark::from) else { return Ok(false) };
            mark.pause(paused, self.now);
            marks.insert(name, record::encode(&MarkRow::from(&mark))?.as_slice())?;
        }
        self.entries_changed()?;
        Ok(true)
    }

    fn entries_changed(&mut self) -> Result<(), StoreError> {
        let mut meta = self.txn.open_table(META)?;
        let revision = meta.get(BEAT_REVISION_KEY)?.map_or(0, |revision| revision.value()) + 1;
        meta.insert(BEAT_REVISION_KEY, revision)?;
        self.state.beat.revision = revision;
        Ok(())
    }
}

/// Whether an entry is sent at all, as it is kept.
fn is_on(row: &[u8]) -> bool {
    serde_json::from_slice::<Entry>(row).map_or(true, |entry| entry.enabled)
}

/// A mark as it is kept.
#[derive(serde::Serialize, serde::Deserialize)]
struct MarkRow {
    due: Millis,
    sent: Option<Millis>,
    runs: u64,
    paused: bool,
}

impl From<&Mark> for MarkRow {
    fn from(mark: &Mark) -> Self {
        Self { due: mark.due, sent: mark.sent, runs: mark.runs, paused: mark.paused }
    }
}

impl From<MarkRow> for Mark {
    fn from(row: MarkRow) -> Self {
        Self { due: row.due, sent: row.sent, runs: row.runs, paused: row.paused }
    }
}

/// All entries; who leads and what time it is are the caller's to add.
pub(crate) fn read_book(txn: &ReadTransaction) -> Result<Book, StoreError> {
    let mut book = Book::default();
    let marks = txn.open_table(BEAT_MARKS)?;
    for entry in txn.open_table(BEAT_ENTRIES)?.iter()? {
        let (name, row) = entry?;
        let mark = marks.get(name.value())?.map(|row| record::decode::<MarkRow>(row.value())).transpose()?;
        match serde_json::from_slice::<Entry>(row.value()) {
            Ok(entry) => book.entries.push(Kept { entry, mark: mark.map(Mark::from).unwrap_or_default() }),
            Err(error) => book.unreadable.push((name.value().to_owned(), error.to_string())),
        }
    }
    book.revision = txn.open_table(META)?.get(BEAT_REVISION_KEY)?.map_or(0, |revision| revision.value());
    Ok(book)
}
