//! Messages on their way: published, due, taken, released, given back.

use redb::ReadableTable;
use umbel_proto::{Millis, QueueName};
use umbel_scheduler::Release;

use super::{
    error::StoreError,
    mailbox::Handed,
    row::{self, Header},
    state::Holding,
    tables::{HolderId, MAX_PRIORITY, QueueId, Seq, due_key, due_of, due_range, ready_key, ready_range, ready_seq},
    tx::Tx,
};

/// How many messages of one queue become ready, or are purged, in one step.
const SLICE: usize = 4096;

/// How many bytes of messages of one queue are handed out at a time; a larger message goes alone.
const TAKE_BYTES: usize = 32 << 20;

/// A message to publish.
#[derive(Debug)]
pub(crate) struct NewMessage {
    pub(crate) queue: QueueName,
    pub(crate) priority: u8,
    pub(crate) due: Option<Millis>,
    /// The envelope's record.
    pub(crate) message: Vec<u8>,
}

impl Tx<'_> {
    /// Puts a message into its queue, or into the schedule.
    pub(crate) fn publish(&mut self, new: &NewMessage) -> Result<(), StoreError> {
        let queue = self.state.queue_id(&new.queue);
        let header = Header { queue, priority: new.priority.min(MAX_PRIORITY), at: self.now, ..Header::default() };
        let seq = self.state.next_seq();
        self.enter(seq, header, header.row(&new.message), new.due)
    }

    /// Puts a row where its header says; a message that was there before goes back to its old place, which is the front.
    fn enter(&mut self, seq: Seq, header: Header, row: Vec<u8>, due: Option<Millis>) -> Result<(), StoreError> {
        match due.filter(|due| *due > self.now) {
            Some(due) => {
                self.scheduled.insert(due_key(header.queue, due, seq), row.as_slice())?;
                let queue = self.state.queue(header.queue);
                queue.scheduled += 1;
                queue.next_due = Some(queue.next_due.map_or(due, |next| next.min(due)));
            }
            None => {
                self.ready.insert(ready_key(header.queue, header.priority, seq), row.as_slice())?;
                self.state.queue(header.queue).ready += 1;
            }
        }
        Ok(())
    }

    /// Makes ready what is due.
    pub(crate) fn move_due(&mut self) -> Result<(), StoreError> {
        let now = self.now;
        let due: Vec<QueueId> =
            self.state.queues.iter().filter(|(_, queue)| queue.next_due.is_some_and(|due| due <= now)).map(|(id, _)| *id).collect();
        for id in due {
            let mut rows = Vec::new();
            for entry in self.scheduled.range(due_range(id, now))?.take(SLICE) {
                let (key, row) = entry?;
                rows.push((key.value(), row.value().to_vec()));
            }
            for (key, row) in rows {
                self.scheduled.remove(key)?;
                let header = Header::read(&row).unwrap_or_default();
                self.ready.insert(ready_key(id, header.priority, due_of(&key).1), row.as_slice())?;
                let queue = self.state.queue(id);
                queue.scheduled -= 1;
                queue.ready += 1;
            }
            let next = self.scheduled.range(due_range(id, Millis::MAX))?.next().transpose()?;
            self.state.queue(id).next_due = next.map(|(key, _)| due_of(&key.value()).0);
        }
        Ok(())
    }

    /// Takes the next `count` messages of a queue for `holder`.
    pub(crate) fn take(&mut self, id: QueueId, count: usize, holder: HolderId) -> Result<Vec<Handed>, StoreError> {
        let mut taken = Vec::new();
        let mut room = TAKE_BYTES;
        for entry in self.ready.range(ready_range(id))?.take(count) {
            let (key, row) = entry?;
            if row.value().len() > room && !taken.is_empty() {
                room = 0;
                break;
            }
            room = room.saturating_sub(row.value().len());
            taken.push((key.value(), row.value().to_vec()));
        }
        let name = self.state.queue(id).name.clone();
        let mut handed = Vec::with_capacity(taken.len());
        for (key, mut row) in taken {
            self.ready.remove(key)?;
            let seq = ready_seq(&key);
            let mut header = Header::read(&row).unwrap_or(Header { queue: id, ..Header::default() });
            header.attempts += 1;
            header.holder = holder;
            header.put(&mut row);
            self.held.insert(seq, row.as_slice())?;
            self.state.queue(id).ready -= 1;
            self.state.hold(seq, Holding { queue: id, attempt: header.attempts, holder });
            self.state.untold.push((seq, header.attempts));
            handed.push(Handed { seq, queue: name.clone(), attempt: header.attempts, crashes: header.crashes, lost: header.lost, row });
        }
        if handed.len() < count && room > 0 {
            // The counter says what the table does not hold. It must not make the writer try again for ever.
            tracing::error!(queue = %name, "the store's counter of waiting messages was wrong and has been corrected");
            self.state.queue(id).ready = 0;
        }
        Ok(handed)
    }

    /// Pays for one delivery; `false` when it is not held at that attempt.
    pub(crate) fn release(&mut self, seq: Seq, attempt: u32, release: &Release) -> Result<bool, StoreError> {
        if !self.state.is_held(seq, attempt) {
            return Ok(false);
        }
        match release {
            Release::Ack => {
                self.held.remove(seq)?;
                self.state.let_go(seq);
            }
            Release::Requeue { due, crashes } => {
                let Some((mut header, mut row)) = self.unhold(seq)? else { return Ok(false) };
                header.crashes = *crashes;
                header.begun = false;
                header.put(&mut row);
                self.enter(seq, header, row, *due)?;
            }
            Release::Dead { reason, detail } => {
                let Some((header, row)) = self.unhold(seq)? else { return Ok(false) };
                self.bury(&header, row::message(&row), *reason, detail)?;
            }
            Release::Begin => {
                let Some(mut row) = self.held.get(seq)?.map(|row| row.value().to_vec()) else { return Ok(false) };
                let header = Header { begun: true, ..Header::read(&row).unwrap_or_default() };
                header.put(&mut row);
                self.held.insert(seq, row.as_slice())?;
            }
        }
        Ok(true)
    }

    /// Gives a delivery back to the front of its queue because nobody is there any more who would settle it; one that had
    /// begun comes back marked as lost.
    pub(crate) fn give_back(&mut self, seq: Seq, attempt: u32) -> Result<(), StoreError> {
        if !self.state.is_held(seq, attempt) {
            return Ok(());
        }
        if let Some((mut header, mut row)) = self.unhold(seq)? {
            header.lost |= header.begun;
            header.begun = false;
            header.put(&mut row);
            self.enter(seq, header, row, None)?;
        }
        Ok(())
    }

    /// Gives everything back that `holder` holds.
    pub(crate) fn give_all_back(&mut self, holder: HolderId) -> Result<u64, StoreError> {
        let held: Vec<(Seq, u32)> = self.held_where(|holding| holding.holder == holder);
        for (seq, attempt) in &held {
            self.give_back(*seq, *attempt)?;
        }
        Ok(held.len() as u64)
    }

    /// Gives everything back that is held by subscriptions that are no more. At open these are all: the lock on the file
    /// proves that the process that held is dead.
    pub(crate) fn give_orphans_back(&mut self) -> Result<u64, StoreError> {
        let subs: Vec<HolderId> = self.state.subs.keys().copied().collect();
        let held = self.held_where(|holding| !subs.contains(&holding.holder));
        for (seq, attempt) in &held {
            self.give_back(*seq, *attempt)?;
        }
        Ok(held.len() as u64)
    }

    /// Gives back what an earlier transaction handed out to nobody: it failed, and yet the file may say that it did not.
    pub(crate) fn give_untold_back(&mut self) -> Result<(), StoreError> {
        for at in 0..self.state.untold.len() {
            let (seq, attempt) = self.state.untold[at];
            self.give_back(seq, attempt)?;
        }
        Ok(())
    }

    fn held_where(&self, wanted: impl Fn(&Holding) -> bool) -> Vec<(Seq, u32)> {
        let held = self.state.held.iter().filter(|(_, holding)| wanted(holding));
        held.map(|(seq, holding)| (*seq, holding.attempt)).collect()
    }

    /// Takes a message out of the held ones, its holder wiped out.
    fn unhold(&mut self, seq: Seq) -> Result<Option<(Header, Vec<u8>)>, StoreError> {
        let row = self.held.remove(seq)?.map(|row| row.value().to_vec());
        self.state.let_go(seq);
        Ok(row.map(|mut row| {
            let header = Header { holder: 0, ..Header::read(&row).unwrap_or_default() };
            header.put(&mut row);
            (header, row)
        }))
    }

    /// Removes up to a slice of what waits in a queue or is scheduled for it, and says how many that were; 0 at the end.
    pub(crate) fn purge(&mut self, name: &QueueName) -> Result<u64, StoreError> {
        let Some(id) = self.state.ids.get(name).copied() else { return Ok(0) };
        let mut ready = Vec::new();
        for entry in self.ready.range(ready_range(id))?.take(SLICE) {
            ready.push(entry?.0.value());
        }
        let mut scheduled = Vec::new();
        for entry in self.scheduled.range(due_range(id, Millis::MAX))?.take(SLICE - ready.len()) {
            scheduled.push(entry?.0.value());
        }
        for key in &ready {
            self.ready.remove(key)?;
        }
        for key in &scheduled {
            self.scheduled.remove(key)?;
        }
        let next = self.scheduled.range(due_range(id, Millis::MAX))?.next().transpose()?;
        let queue = self.state.queue(id);
        queue.ready -= ready.len() as u64;
        queue.scheduled -= scheduled.len() as u64;
        queue.next_due = next.map(|(key, _)| due_of(&key.value()).0);
        Ok((ready.len() + scheduled.len()) as u64)
    }
}
