//! What the writer keeps in memory: counters of queues, who holds what, who waits for messages.
//!
//! Everything but the subscriptions can be read back from the tables, and is, when a transaction was undone. Its size grows
//! with the number of queues and of held messages (which the nodes' credits bound), never with what is waiting.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use redb::{ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};
use umbel_proto::{Millis, NodeId, QueueName};

use super::{
    error::StoreError,
    mailbox::Subscriber,
    record, results,
    row::Header,
    schedules::BeatLease,
    tables::{BOOT_KEY, EXPIRY, HELD, HolderId, META, QUEUE_KEY, QUEUES, QueueId, SCHEDULED, SEQ_KEY, Seq, due_of, due_range},
};
use crate::brokers::About;

/// The writer's memory.
#[derive(Default)]
pub(crate) struct State {
    /// The next number of a message.
    pub(crate) seq: Seq,
    /// How often the store has been opened.
    pub(crate) boot: u64,
    /// The queues by id.
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    /// Their ids by name.
    pub(crate) ids: HashMap<QueueName, QueueId>,
    /// What is held, by number of the message.
    pub(crate) held: HashMap<Seq, Holding>,
    /// Who takes messages. Not read back: it is only in memory.
    pub(crate) subs: BTreeMap<HolderId, Sub>,
    /// What was handed out in transactions whose end is not known or was bad. Nobody has it, though the file may say so. Not
    /// read back either.
    pub(crate) untold: Vec<(Seq, u32)>,
    /// Who leads beat. Not read back either.
    pub(crate) beat: BeatLease,
    /// When the oldest result was stored (or earlier).
    pub(crate) oldest_result: Option<Millis>,
    next_queue: QueueId,
    next_holder: HolderId,
}

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: QueueName,
    pub(crate) ready: u64,
    pub(crate) scheduled: u64,
    pub(crate) held: u64,
    pub(crate) paused: bool,
    /// When the first of the scheduled messages is due.
    pub(crate) next_due: Option<Millis>,
    /// Its row must be written with this transaction.
    pub(crate) changed: bool,
}

/// The row of a queue. What is held is counted from the held messages.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QueueRow {
    pub(crate) id: QueueId,
    pub(crate) ready: u64,
    pub(crate) scheduled: u64,
    pub(crate) paused: bool,
}

/// One held message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holding {
    pub(crate) queue: QueueId,
    pub(crate) attempt: u32,
    pub(crate) holder: HolderId,
}

/// One subscription.
pub(crate) struct Sub {
    pub(crate) node: NodeId,
    /// What the node says of itself.
    pub(crate) about: About,
    pub(crate) queues: Vec<QueueId>,
    pub(crate) lease: Duration,
    /// How many messages it waits for; 0 when it does not wait.
    pub(crate) demand: u32,
    /// With which of its queues the next handing-out begins.
    pub(crate) cursor: usize,
    /// Its own end: where messages are put, where it renews its lease.
    pub(crate) end: Subscriber,
    /// The last renewal seen, and for how long there has been no other.
    pub(crate) renewals: u64,
    pub(crate) silent: Duration,
}

impl Sub {
    /// Whether it wants messages, and is there to take them.
    pub(crate) fn waits(&self) -> bool {
        self.demand > 0 && !self.end.is_over()
    }

    /// Whether its lease runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.silent < self.lease
    }
}

impl State {
    /// The memory that belongs to what is in the tables.
    pub(crate) fn load(db: &redb::Database) -> Result<Self, StoreError> {
        let txn = db.begin_read()?;
        let mut state = Self::default();
        let meta = txn.open_table(META)?;
        let number = |key| -> Result<u64, StoreError> { Ok(meta.get(key)?.map_or(0, |value| value.value())) };
        state.seq = number(SEQ_KEY)?;
        state.boot = number(BOOT_KEY)?;
        state.next_queue = number(QUEUE_KEY)? as QueueId;
        state.next_holder = state.boot << 32;
        let scheduled = txn.open_table(SCHEDULED)?;
        for entry in txn.open_table(QUEUES)?.iter()? {
            let (name, row) = entry?;
            let QueueRow { id, ready, scheduled: waiting, paused } = record::decode(row.value())?;
            let name = QueueName::from(name.value());
            let first = if waiting == 0 { None } else { scheduled.range(due_range(id, Millis::MAX))?.next().transpose()? };
            let next_due = first.map(|(key, _)| due_of(&key.value()).0);
            state.ids.insert(name.clone(), id);
            let queue = Queue { name, ready, scheduled: waiting, held: 0, paused, next_due, changed: false };
            state.queues.insert(id, queue);
        }
        for entry in txn.open_table(HELD)?.iter()? {
            let (seq, row) = entry?;
            let header = Header::read(row.value()).unwrap_or_default();
            state.hold(seq.value(), Holding { queue: header.queue, attempt: header.attempts, holder: header.holder });
        }
        state.oldest_result = txn.open_table(EXPIRY)?.first()?.and_then(|(_, row)| results::stored_at(row.value()));
        Ok(state)
    }

    /// Reads everything back that a transaction that was undone may have changed.
    pub(crate) fn reload(&mut self, db: &redb::Database) -> Result<(), StoreError> {
        let fresh = Self::load(db)?;
        let (subs, untold) = (std::mem::take(&mut self.subs), std::mem::take(&mut self.untold));
        let beat = std::mem::take(&mut self.beat);
        *self = Self { subs, untold, beat, next_holder: self.next_holder, ..fresh };
        Ok(())
    }

    /// A number that was never given before.
    pub(crate) fn next_seq(&mut self) -> Seq {
        self.seq += 1;
        self.seq
    }

    pub(crate) fn next_holder(&mut self) -> HolderId {
        self.next_holder += 1;
        self.next_holder
    }

    /// The id of the next new queue, for the meta table.
    pub(crate) fn next_queue(&self) -> QueueId {
        self.next_queue
    }

    /// The id of a queue, which comes into being by being named.
    pub(crate) fn queue_id(&mut self, name: &QueueName) -> QueueId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.next_queue += 1;
        let (id, name) = (self.next_queue, name.clone());
        self.ids.insert(name.clone(), id);
        self.queues.insert(id, Queue { name, ready: 0, scheduled: 0, held: 0, paused: false, next_due: None, changed: true });
        id
    }

    /// The queue of that id, marked for writing.
    pub(crate) fn queue(&mut self, id: QueueId) -> &mut Queue {
        // A row that names a queue without a row can only come from damage; its messages are kept under a name that says so.
        let queue = self.queues.entry(id).or_insert_with(|| {
            let name = QueueName::from(format!("lost-queue-{id}"));
            Queue { name, ready: 0, scheduled: 0, held: 0, paused: false, next_due: None, changed: true }
        });
        queue.changed = true;
        queue
    }

    pub(crate) fn hold(&mut self, seq: Seq, holding: Holding) {
        self.queue(holding.queue).held += 1;
        self.held.insert(seq, holding);
    }

    pub(crate) fn let_go(&mut self, seq: Seq) {
        if let Some(holding) = self.held.remove(&seq) {
            self.queue(holding.queue).held -= 1;
        }
    }

    /// Whether the message is held at that attempt.
    pub(crate) fn is_held(&self, seq: Seq, attempt: u32) -> bool {
        self.held.get(&seq).is_some_and(|holding| holding.attempt == attempt)
    }

    /// Whether somebody waits for a message that is there.
    pub(crate) fn can_serve(&self) -> bool {
        self.subs.values().any(|sub| sub.waits() && sub.queues.iter().any(|id| self.is_available(*id)))
    }

    pub(crate) fn is_available(&self, id: QueueId) -> bool {
        self.queues.get(&id).is_some_and(|queue| queue.ready > 0 && !queue.paused)
    }

    /// Whether a scheduled message is due.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        self.next_due().is_some_and(|due| due <= now)
    }

    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.queues.values().filter_map(|queue| queue.next_due).min()
    }

    /// Looks who has renewed since the last look, `since` ago. Silence is only counted while the writer itself is awake, in
    /// steps of at most half a lease: a process that was stopped for an hour does not come back to leases that have ended.
    pub(crate) fn watch_leases(&mut self, since: Duration) {
        for sub in self.subs.values_mut() {
            let renewals = sub.end.renewals();
            if renewals == sub.renewals {
                sub.silent += since.min(sub.lease / 2);
            } else {
                (sub.renewals, sub.silent) = (renewals, Duration::ZERO);
            }
        }
    }

    /// Subscriptions whose leases have ended: of those, the ones that hold nothing, and all of a node of which none is left.
    pub(crate) fn lapsed(&self) -> Vec<HolderId> {
        let alive = |node: &NodeId| self.subs.values().any(|sub| sub.node == *node && sub.is_alive());
        let holds = |holder: HolderId| self.held.values().any(|holding| holding.holder == holder);
        let lapsed = |(id, sub): &(&HolderId, &Sub)| !sub.is_alive() && (!alive(&sub.node) || !holds(**id));
        self.subs.iter().filter(lapsed).map(|(id, _)| *id).collect()
    }

    /// How long the writer may sleep without missing the end of a lease.
    pub(crate) fn lease_timer(&self) -> Option<Duration> {
        self.subs.values().map(|sub| (sub.lease / 4).max(Duration::from_millis(5))).min()
    }
}

/// Measures the time between looks at the leases.
pub(crate) struct Looks(Instant);

impl Looks {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn since_last(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}
