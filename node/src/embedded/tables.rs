//! The tables of the store and their keys.
//!
//! Keys are big-endian tuples written into bytes, so that the order of bytes is the order in which things are wanted.

use std::ops::RangeInclusive;

use redb::TableDefinition;
use umbel_proto::{GroupId, Millis, TaskId};

/// The format of the file, kept in [`META`] under [`FORMAT_KEY`].
pub(crate) const FORMAT: u64 = 1;
pub(crate) const FORMAT_KEY: &str = "format";
/// The next [`Seq`].
pub(crate) const SEQ_KEY: &str = "seq";
/// The id of the next new queue.
pub(crate) const QUEUE_KEY: &str = "queue";
/// The last token of beat's lease.
pub(crate) const BEAT_TOKEN_KEY: &str = "beat_token";
/// A number that changes with the entries of beat.
pub(crate) const BEAT_REVISION_KEY: &str = "beat_revision";
/// How often the store has been opened.
pub(crate) const BOOT_KEY: &str = "boot";

/// A number that is never given twice: the identity of a message and its age.
pub(crate) type Seq = u64;
/// The short name of a queue.
pub(crate) type QueueId = u32;
/// The short name of a subscription, never given twice.
pub(crate) type HolderId = u64;

/// Numbers of the store itself.
pub(crate) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// Queue name → [`super::state::QueueRow`].
pub(crate) const QUEUES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("queues");
/// (queue, 255 − priority, seq) → [`super::row`]: waiting messages in the order of handing out.
pub(crate) const READY: TableDefinition<'static, ReadyKey, &[u8]> = TableDefinition::new("ready");
/// (queue, due, seq) → [`super::row`]: messages waiting for their time.
pub(crate) const SCHEDULED: TableDefinition<'static, DueKey, &[u8]> = TableDefinition::new("scheduled");
/// seq → [`super::row`]: messages that a node holds.
pub(crate) const HELD: TableDefinition<'static, Seq, &[u8]> = TableDefinition::new("held");
/// seq → [`super::record::DeadRow`], in the order of death.
pub(crate) const DEAD: TableDefinition<'static, Seq, &[u8]> = TableDefinition::new("dead");
/// seq → [`super::record::RevokedRow`], in the order given.
pub(crate) const REVOKED: TableDefinition<'static, Seq, &[u8]> = TableDefinition::new("revoked");
/// Task → what was changed of it at run time, as JSON.
pub(crate) const TUNINGS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("tunings");
/// Task id → [`super::results`] row.
pub(crate) const RESULTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("results");
/// Group id → [`super::results`] row.
pub(crate) const GROUPS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("groups");
/// seq → kind, time and id of what was stored then: results and groups in the order in which they expire.
pub(crate) const EXPIRY: TableDefinition<'static, Seq, &[u8]> = TableDefinition::new("expiry");
/// Group id → [`super::chords::ChordRow`].
pub(crate) const CHORDS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("chords");
/// Group id → the body's signature. Apart, because the row beside it is written with every part.
pub(crate) const BODIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("chord_bodies");
/// (group id, index, task id) → [`super::record`] of the part.
pub(crate) const PARTS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("chord_parts");
/// Group id → when it became complete, of chords that are complete and not concluded.
pub(crate) const COMPLETE: TableDefinition<'static, &str, Millis> = TableDefinition::new("chords_complete");

/// Name of an entry of beat → the entry, as JSON.
pub(crate) const BEAT_ENTRIES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("beat_entries");
/// Name of an entry of beat → its mark.
pub(crate) const BEAT_MARKS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("beat_marks");

pub(crate) type ReadyKey = [u8; 13];
pub(crate) type DueKey = [u8; 20];

/// The most urgent priority.
pub(crate) const MAX_PRIORITY: u8 = 9;

pub(crate) fn ready_key(queue: QueueId, priority: u8, seq: Seq) -> ReadyKey {
    let mut key = [0; 13];
    key[..4].copy_from_slice(&queue.to_be_bytes());
    key[4] = u8::MAX - priority;
    key[5..].copy_from_slice(&seq.to_be_bytes());
    key
}

pub(crate) fn ready_seq(key: &ReadyKey) -> Seq {
    tail(key)
}

pub(crate) fn ready_range(queue: QueueId) -> RangeInclusive<ReadyKey> {
    ready_key(queue, u8::MAX, 0)..=ready_key(queue, 0, Seq::MAX)
}

pub(crate) fn priority_range(queue: QueueId, priority: u8) -> RangeInclusive<ReadyKey> {
    ready_key(queue, priority, 0)..=ready_key(queue, priority, Seq::MAX)
}

pub(crate) fn due_key(queue: QueueId, due: Millis, seq: Seq) -> DueKey {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&queue.to_be_bytes());
    key[4..12].copy_from_slice(&ordered(due));
    key[12..].copy_from_slice(&seq.to_be_bytes());
    key
}

pub(crate) fn due_of(key: &DueKey) -> (Millis, Seq) {
    let mut due = [0; 8];
    due.copy_from_slice(&key[4..12]);
    (i64::from_be_bytes(due) ^ i64::MIN, tail(key))
}

/// Everything scheduled in `queue` up to `until`.
pub(crate) fn due_range(queue: QueueId, until: Millis) -> RangeInclusive<DueKey> {
    due_key(queue, i64::MIN, 0)..=due_key(queue, until, Seq::MAX)
}

/// The key of a chord part: parts sort by index, those without one last, then by task id.
pub(crate) fn part_key(group: &GroupId, index: Option<i64>, task: &TaskId) -> Vec<u8> {
    let mut key = part_prefix(group);
    match index {
        Some(index) => {
            key.push(0);
            key.extend(ordered(index));
        }
        None => key.push(1),
    }
    key.extend(task.as_str().as_bytes());
    key
}

/// All keys of a chord's parts: from the first, up to and without the second.
pub(crate) fn part_range(group: &GroupId) -> (Vec<u8>, Vec<u8>) {
    let (mut from, mut to) = (part_prefix(group), part_prefix(group));
    from.push(0);
    to.push(2);
    (from, to)
}

fn part_prefix(group: &GroupId) -> Vec<u8> {
    let id = group.as_str().as_bytes();
    let mut key = Vec::with_capacity(id.len() + 64);
    // The length comes first, so that no id is the beginning of another's keys.
    key.extend((id.len() as u64).to_be_bytes());
    key.extend(id);
    key
}

/// Bytes that sort as the numbers do.
fn ordered(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn tail(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key[key.len() - 8..]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_priority_then_age() {
        assert!(ready_key(1, 9, 7) < ready_key(1, 0, 3));
        assert!(ready_key(1, 5, 3) < ready_key(1, 5, 4));
        assert!(ready_key(1, 0, u64::MAX) < ready_key(2, 9, 0));
        assert_eq!(ready_seq(&ready_key(1, 5, 77)), 77);
    }

    #[test]
    fn due_keys_sort_by_time_also_before_1970() {
        assert!(due_key(1, -5, 9) < due_key(1, 0, 1));
        assert!(due_key(1, 5, 1) < due_key(1, 5, 2));
        assert_eq!(due_of(&due_key(3, -5, 9)), (-5, 9));
    }

    #[test]
    fn parts_sort_by_index_and_those_without_one_last() {
        let (group, task) = (GroupId::from("g"), TaskId::from("t"));
        let keys = [Some(-1), Some(0), Some(300), None].map(|index| part_key(&group, index, &task));
        assert!(keys.is_sorted());
        let (from, to) = part_range(&group);
        assert!(keys.iter().all(|key| *key >= from && *key < to));
        let (_, to_shorter) = part_range(&GroupId::from(""));
        assert!(keys.iter().all(|key| *key >= to_shorter));
    }
}
