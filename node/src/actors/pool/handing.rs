//! Tasks that a slot is handed behind the one it runs, so that it begins the next without waiting for the pool.
//!
//! Only where tasks are short: a slot is handed as many as it takes, going by how long tasks took of late, within [`WITHIN`], and none
//! while its own has run for longer than that. What has not begun comes back: by itself, when the task before it takes long; because
//! it is called back, when another slot has nothing to do or it is not to run any more; or because its process has died. It
//! comes back to the front, in its order. Time limits, the fact of the start and the state STARTED count from its beginning, not from here.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use umbel_proto::{Outcome, TaskId, TimeLimit};
use umbel_scheduler::{Acknowledge, admission::Refusal};

use super::{
    super::{
        Admitted,
        aggregator::{AggregatorMsg, Ended},
        cast,
        held::Which,
        slot::Handing,
    },
    State,
    runs::{EndedBy, Work},
    still_runs,
};
use crate::{
    clock,
    executors::{HAND_MAX, Order},
};

/// How much work a slot is handed. It is what a task may have to wait for another slot's, so not much; and more than a trip to the
/// pool and back takes, which is about a millisecond while all processors are busy.
const WITHIN: Duration = Duration::from_millis(5);

/// A task that is a job already, and has not begun.
pub(super) struct Ready {
    pub(super) run: u64,
    pub(super) task: Admitted,
    pub(super) orders: watch::Sender<Order>,
    pub(super) limits: TimeLimit,
}

/// What one slot was handed.
#[derive(Default)]
pub(super) struct Hand {
    /// Whether its slot takes any.
    takes: bool,
    /// Leads to its slot, while that works.
    to: Option<mpsc::Sender<Handing>>,
    /// What has not begun, as far as is known here, in its order, each with the signal it is to be ended by.
    ready: VecDeque<(Ready, Option<EndedBy>)>,
    /// What it had has come back, or is about to: it gets no more until another task has begun.
    closed: bool,
}

impl Hand {
    pub(super) fn new(takes: bool) -> Self {
        Self { takes, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = &Admitted> {
        self.ready.iter().map(|(ready, _)| &ready.task)
    }

    /// How many of them are acknowledged already.
    pub(super) fn begun(&self) -> usize {
        self.tasks().filter(|task| task.claim.begun).count()
    }

    /// Its slot begins to work: the end that it is handed tasks by.
    pub(super) fn open(&mut self) -> Option<mpsc::Receiver<Handing>> {
        if !self.takes {
            return None;
        }
        // Room for a word to return beside as many tasks as there may be.
        let (to, handing) = mpsc::channel(HAND_MAX + 1);
        (self.to, self.closed) = (Some(to), false);
        Some(handing)
    }

    /// Has everything come back that has not begun.
    fn call_back(&mut self) {
        if !self.closed && !self.ready.is_empty() {
            self.closed = true;
            // A slot that is done gives back what is left in any case.
            let _ = self.to.as_ref().map(|to| to.try_send(Handing::Return));
        }
    }
}

impl State {
    /// How many tasks slots were handed.
    pub(super) fn handed(&self) -> usize {
        if self.takes_ahead { self.seats.iter().map(|seat| seat.hand.ready.len()).sum() } else { 0 }
    }

    /// Hands busy slots what they take within [`WITHIN`]; those that have the least first.
    pub(super) fn hand_ahead(&mut self) {
        if !self.takes_ahead {
            return;
        }
        let each = self.ahead.within(WITHIN).min(HAND_MAX);
        if each == 0 {
            return;
        }
        if !self.idle.is_empty() {
            // It has nothing to do, and others have too much.
            if self.waiting.is_empty() && self.ahead.is_empty() {
                self.seats.iter_mut().max_by_key(|seat| seat.hand.ready.len()).into_iter().for_each(|seat| seat.hand.call_back());
            }
            return;
        }
        // One look at the clock for all seats: this is asked after each task.
        let now = Instant::now();
        while let Some(index) = self.least_handed(now, each) {
            let Some(task) = self.next_ahead() else { return };
            let (ready, numbered) = self.make_ready(task);
            let hand = &mut self.seats[index].hand;
            match hand.to.as_ref().map(|to| to.try_send(Handing::Job(numbered))) {
                Some(Ok(())) => hand.ready.push_back((ready, None)),
                // Its slot is done, and is about to say so.
                _ => {
                    hand.closed = true;
                    self.put_back(ready.task);
                }
            }
        }
    }

    /// The slot with the fewest tasks behind the one it runs, of those that have room.
    fn least_handed(&self, now: Instant, each: usize) -> Option<usize> {
        let takes = |index: &usize| {
            let seat = &self.seats[*index];
            let short = || matches!(&seat.work, Work::Running(running) if running.is_fresh(now, WITHIN));
            seat.hand.to.is_some() && !seat.hand.closed && !seat.retired && !seat.renew && seat.hand.ready.len() < each && short()
        };
        (0..self.seats.len()).filter(takes).min_by_key(|index| self.seats[*index].hand.ready.len())
    }

    /// The next task that may begin without a word to anybody.
    fn next_ahead(&mut self) -> Option<Admitted> {
        if let Some(task) = self.ahead.pop() {
            return Some(task);
        }
        // Those that are being acknowledged come before what waits.
        while self.ahead.asked() == 0 {
            let free = |task: &Admitted| task.place.is_none() && (task.claim.begun || task.spec.acknowledge != Acknowledge::Early);
            if !self.waiting.front().is_some_and(free) {
                return None;
            }
            let task = self.waiting.pop_front()?;
            match task.invocation.headers.expires.as_ref().map(|_| still_runs(&self.shared, &self.revoked, &task, clock::now())) {
                Some(Err(refusal)) => self.refuse(task, refusal),
                Some(Ok(())) | None => return Some(task),
            }
        }
        None
    }

    /// A task that was handed to a slot has begun there.
    pub(super) fn began_by_itself(&mut self, index: usize, run: u64) {
        let hand = &mut self.seats[index].hand;
        let Some(place) = hand.ready.iter().position(|(ready, _)| ready.run == run) else { return };
        let Some((ready, told)) = hand.ready.remove(place) else { return };
        // What is called back stays so until the slot has answered.
        self.start(index, ready);
        match told {
            Some(why) => self.terminate(index, why),
            None => self.terminate_revoked(index),
        }
    }

    /// Tasks that were handed to a slot have not begun there.
    pub(super) fn returned(&mut self, index: usize, runs: &[u64]) {
        self.seats[index].hand.closed = true;
        let ready = std::mem::take(&mut self.seats[index].hand.ready);
        let (back, stays) = ready.into_iter().partition(|(ready, _)| runs.contains(&ready.run));
        self.seats[index].hand.ready = stays;
        self.take_back(back);
    }

    /// The work of a slot is done: what it has not looked at comes back.
    pub(super) fn put_hand_back(&mut self, index: usize) {
        let hand = &mut self.seats[index].hand;
        hand.to = None;
        let back = std::mem::take(&mut hand.ready);
        self.take_back(back);
    }

    fn take_back(&mut self, back: VecDeque<(Ready, Option<EndedBy>)>) {
        for (ready, told) in back.into_iter().rev() {
            if told.is_some() || self.revoked.covers(&ready.task.invocation) {
                self.refuse(ready.task, Refusal::Revoked);
            } else {
                self.put_back(ready.task);
            }
        }
    }

    /// To the front, or to its queue if nothing more is to begin here.
    fn put_back(&mut self, task: Admitted) {
        if task.claim.begun {
            self.ahead.put_back(task);
            self.watch_ahead();
        } else if !self.draining {
            self.waiting.push_front(task);
        }
    }

    /// The slot has died, and what it had begun by then nobody knows. What is acknowledged late runs again; of the others
    /// none may, and their loss is recorded.
    pub(super) fn lose_hand(&mut self, index: usize, detail: &str) {
        self.seats[index].hand.to = None;
        for (ready, _) in std::mem::take(&mut self.seats[index].hand.ready).into_iter().rev() {
            if ready.task.claim.begun {
                let outcome = Outcome::WorkerLost { detail: detail.to_owned() };
                cast(&self.aggregator, AggregatorMsg::Ended(Box::new(Ended { task: ready.task, outcome, runtime: Duration::ZERO })));
            } else {
                self.put_back(ready.task);
            }
        }
    }

    /// Calls back those that are named (those that are revoked, if none are), and says which they are. What has begun all the same
    /// is ended like all that run.
    pub(super) fn call_back_refused(&mut self, which: Option<(&Which, i32)>) -> Vec<TaskId> {
        let mut named = Vec::new();
        for seat in &mut self.seats {
            let mut called = false;
            for (ready, told) in &mut seat.hand.ready {
                let invocation = &ready.task.invocation;
                match which {
                    Some((which, signal)) if which.names(invocation) => {
                        *told = Some(EndedBy::Revoke { signal: Some(signal) });
                        named.push(invocation.headers.id.clone());
                        called = true;
                    }
                    Some(_) => {}
                    None => called |= self.revoked.covers(invocation),
                }
            }
            if called {
                seat.hand.call_back();
            }
        }
        named
    }
}
