//! Handing out: who gets which messages, and what happens when a lease ends.
//!
//! Messages are handed out at the end of every transaction, so a message can be published and taken in one: one fsync lies
//! between its sender and its start.

use super::{
    error::StoreError,
    mailbox::Handed,
    state::Sub,
    tables::{HolderId, QueueId},
    tx::Tx,
};

impl Tx<'_> {
    /// Gives everybody who waits what there is for him.
    pub(crate) fn serve(&mut self) -> Result<(), StoreError> {
        let waiting: Vec<HolderId> = self.state.subs.iter().filter(|(_, sub)| sub.waits()).map(|(id, _)| *id).collect();
        for holder in waiting {
            let Some(sub) = self.state.subs.get(&holder) else { continue };
            let (shares, cursor) = shares(sub, |id| {
                let queue = self.state.queues.get(&id);
                queue.filter(|queue| !queue.paused).map_or(0, |queue| queue.ready)
            });
            let mut lists = Vec::with_capacity(shares.len());
            for (queue, share) in shares {
                lists.push(self.take(queue, share, holder)?);
            }
            let handed = interleave(lists);
            if handed.is_empty() {
                continue;
            }
            if let Some(sub) = self.state.subs.get_mut(&holder) {
                (sub.demand, sub.cursor) = (0, cursor);
            }
            self.outbox.handed.push((holder, handed));
        }
        Ok(())
    }

    /// Gives back what is held under leases that have ended, and forgets who held it.
    pub(crate) fn end_leases(&mut self) -> Result<(), StoreError> {
        for holder in self.state.lapsed() {
            let count = self.give_all_back(holder)?;
            if let Some(sub) = self.state.subs.get_mut(&holder) {
                // Not to be served again in this very transaction.
                sub.demand = 0;
                if count > 0 {
                    tracing::warn!(node = %sub.node, count, "a node's lease has ended, its messages are back in their queues");
                }
            }
            self.outbox.ended.push(holder);
        }
        Ok(())
    }
}

/// How many messages a subscription gets from which of its queues, and where the next handing-out begins: equal shares, what
/// one queue cannot fill goes to the others, and the odd ones go round.
fn shares(sub: &Sub, available: impl Fn(QueueId) -> u64) -> (Vec<(QueueId, usize)>, usize) {
    let count = sub.queues.len();
    let mut left: Vec<(usize, u64)> =
        (0..count).map(|at| (sub.cursor + at) % count).map(|at| (at, available(sub.queues[at]))).filter(|(_, ready)| *ready > 0).collect();
    let mut shares: Vec<(usize, usize)> = left.iter().map(|(at, _)| (*at, 0)).collect();
    let (mut room, mut cursor) = (u64::from(sub.demand), sub.cursor);
    while room > 0 && left.iter().any(|(_, ready)| *ready > 0) {
        let open = left.iter().filter(|(_, ready)| *ready > 0).count() as u64;
        let share = (room / open).max(1);
        for ((at, ready), (_, got)) in left.iter_mut().zip(&mut shares) {
            let part = share.min(*ready).min(room);
            if part > 0 {
                *ready -= part;
                *got += part as usize;
                room -= part;
                cursor = (*at + 1) % count;
            }
        }
    }
    (shares.into_iter().filter(|(_, got)| *got > 0).map(|(at, got)| (sub.queues[at], got)).collect(), cursor)
}

/// One of each list in turn.
fn interleave(lists: Vec<Vec<Handed>>) -> Vec<Handed> {
    if lists.len() == 1 {
        return lists.into_iter().flatten().collect();
    }
    let mut handed = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    while !lists.is_empty() {
        lists.retain_mut(|list| list.next().map(|message| handed.push(message)).is_some());
    }
    handed
}
