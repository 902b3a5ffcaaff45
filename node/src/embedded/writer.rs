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
    swept: Instant,
    tried: Instant,
    /// The last transaction was undone: nothing is tried again at once by itself.
    failed: bool,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, state: State) -> Self {
        Self { shared, state, looks: Looks::new(), swept: Instant::now(), tried: Instant::now(), failed: false }
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
        if self.failed {
            return REOPEN;
        }
        if !self.state.untold.is_empty() {
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
        let pending = !changes.is_empty() || !self.state.untold.is_empty() || self.state.can_serve() || self.state.is_due(now);
        if pending || !self.state.lapsed().is_empty() || self.must_sweep(now) {
            self.transact(&db, changes, now);
        }
    }

    fn transact(&mut self, db: &Database, mut changes: Vec<Box<dyn Change>>, now: i64) {
        let must_sweep = self.must_sweep(now);
        let mut outcomes = Vec::with_capacity(changes.len());
        let (state, options) = (&mut self.state, &self.shared.options);
        let run = AssertUnwindSafe(|| commit(db, state, options, now, must_sweep, &mut changes, &mut outcomes));
        // Changes that panic are caught where they are carried out; a panic here is one of the store's own.
        let done = catch_unwind(run).unwrap_or(Err(Undone::Panic));
        if must_sweep {
            self.swept = Instant::now();
        }
        self.failed = done.is_err();
        match done {
            Ok(outbox) => {
                self.state.untold.clear();
                for (change, outcome) in changes.into_iter().zip(outcomes) {
                    change.answer(outcome);
                }
                self.deliver(outbox);
            }
            Err(undone) => {
                let error = undone.told();
                self.undo(db, &undone, &error);
                for (at, change) in changes.into_iter().enumerate() {
                    let own = matches!(undone, Undone::Change(culprit) if culprit == at);
                    change.answer(Err(if own { StoreError::Refused("it panicked; the log says where".to_owned()) } else { error.clone() }));
                }
            }
        }
    }

    /// Tells the world what has become durable.
    fn deliver(&mut self, outbox: Outbox) {
        for (holder, handed) in outbox.handed {
            let refused = self.state.subs.get(&holder).map(|sub| sub.end.put(handed));
            // He has gone in the meantime; the next transaction, which is the next thing to happen, gives them back.
            self.state.untold.extend(refused.into_iter().flatten().map(|handed| (handed.seq, handed.attempt)));
        }
        for holder in outbox.ended {
            if let Some(sub) = self.state.subs.remove(&holder) {
                self.state.untold.extend(sub.end.end().into_iter().map(|handed| (handed.seq, handed.attempt)));
            }
        }
        self.shared.hub.publish(outbox.stored);
    }

    fn undo(&mut self, db: &Database, undone: &Undone, error: &StoreError) {
        // Whoever waits for messages must ask again, for the transaction may have counted him as served.
        self.state.subs.values().for_each(|sub| sub.end.knock());
        let reloaded = if matches!(undone, Undone::Disk(_)) { Err(error.clone()) } else { self.state.reload(db) };
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
                self.failed = false;
                Some(db)
            }
            Err(error) => {
                tracing::error!(error, "the store still does not work");
                None
            }
        }
    }
}

/// Why a transaction was undone.
enum Undone {
    /// This change panicked.
    Change(usize),
    /// The store itself panicked.
    Panic,
    /// The disk failed.
    Disk(StoreError),
}

impl Undone {
    /// What those are told who are not to blame.
    fn told(&self) -> StoreError {
        match self {
            Self::Change(_) => StoreError::Unavailable("the transaction was undone because of another change in it".to_owned()),
            Self::Panic => StoreError::Unavailable("the transaction panicked; the log says where".to_owned()),
            Self::Disk(error) => error.clone(),
        }
    }
}

impl<E: Into<StoreError>> From<E> for Undone {
    fn from(error: E) -> Self {
        Self::Disk(error.into())
    }
}

/// One transaction: the changes, what time brings, handing out, and the commit.
fn commit(
    db: &Database,
    state: &mut State,
    options: &StoreOptions,
    now: i64,
    must_sweep: bool,
    changes: &mut [Box<dyn Change>],
    outcomes: &mut Vec<Result<(), StoreError>>,
) -> Result<Outbox, Undone> {
    let mut txn = db.begin_write()?;
    let mut tx = Tx::open(&txn, state, options, now)?;
    tx.give_untold_back()?;
    for (at, change) in changes.iter_mut().enumerate() {
        match catch_unwind(AssertUnwindSafe(|| change.apply(&mut tx))) {
            Ok(Err(error @ StoreError::Unavailable(_))) => return Err(Undone::Disk(error)),
            Ok(outcome) => outcomes.push(outcome),
            Err(_) => {
                drop(tx);
                txn.abort()?;
                return Err(Undone::Change(at));
            }
        }
    }
    tx.move_due()?;
    tx.end_leases()?;
    if must_sweep {
        tx.sweep()?;
    }
    tx.serve()?;
    let quick = tx.rows()? > QUICK_REPAIR_ROWS;
    let outbox = tx.finish()?;
    txn.set_quick_repair(quick);
    txn.commit()?;
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
