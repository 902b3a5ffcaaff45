//! Results and shapes of groups, and their expiry.
//!
//! A row is version, whether it is a SUCCESS, its number in the expiry table, the time it was stored, and the record. The
//! expiry table has one row for each, in the order they were stored, which is the order in which they expire: sweeping never
//! looks at what is still fresh, and another expiry after a restart holds for old rows as well.

use redb::ReadableTable;
use umbel_proto::{GroupId, Millis, ResultRecord, State};

use super::{
    StoreOptions,
    error::StoreError,
    tables::{GROUPS, Seq},
    tx::Tx,
};

const VERSION: u8 = 1;
const HEAD: usize = 18;
const TASK: u8 = 0;
const GROUP: u8 = 1;
/// How many rows one transaction sweeps.
const SLICE: usize = 1000;

/// A result to store.
#[derive(Debug)]
pub(crate) struct NewResult {
    /// For those who watch.
    pub(crate) record: ResultRecord,
    /// Its row, from [`result_row`].
    pub(crate) row: Vec<u8>,
}

impl NewResult {
    pub(crate) fn new(record: ResultRecord) -> Result<Self, StoreError> {
        let bytes = super::record::encode_result(&record)?;
        let row = row(record.status == State::Success, &bytes);
        Ok(Self { record, row })
    }
}

impl Tx<'_> {
    /// Stores a result; `false` when a SUCCESS is there and stays.
    pub(crate) fn store(&mut self, mut new: NewResult) -> Result<bool, StoreError> {
        let seq = self.state.next_seq();
        stamp(&mut new.row, seq, self.now);
        let id = new.record.task_id.as_str();
        let before = self.results.insert(id, new.row.as_slice())?.map(|row| row.value().to_vec());
        if let Some(before) = before {
            if is_success(&before) && is_fresh(&before, self.options, self.now) {
                self.results.insert(id, before.as_slice())?;
                return Ok(false);
            }
            if let Some(seq) = expiry_seq(&before) {
                self.expiry.remove(seq)?;
            }
        }
        self.note_expiry(seq, TASK, id)?;
        self.outbox.stored.push(new.record);
        Ok(true)
    }

    /// Removes a result.
    pub(crate) fn forget(&mut self, id: &str) -> Result<(), StoreError> {
        let seq = self.results.remove(id)?.and_then(|row| expiry_seq(row.value()));
        if let Some(seq) = seq {
            self.expiry.remove(seq)?;
        }
        Ok(())
    }

    /// Keeps the shape of a group.
    pub(crate) fn save_group(&mut self, group: &GroupId, record: &[u8]) -> Result<(), StoreError> {
        let seq = self.state.next_seq();
        let mut row = row(false, record);
        stamp(&mut row, seq, self.now);
        let before = {
            let mut groups = self.txn.open_table(GROUPS)?;
            let before = groups.insert(group.as_str(), row.as_slice())?;
            before.and_then(|row| expiry_seq(row.value()))
        };
        if let Some(before) = before {
            self.expiry.remove(before)?;
        }
        self.note_expiry(seq, GROUP, group.as_str())
    }

    fn note_expiry(&mut self, seq: Seq, kind: u8, id: &str) -> Result<(), StoreError> {
        let mut row = Vec::with_capacity(9 + id.len());
        row.push(kind);
        row.extend(self.now.to_be_bytes());
        row.extend(id.as_bytes());
        self.expiry.insert(seq, row.as_slice())?;
        self.state.oldest_result.get_or_insert(self.now);
        Ok(())
    }

    /// Removes a slice of what has expired.
    pub(crate) fn sweep(&mut self) -> Result<(), StoreError> {
        let Some(limit) = self.options.oldest_result(self.now) else { return Ok(()) };
        let mut expired = Vec::new();
        let mut oldest = None;
        for entry in self.expiry.iter()? {
            let (seq, row) = entry?;
            oldest = stored_at(row.value());
            if oldest.is_some_and(|at| at > limit) || expired.len() == SLICE {
                break;
            }
            expired.push((seq.value(), row.value().to_vec()));
            oldest = None;
        }
        for (seq, row) in expired {
            self.expiry.remove(seq)?;
            let Some(id) = row.get(9..).and_then(|id| std::str::from_utf8(id).ok()) else { continue };
            match row[0] {
                GROUP => drop(self.txn.open_table(GROUPS)?.remove(id)?),
                _ => drop(self.results.remove(id)?),
            }
        }
        self.state.oldest_result = oldest;
        Ok(())
    }
}

impl StoreOptions {
    /// What was stored at this time or before has expired; `None` when nothing ever does.
    pub(crate) fn oldest_result(&self, now: Millis) -> Option<Millis> {
        let expires = i64::try_from(self.result_expires?.as_millis()).unwrap_or(i64::MAX);
        Some(now.saturating_sub(expires))
    }
}

/// The record of a row that has not expired.
pub(crate) fn fresh<'a>(row: &'a [u8], options: &StoreOptions, now: Millis) -> Option<&'a [u8]> {
    is_fresh(row, options, now).then(|| row.get(HEAD..)).flatten()
}

fn is_fresh(row: &[u8], options: &StoreOptions, now: Millis) -> bool {
    let at = row.get(10..HEAD).map_or(Millis::MIN, number);
    options.oldest_result(now).is_none_or(|limit| at > limit)
}

/// When the thing of an expiry row was stored.
pub(crate) fn stored_at(row: &[u8]) -> Option<Millis> {
    row.get(1..9).map(number)
}

fn row(success: bool, record: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD + record.len());
    row.extend([VERSION, u8::from(success)]);
    row.resize(HEAD, 0);
    row.extend(record);
    row
}

fn stamp(row: &mut [u8], seq: Seq, now: Millis) {
    row[2..10].copy_from_slice(&seq.to_be_bytes());
    row[10..HEAD].copy_from_slice(&now.to_be_bytes());
}

fn is_success(row: &[u8]) -> bool {
    row.get(1) == Some(&1)
}

fn expiry_seq(row: &[u8]) -> Option<Seq> {
    row.get(2..10).map(|bytes| number(bytes) as Seq)
}

fn number(bytes: &[u8]) -> i64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(bytes);
    i64::from_be_bytes(eight)
}
