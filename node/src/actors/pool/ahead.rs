//! Early acknowledgements that are asked for before a slot is free.
//!
//! A task that is acknowledged early may start only when the broker has heard of it, and a slot that waited for that with each task
//! would wait more than it works, as most tasks are short. So the next few are acknowledged while their slots are busy yet. Whoever
//! dies meanwhile loses them to a recorded failure, as it does those that run; so there are only as many as the slots, going by how
//! long tasks took of late, take within [`WITHIN`]. Where tasks take longer than that, none is; a slot whose task has run for longer
//! counts for nothing; and what has not started within [`STALE`] all the same goes back to its queue, as if it had not begun.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use umbel_proto::TaskId;
use umbel_scheduler::{Acknowledge, admission::Refusal};

use super::{
    super::{
        Admitted,
        aggregator::{AggregatorMsg, Began, Start},
        cast,
        held::Which,
    },
    GIVEN_BACK_MAX, PoolMsg, State,
    runs::Work,
    still_runs,
};
use crate::{clock, executors::HAND_MAX, facts::Fact};

/// How soon a task is to start that is acknowledged before a slot is free.
const WITHIN: Duration = Duration::from_millis(20);

/// How long one that is acknowledged waits for a slot before it goes back to its queue: others may begin it, and it is in no danger there.
const STALE: Duration = Duration::from_millis(100);

/// The most of them for each slot, with those that it was handed: enough to share one trip to the broker while it runs others.
const EACH: usize = 2 * HAND_MAX;

/// The tasks, and how long others took.
#[derive(Default)]
pub(super) struct Ahead {
    /// Acknowledged, in their order, and since when.
    ready: VecDeque<(Admitted, Instant)>,
    /// When they are looked through for those that have waited too long.
    look: Option<Instant>,
    /// Those whose acknowledgement is under way, by the number it was asked for with, and whether they were told to end.
    asked: BTreeMap<u64, (Admitted, bool)>,
    asked_so_far: u64,
    /// A moving average; `None` until a task has ended.
    runtime: Option<Duration>,
}

impl Ahead {
    /// The next one that may start.
    pub(super) fn pop(&mut self) -> Option<Admitted> {
        self.ready.pop_front().map(|(task, _)| task)
    }

    /// How many acknowledgements are under way.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.asked.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = &Admitted> {
        self.ready.iter().map(|(task, _)| task).chain(self.asked.values().map(|(task, _)| task))
    }

    /// A task took so long. One that took long counts at once, those that were short only in numbers.
    pub(super) fn took(&mut self, runtime: Duration) {
        self.runtime = Some(match self.runtime {
            Some(average) if average > runtime => (average * 7 + runtime) / 8,
            _ => runtime,
        });
    }

    /// Puts one back that has not begun after all.
    pub(super) fn put_back(&mut self, task: Admitted) {
        self.ready.push_front((task, Instant::now()));
    }

    /// How many tasks a slot gets through within `time`, going by those that have ended.
    pub(super) fn within(&self, time: Duration) -> usize {
        let Some(runtime) = self.runtime else { return 0 };
        usize::try_from(time.as_micros() / runtime.as_micros().max(1)).unwrap_or(usize::MAX)
    }

    /// How many there may be with so many slots.
    fn room(&self, slots: usize) -> usize {
        slots * self.within(WITHIN).min(EACH)
    }
}

impl State {
    /// Asks for as many acknowledgements as there is room for.
    pub(super) fn look_ahead(&mut self) {
        // What need not be acknowledged, or has to wait for a limit, keeps its place, and so do those behind it. What has been given
        // back often is not given back once more.
        let early = |task: &Admitted| {
            let often = task.claim.debt.held().attempt > GIVEN_BACK_MAX;
            task.spec.acknowledge == Acknowledge::Early && !task.claim.begun && task.place.is_none() && !often
        };
        // Before the seats are looked at, as this is asked after each task.
        if self.draining || self.ahead.room(1) == 0 || !self.waiting.front().is_some_and(early) {
            return;
        }
        let now = Instant::now();
        let soon_free = |work: &Work| !matches!(work, Work::Running(running) if !running.is_fresh(now, WITHIN));
        let slots = self.seats.iter().filter(|seat| !seat.retired && soon_free(&seat.work)).count();
        let room = self.ahead.room(slots);
        let begun = self.seats.iter().map(|seat| seat.hand.begun()).sum::<usize>();
        while self.ahead.len() + begun < room {
            if !self.waiting.front().is_some_and(early) {
                return;
            }
            let Some(task) = self.waiting.pop_front() else { return };
            if task.invocation.headers.expires.is_some()
                && let Err(refusal) = still_runs(&self.shared, &self.revoked, &task, clock::now())
            {
                self.refuse(task, refusal);
                continue;
            }
            self.ahead.asked_so_far += 1;
            let (number, pool) = (self.ahead.asked_so_far, self.myself.clone());
            let reply = Box::new(move |began| cast(&pool, PoolMsg::BegunAhead { number, began }));
            cast(&self.aggregator, AggregatorMsg::Start(Start::new(&task, Some(reply))));
            self.ahead.asked.insert(number, (task, false));
        }
    }

    pub(super) fn begun_ahead(&mut self, number: u64, began: Began) {
        let Some((mut task, told)) = self.ahead.asked.remove(&number) else { return };
        match began {
            Began::Durable => {
                task.claim.begun = true;
                if told || self.revoked.covers(&task.invocation) {
                    self.refuse(task, Refusal::Revoked);
                } else {
                    self.ahead.ready.push_back((task, Instant::now()));
                    self.watch_ahead();
                }
            }
            Began::TooLate => {
                self.shared.facts.tell(Some(&task.invocation), task.claim.debt.held(), Fact::Zombie);
                task.claim.settled();
            }
            Began::Refused => drop(task),
        }
        self.assign();
    }

    /// Refuses those that are named (those that are revoked, if none are), and says which.
    pub(super) fn refuse_ahead(&mut self, which: Option<&Which>) -> Vec<TaskId> {
        let mut refused = Vec::new();
        let revoked = self.revoked.clone();
        let meant = |task: &Admitted| which.map_or_else(|| revoked.covers(&task.invocation), |which| which.names(&task.invocation));
        for (task, told) in self.ahead.asked.values_mut() {
            if meant(task) {
                *told = true;
                refused.push(task.invocation.headers.id.clone());
            }
        }
        for (task, since) in std::mem::take(&mut self.ahead.ready) {
            if meant(&task) {
                refused.push(task.invocation.headers.id.clone());
                self.refuse(task, Refusal::Revoked);
            } else {
                self.ahead.ready.push_back((task, since));
            }
        }
        refused
    }

    /// Has those looked through that wait.
    pub(super) fn watch_ahead(&mut self) {
        if self.ahead.look.is_none() {
            self.ahead.look = Some(Instant::now() + STALE);
            self.set_alarm();
        }
    }

    /// When to call [`State::give_stale_back`].
    pub(super) fn ahead_alarm(&self) -> Option<Instant> {
        self.ahead.look
    }

    /// Gives back what has waited too long for a slot.
    pub(super) fn give_stale_back(&mut self, now: Instant) {
        if self.ahead.look.is_none_or(|look| look > now) {
            return;
        }
        while self.ahead.ready.front().is_some_and(|(_, since)| *since + STALE <= now) {
            self.ahead.ready.pop_front().into_iter().for_each(|(task, _)| self.give_back(task));
        }
        self.ahead.look = self.ahead.ready.front().map(|(_, since)| *since + STALE);
    }

    /// Gives back what has not begun to run. Of what is being acknowledged now nobody knows, so that its loss is recorded.
    pub(super) fn abandon_ahead(&mut self) {
        self.ahead.asked.clear();
        for (task, _) in std::mem::take(&mut self.ahead.ready) {
            self.give_back(task);
        }
    }

    /// Takes back an acknowledgement, and gives the message to others.
    fn give_back(&self, task: Admitted) {
        let detail = "it was acknowledged, and no slot was free for it in time".to_owned();
        self.shared.facts.tell(Some(&task.invocation), task.claim.debt.held(), Fact::Requeued { detail });
        cast(&self.aggregator, AggregatorMsg::Later { claim: task.claim, due: clock::now() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: as many as start soon, none where tasks are long, and none before it is known how long they are.
    #[test]
    fn room_follows_what_tasks_take() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.room(2), 0);
        ahead.took(Duration::from_micros(300));
        assert_eq!(ahead.room(2), 2 * EACH);
        ahead.took(Duration::from_millis(6));
        assert_eq!(ahead.room(2), 6);
        ahead.took(Duration::from_secs(60));
        assert_eq!(ahead.room(2), 0, "one long task is enough");
        for _ in 0..40 {
            ahead.took(Duration::from_millis(1));
        }
        assert_eq!(ahead.room(2), 0, "and is remembered for a while");
        for _ in 0..40 {
            ahead.took(Duration::from_millis(1));
        }
        assert!(ahead.room(2) > 0);
    }
}
