//! Looking at queues and dead letters without disturbing the writer.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable};
use umbel_proto::{GroupId, Millis, NodeId, QueueName, ResultRecord, TaskId};
use umbel_scheduler::revocation::Revoked;

use super::{
    StoreOptions,
    error::StoreError,
    record::{self, DeadRow, RevokedRow},
    results,
    row::{self, Header},
    state::{QueueRow, State},
    tables::{
        DEAD, GROUPS, MAX_PRIORITY, QUEUES, QueueId, READY, RESULTS, REVOKED, SCHEDULED, Seq, due_of, due_range, priority_range,
        ready_range,
    },
};
use crate::brokers::{DeadLetter, LiveNode, Peeked, QueueStatus};

/// The queues worth showing, by name, without the age of their oldest message.
pub(crate) fn statuses(state: &State) -> Vec<(QueueId, QueueStatus)> {
    let mut statuses: Vec<(QueueId, QueueStatus)> = state
        .queues
        .iter()
        .map(|(id, queue)| {
            let mut nodes: Vec<_> =
                state.subs.values().filter(|sub| sub.is_alive() && sub.queues.contains(id)).map(|sub| &sub.node).collect();
            nodes.sort();
            nodes.dedup();
            let status = QueueStatus {
                name: queue.name.clone(),
                ready: queue.ready,
                held: queue.held,
                scheduled: queue.scheduled,
                oldest: None,
                consumers: nodes.len() as u32,
                paused: queue.paused,
            };
            (*id, status)
        })
        .filter(|(_, status)| status.ready + status.held + status.scheduled > 0 || status.consumers > 0 || status.paused)
        .collect();
    statuses.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    statuses
}

/// The nodes that hold a lease, by name. The subscriptions of a node are one: the last to begin speaks for it, and the lease
/// that runs longest is its own.
pub(crate) fn nodes(state: &State) -> Vec<LiveNode> {
    let mut nodes: BTreeMap<NodeId, LiveNode> = BTreeMap::new();
    for (holder, sub) in state.subs.iter().filter(|(_, sub)| sub.is_alive()) {
        let lease_left = sub.lease.saturating_sub(sub.silent);
        let node = nodes.entry(sub.node.clone()).or_insert_with(|| LiveNode {
            node: sub.node.clone(),
            session: String::new(),
            queues: Vec::new(),
            lease_left,
            lease: sub.lease,
            about: sub.about.clone(),
        });
        node.session = holder.to_string();
        node.lease_left = node.lease_left.max(lease_left);
        node.lease = node.lease.max(sub.lease);
        node.about = sub.about.clone();
        node.queues.extend(sub.queues.iter().filter_map(|id| state.queues.get(id)).map(|queue| queue.name.clone()));
        node.queues.sort();
        node.queues.dedup();
    }
    nodes.into_values().collect()
}

/// When the oldest waiting message of a queue came: the first of one of the ten priorities.
pub(crate) fn oldest(txn: &ReadTransaction, queue: QueueId) -> Result<Option<Millis>, StoreError> {
    let ready = txn.open_table(READY)?;
    let mut oldest: Option<Millis> = None;
    for priority in 0..=MAX_PRIORITY {
        let Some(entry) = ready.range(priority_range(queue, priority))?.next() else { continue };
        let at = Header::read(entry?.1.value()).map(|header| header.at);
        oldest = oldest.into_iter().chain(at).min();
    }
    Ok(oldest)
}

/// The next messages of a queue: those that wait, then those that are scheduled, by time.
pub(crate) fn peek(txn: &ReadTransaction, name: &QueueName, limit: usize) -> Result<Vec<Peeked>, StoreError> {
    let Some(id) = txn.open_table(QUEUES)?.get(name.as_str())?.map(|row| record::decode::<QueueRow>(row.value())).transpose()? else {
        return Ok(Vec::new());
    };
    let mut peeked = Vec::new();
    for entry in txn.open_table(READY)?.range(ready_range(id.id))?.take(limit) {
        peeked.push(peeked_row(entry?.1.value(), None));
    }
    for entry in txn.open_table(SCHEDULED)?.range(due_range(id.id, Millis::MAX))?.take(limit - peeked.len()) {
        let (key, row) = entry?;
        peeked.push(peeked_row(row.value(), Some(due_of(&key.value()).0)));
    }
    Ok(peeked)
}

fn peeked_row(row: &[u8], due: Option<Millis>) -> Peeked {
    let attempts = Header::read(row).map_or(0, |header| header.attempts);
    Peeked { envelope: record::decode_envelope(row::message(row)), due, attempts }
}

/// Dead letters, newest first. A letter that cannot be read is one that says so.
pub(crate) fn dead(txn: &ReadTransaction, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
    let mut letters = Vec::new();
    for entry in txn.open_table(DEAD)?.iter()?.rev().take(limit) {
        let (seq, row) = entry?;
        let row: DeadRow = record::decode(row.value())?;
        letters.push(DeadLetter {
            id: letter_id(seq.value()),
            queue: row.queue,
            reason: row.reason,
            detail: row.detail,
            at: row.at,
            attempts: row.attempts,
            envelope: record::decode_envelope(&row.message),
        });
    }
    Ok(letters)
}

fn letter_id(seq: Seq) -> String {
    seq.to_string()
}

/// What is revoked.
pub(crate) fn revoked(txn: &ReadTransaction, forget_before: Millis) -> Result<Revoked, StoreError> {
    let mut revoked = Revoked::default();
    for entry in txn.open_table(REVOKED)?.iter()? {
        let row: RevokedRow = record::decode(entry?.1.value())?;
        if row.at >= forget_before {
            revoked.insert(row.order, row.at);
        }
    }
    Ok(revoked)
}

/// The records of results that have not expired.
pub(crate) fn read_results(
    txn: &ReadTransaction,
    ids: &[TaskId],
    options: &StoreOptions,
    now: Millis,
) -> Result<Vec<Option<ResultRecord>>, StoreError> {
    let results = txn.open_table(RESULTS)?;
    let mut records = Vec::with_capacity(ids.len());
    for id in ids {
        let row = results.get(id.as_str())?;
        let record = row.as_ref().and_then(|row| results::fresh(row.value(), options, now));
        records.push(record.map(record::decode_result).transpose()?);
    }
    Ok(records)
}

/// The record of a group that has not expired.
pub(crate) fn read_group(
    txn: &ReadTransaction,
    group: &GroupId,
    options: &StoreOptions,
    now: Millis,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row = txn.open_table(GROUPS)?.get(group.as_str())?;
    Ok(row.and_then(|row| results::fresh(row.value(), options, now).map(<[u8]>::to_vec)))
}
