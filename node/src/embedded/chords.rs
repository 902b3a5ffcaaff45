//! Chords: how many parts there must be, which there are, and whether the end has been drawn.
//!
//! Parts are rows of their own under (index, task id); a part that comes twice is one row. A chord is complete while it has as
//! many as it expects; concluding it removes it and its parts, so that it can be concluded once only, and whatever comes later
//! finds no chord and is ignored.

use redb::{ReadTransaction, ReadableTable};
use serde::{Deserialize, Serialize};
use umbel_proto::{GroupId, Millis, TaskId};
use umbel_scheduler::{OpenChord, ReadyChord};

use super::{
    error::StoreError,
    record,
    tables::{BODIES, CHORDS, COMPLETE, PARTS, part_range},
    tx::Tx,
};

/// The row of a chord.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChordRow {
    pub(crate) size: u32,
    pub(crate) done: u32,
    /// In which opening of the store it became complete, if it is.
    complete_in: Option<u64>,
    /// The part that completed it.
    last: Option<TaskId>,
}

/// A part to record.
#[derive(Debug)]
pub(crate) struct NewPart {
    pub(crate) group: GroupId,
    pub(crate) task: TaskId,
    pub(crate) key: Vec<u8>,
    pub(crate) row: Vec<u8>,
}

impl Tx<'_> {
    /// Begins a chord; says whether it is complete already. One that is there stays as it is: the commit was sent twice.
    pub(crate) fn open_chord(&mut self, group: &GroupId, size: u32, body: &[u8]) -> Result<bool, StoreError> {
        if self.chord(group)?.is_some() {
            return Ok(false);
        }
        self.txn.open_table(BODIES)?.insert(group.as_str(), body)?;
        let mut row = ChordRow { size, done: 0, complete_in: None, last: None };
        let complete = self.completes(group, &mut row, None)?;
        self.put_chord(group, &row)?;
        Ok(complete)
    }

    /// Expects more parts. A chord that was complete and has not been concluded is not complete any more.
    pub(crate) fn grow_chord(&mut self, group: &GroupId, by: u32) -> Result<(), StoreError> {
        let Some(mut row) = self.chord(group)? else { return Ok(()) };
        row.size = row.size.saturating_add(by);
        if row.done < row.size && row.complete_in.take().is_some() {
            row.last = None;
            self.txn.open_table(COMPLETE)?.remove(group.as_str())?;
        }
        self.put_chord(group, &row)
    }

    /// Records a part; says whether it completes its chord.
    pub(crate) fn part(&mut self, part: &NewPart) -> Result<bool, StoreError> {
        let Some(mut row) = self.chord(&part.group)? else { return Ok(false) };
        {
            let mut parts = self.txn.open_table(PARTS)?;
            if parts.get(part.key.as_slice())?.is_some() {
                return Ok(false);
            }
            parts.insert(part.key.as_slice(), part.row.as_slice())?;
        }
        row.done += 1;
        let complete = self.completes(&part.group, &mut row, Some(&part.task))?;
        self.put_chord(&part.group, &row)?;
        Ok(complete)
    }

    /// Whether the chord is there, complete, and not concluded.
    pub(crate) fn is_complete(&self, group: &GroupId) -> Result<bool, StoreError> {
        Ok(self.chord(group)?.is_some_and(|row| row.complete_in.is_some()))
    }

    /// Removes the chord and its parts.
    pub(crate) fn conclude(&mut self, group: &GroupId) -> Result<(), StoreError> {
        self.txn.open_table(CHORDS)?.remove(group.as_str())?;
        self.txn.open_table(BODIES)?.remove(group.as_str())?;
        self.txn.open_table(COMPLETE)?.remove(group.as_str())?;
        let (from, to) = part_range(group);
        self.txn.open_table(PARTS)?.retain_in(from.as_slice()..to.as_slice(), |_, _| false)?;
        Ok(())
    }

    fn completes(&mut self, group: &GroupId, row: &mut ChordRow, last: Option<&TaskId>) -> Result<bool, StoreError> {
        if row.done < row.size || row.complete_in.is_some() {
            return Ok(false);
        }
        row.complete_in = Some(self.state.boot);
        row.last = last.cloned();
        self.txn.open_table(COMPLETE)?.insert(group.as_str(), self.now)?;
        Ok(true)
    }

    fn chord(&self, group: &GroupId) -> Result<Option<ChordRow>, StoreError> {
        let chords = self.txn.open_table(CHORDS)?;
        let row = chords.get(group.as_str())?;
        row.map(|row| Ok(record::decode(row.value())?)).transpose()
    }

    fn put_chord(&mut self, group: &GroupId, row: &ChordRow) -> Result<(), StoreError> {
        self.txn.open_table(CHORDS)?.insert(group.as_str(), record::encode(row)?.as_slice())?;
        Ok(())
    }
}

/// The record of a chord's body.
pub(crate) fn body_record(open: &OpenChord) -> Result<Vec<u8>, StoreError> {
    Ok(record::encode_signature(&open.body)?)
}

/// The row of a chord.
pub(crate) fn read_chord(txn: &ReadTransaction, group: &GroupId) -> Result<Option<ChordRow>, StoreError> {
    let row = txn.open_table(CHORDS)?.get(group.as_str())?;
    row.map(|row| Ok(record::decode(row.value())?)).transpose()
}

/// A chord with its parts, if it is complete and not concluded.
pub(crate) fn read_ready(txn: &ReadTransaction, group: &GroupId) -> Result<Option<ReadyChord>, StoreError> {
    let Some(row) = read_chord(txn, group)?.filter(|row| row.complete_in.is_some()) else { return Ok(None) };
    let Some(body) = txn.open_table(BODIES)?.get(group.as_str())? else {
        return Err(StoreError::Refused(format!("the chord {group} has no body in the store")));
    };
    let body = record::decode_signature(body.value())?;
    let (from, to) = part_range(group);
    let mut parts = Vec::with_capacity(row.done as usize);
    for entry in txn.open_table(PARTS)?.range(from.as_slice()..to.as_slice())? {
        parts.push(record::decode_part(entry?.1.value())?);
    }
    Ok(Some(ReadyChord { group: group.clone(), body, parts, last: row.last }))
}

/// Chords that were complete at `since` or before, or became so before this opening of the store, and are not concluded.
pub(crate) fn read_unconcluded(txn: &ReadTransaction, since: Millis, boot: u64, limit: usize) -> Result<Vec<GroupId>, StoreError> {
    let mut found = Vec::new();
    for entry in txn.open_table(COMPLETE)?.iter()? {
        let (group, at) = entry?;
        let group = GroupId::from(group.value());
        let orphaned = || -> Result<bool, StoreError> {
            Ok(read_chord(txn, &group)?.and_then(|row| row.complete_in).is_some_and(|complete_in| complete_in != boot))
        };
        if at.value() <= since || orphaned()? {
            found.push(group);
            if found.len() == limit {
                break;
            }
        }
    }
    Ok(found)
}
