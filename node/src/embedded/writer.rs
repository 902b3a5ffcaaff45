//! The writer: the one thread that changes the store.
//!
//! **What it owns.** The write side of the database and [`State`]. **Who sends to it.** Everybody, through the [`Inbox`].
//! **What it does.** It takes all that is waiting, carries it out in one transaction, hands messages out in the same one,
//! commits with one fsync, and only then tells anybody. While a commit is on its way to the disk the next batch gathers: the
//! more callers there are, the more share an fsync. It never waits for company.
//!
//! **What bounds it.** The inbox bounds a batch in bytes; schedule, purge and expiry move in slices.
//!
//! **When it dies.** A panic in one change undoes the transaction: its owner is refused, the others are told to ask again. An
//! error of the disk undoes it as well, everybody is told that the store is not available, and the file is opened anew, again
//! and again, until that works.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use redb::Database;

use super::{
    Shared, StoreOptions,
    error::StoreError,
    file,
    inbox::{Batch, Change, Request},
    state::{Looks, State},
    tables::Seq,
    tx::{Outbox, Tx},
};

/// How long the writer sleeps when nothing is due at all.
const LONG: Duration = Duration::from_secs(30);
/// How long it lets expired results lie at most, so that a sweep has something to do.
const SWEEP: Duration = Duration::from_secs(1);
/// How long it waits before it tries to open a file again that failed.
const REOPEN: Duration = Duration::from_millis(500);
/// From how many rows on a transaction is committed in the way that lets the next opening after a crash begin at once
/// (a second fsync), rather than by reading everything again (0.8 s for a million).
const QUICK_REPAIR_ROWS: u64 = 200_000;

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: State,
    looks: Looks,
    /// Handed out to subscriptions that were dropped meanwhile: to be given back.
    unclaimed: Vec<(Seq, u32)>,
    swept: Instant,
    tried: Instant,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, state: State) -> Self {
        Self { shared, state, looks: Looks::new(), unclaimed: Vec::new(), swept: Instant::now(), tried: Instant::now() }
    }

    /// Runs until the inbox is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            let Batch { requests, units, last } = self.shared.inbox.drain(self.sleep());
            let nothing = requests.is_empty();
            self.state.watch_leases(self.looks.since_last());
            self.turn(requests);
            self.shared.inbox.done(units);
            if last && nothing {
                return;
            }
        }
    }

    /// How long nothing happens by itself.
    fn sleep(&self) -> Duration {
        if !self.unclaimed.is_empty() {
            return Duration::ZERO;
        }
        let now = self.shared.now();
        let due = self.state.next_due().map(|due| Duration::from_millis(u64::try_from(due - now).unwrap_or(0)));
        let expiry = self.sweep_at(now).map(|wait| wait.max(SWEEP.saturating_sub(self.swept.elapsed())));
        [due, expiry, self.state.lease_timer()].into_iter().flatten().fold(LONG, Duration::min)
    }

    fn sweep_at(&self, now: i64) -> Option<Duration> {
        let limit = self.shared.options.oldest_result(now)?;
        Some(Duration::from_millis(u64::try_from(self.state.oldest_result?.saturating_sub(limit)).unwrap_or(0)))
    }

    fn must_sweep(&self, now: i64) -> bool {
        self.swept.elapsed() >= SWEEP && self.sweep_at(now).is_some_and(|wait| wait.is_zero())
    }

    fn turn(&mut self, requests: Vec<Request>) {
        let Some(db) = self.database() else {
            return refuse(requests, &StoreError::Unavailable("the store file failed and could not be opened again yet".to_owned()));
        };
        let (mut changes, mut looks) = (Vec::new(), Vec::new());
        for request in requests {
            match request {
                Request::Change(change) => changes.push(change),
                Request::Memory(look) => looks.push(look),
            }
        }
        // Demands come before the handing-out, looks of others see what is durable: both want no transaction.
        for look in looks {
            look(&mut self.state);
        }
        let now = self.shared.now();
        let pending = !changes.is_empty() || !self.unclaimed.is_empty() || self.state.can_serve() || self.state.is_due(now);
        if pending || !self.state.lapsed().is_empty() || self.must_sweep(now) {
            self.transact(&db, changes, now);
        }
    }

    fn transact(&mut self, db: &Database, mut changes: Vec<Box<dyn Change>>, now: i64) {
        let must_sweep = self.must_sweep(now);
        let mut outcomes = Vec::with_capacity(changes.len());
        let (state, options) = (&mut self.state, &self.shared.options);
        let chores = Chores { now, must_sweep, unclaimed: &self.unclaimed };
        let run = AssertUnwindSafe(|| commit(db, state, options, &chores, &mut changes, &mut outcomes));
        let done = catch_unwind(run).unwrap_or_else(|_| {
            // The change after the last outcome is the one that panicked; the others have a right to another try.
            outcomes.push(Err(StoreError::Refused("carrying it out panicked; the log says where".to_owned())));
            Err((StoreError::Unavailable("the transaction was undone because of another change in it".to_owned()), false))
        });
        if must_sweep {
            self.swept = Instant::now();
        }
        match done {
            Ok(outbox) => {
                self.unclaimed.clear();
                for (change, outcome) in changes.into_iter().zip(outcomes) {
                    change.answer(outcome);
                }
                self.deliver(outbox);
            }
            Err((error, disk)) => {
                let culprit = (!disk && outcomes.last().is_some_and(Result::is_err)).then(|| outcomes.len() - 1);
                self.undo(db, disk, &error);
                for (at, change) in changes.into_iter().enumerate() {
                    let own = culprit.filter(|culprit| *culprit == at).and_then(|_| outcomes.pop());
                    change.answer(own.unwrap_or_else(|| Err(error.clone())));
                }
            }
        }
    }

    /// Tells the world what has become durable.
    fn deliver(&mut self, outbox: Outbox) {
        for (holder, handed) in outbox.handed {
            if let Some(sub) = self.state.subs.get(&holder) {
                let left_behind = sub.end.put(handed);
                self.unclaimed.extend(left_behind.iter().map(|handed| (handed.seq, handed.attempt)));
            }
        }
        for holder in outbox.ended {
            if let Some(sub) = self.state.subs.remove(&holder) {
                sub.end.end();
            }
        }
        self.shared.hub.publish(outbox.stored);
    }

    fn undo(&mut self, db: &Database, disk: bool, error: &StoreError) {
        let reloaded = if disk { Err(error.clone()) } else { self.state.reload(db) };
        if let Err(error) = reloaded {
            tracing::error!(%error, "the store does not work, it will be opened again until it does");
            self.shared.set_database(None);
            self.tried = Instant::now();
        }
    }

    /// The database, opened again if it had failed.
    fn database(&mut self) -> Option<Arc<Database>> {
        if let Some(db) = self.shared.database() {
            return Some(db);
        }
        if self.tried.elapsed() < REOPEN {
            return None;
        }
        self.tried = Instant::now();
        let db = file::open(&self.shared.path, &self.shared.options).map_err(|error| error.to_string());
        match db.and_then(|db| self.state.reload(&db).map(|()| db).map_err(|error| error.to_string())) {
            Ok(db) => {
                tracing::info!(path = %self.shared.path.display(), "the store works again");
                let db = Arc::new(db);
                self.shared.set_database(Some(Arc::clone(&db)));
                Some(db)
            }
            Err(error) => {
                tracing::error!(error, "the store still does not work");
                None
            }
        }
    }
}

/// What a transaction does besides what was asked for.
struct Chores<'a> {
    now: i64,
    must_sweep: bool,
    unclaimed: &'a [(Seq, u32)],
}

/// One transaction. An error says whether the disk is to blame.
fn commit(
    db: &Database,
    state: &mut State,
    options: &StoreOptions,
    chores: &Chores<'_>,
    changes: &mut [Box<dyn Change>],
    outcomes: &mut Vec<Result<(), StoreError>>,
) -> Result<Outbox, (StoreError, bool)> {
    let disk = |error: StoreError| (error, true);
    let mut txn = db.begin_write().map_err(|error| disk(error.into()))?;
    let mut tx = Tx::open(&txn, state, options, chores.now).map_err(disk)?;
    for change in changes {
        let outcome = change.apply(&mut tx);
        if let Err(error @ StoreError::Unavailable(_)) = outcome {
            return Err(disk(error));
        }
        outcomes.push(outcome);
    }
    for (seq, attempt) in chores.unclaimed {
        tx.give_back(*seq, *attempt).map_err(disk)?;
    }
    tx.move_due().map_err(disk)?;
    tx.end_leases().map_err(disk)?;
    if chores.must_sweep {
        tx.sweep().map_err(disk)?;
    }
    tx.serve().map_err(disk)?;
    let quick = tx.rows().map_err(disk)? > QUICK_REPAIR_ROWS;
    let outbox = tx.finish().map_err(disk)?;
    txn.set_quick_repair(quick);
    txn.commit().map_err(|error| disk(error.into()))?;
    Ok(outbox)
}

fn refuse(requests: Vec<Request>, error: &StoreError) {
    for request in requests {
        if let Request::Change(change) = request {
            change.answer(Err(error.clone()));
        }
        // A look is dropped, which its waiter notices.
    }
}
