//! One transaction of the writer. Its methods are spread over [`super::messages`], [`super::serving`], [`super::results`],
//! [`super::chords`] and [`super::letters`].

use redb::{Table, WriteTransaction};
use umbel_proto::{Millis, ResultRecord};

use super::{
    StoreOptions,
    error::StoreError,
    mailbox::Handed,
    record,
    state::{QueueRow, State},
    tables::{DueKey, EXPIRY, HELD, HolderId, META, QUEUE_KEY, QUEUES, READY, RESULTS, ReadyKey, SCHEDULED, SEQ_KEY, Seq},
};

/// An open transaction. The tables that every task touches are open, the others are opened where they are needed.
pub(crate) struct Tx<'t> {
    pub(crate) txn: &'t WriteTransaction,
    pub(crate) state: &'t mut State,
    pub(crate) options: &'t StoreOptions,
    pub(crate) now: Millis,
    pub(crate) ready: Table<'t, ReadyKey, &'static [u8]>,
    pub(crate) scheduled: Table<'t, DueKey, &'static [u8]>,
    pub(crate) held: Table<'t, Seq, &'static [u8]>,
    pub(crate) results: Table<'t, &'static str, &'static [u8]>,
    pub(crate) expiry: Table<'t, Seq, &'static [u8]>,
    pub(crate) outbox: Outbox,
    saved_seq: Seq,
}

/// What leaves the writer once the transaction is durable.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Messages that were handed out.
    pub(crate) handed: Vec<(HolderId, Vec<Handed>)>,
    /// Subscriptions whose lease has ended.
    pub(crate) ended: Vec<HolderId>,
    /// Results that were stored.
    pub(crate) stored: Vec<ResultRecord>,
}

impl<'t> Tx<'t> {
    pub(crate) fn open(
        txn: &'t WriteTransaction,
        state: &'t mut State,
        options: &'t StoreOptions,
        now: Millis,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            ready: txn.open_table(READY)?,
            scheduled: txn.open_table(SCHEDULED)?,
            held: txn.open_table(HELD)?,
            results: txn.open_table(RESULTS)?,
            expiry: txn.open_table(EXPIRY)?,
            outbox: Outbox::default(),
            saved_seq: state.seq,
            txn,
            state,
            options,
            now,
        })
    }

    /// Writes the counters; the last step before the commit.
    pub(crate) fn finish(self) -> Result<Outbox, StoreError> {
        let mut meta = self.txn.open_table(META)?;
        if self.state.seq != self.saved_seq {
            meta.insert(SEQ_KEY, self.state.seq)?;
        }
        if self.state.queues.values().any(|queue| queue.changed) {
            meta.insert(QUEUE_KEY, u64::from(self.state.next_queue()))?;
            let mut queues = self.txn.open_table(QUEUES)?;
            for (id, queue) in self.state.queues.iter_mut().filter(|(_, queue)| queue.changed) {
                let row = QueueRow { id: *id, ready: queue.ready, scheduled: queue.scheduled, paused: queue.paused };
                queues.insert(queue.name.as_str(), record::encode(&row)?.as_slice())?;
                queue.changed = false;
            }
        }
        Ok(self.outbox)
    }

    /// Rows that a crash would have to read again to prove them sound: the longer, the longer the next opening.
    pub(crate) fn rows(&self) -> Result<u64, StoreError> {
        use redb::ReadableTableMetadata;
        Ok(self.ready.len()? + self.scheduled.len()? + self.results.len()?)
    }
}
