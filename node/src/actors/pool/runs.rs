//! The runs of a pool: from a waiting task to an outcome joined with its claim.

use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant},
};
use umbel_proto::{Millis, Outcome, TimeLimit};
use umbel_scheduler::{Acknowledge, admission::Refusal};

use super::{
    super::{
        Admitted,
        aggregator::{AggregatorMsg, Began, Ended, Start},
        cast,
        report::RunningTask,
        slot::{NEWS_MAX, Numbered, SlotMsg, SlotNews},
    },
    GRACE, PoolMsg, SlotPlace, State,
    deadlines::Deadline,
    handing::Ready,
    still_runs,
};
use crate::{
    clock,
    executors::{Early, Job, Order, Progress},
    facts::Fact,
};

/// What a seat is doing.
#[derive(Default)]
pub(super) enum Work {
    /// Nothing.
    #[default]
    None,
    /// Waiting until the early acknowledgement of a task is durable.
    Beginning {
        run: u64,
        task: Box<Admitted>,
        /// It was told to end meanwhile.
        ended: bool,
    },
    Running(Box<Running>),
}

/// A run.
pub(super) struct Running {
    run: u64,
    task: Admitted,
    orders: watch::Sender<Order>,
    started: Instant,
    started_at: Millis,
    soft: Option<Instant>,
    hard: Option<Instant>,
    grace: Option<Instant>,
    ended_by: Option<EndedBy>,
    /// How it has ended whose run goes on; what executors die under then is no loss of the task.
    told: Option<Box<Outcome>>,
}

/// Why a run was told to end.
#[derive(Debug, Clone, Copy)]
pub(super) enum EndedBy {
    Revoke { signal: Option<i32> },
    HardLimit { secs: f64 },
}

impl EndedBy {
    /// The outcome of a run that was told to end. One that had succeeded by then has succeeded, one that has told of its failure
    /// has failed, and what is stored stands.
    fn outcome(self, outcome: Outcome) -> Outcome {
        match (self, outcome) {
            (_, outcome @ (Outcome::Success { .. } | Outcome::Told { .. } | Outcome::FailureTold { .. } | Outcome::Delegated(_))) => {
                outcome
            }
            (Self::Revoke { signal }, Outcome::Revoked { signal: used, .. }) => {
                Outcome::Revoked { terminated: true, signal: signal.or(used) }
            }
            (Self::Revoke { signal }, _) => Outcome::Revoked { terminated: true, signal },
            (Self::HardLimit { secs }, _) => Outcome::TimeLimitExceeded { limit_secs: secs },
        }
    }
}

impl Running {
    /// How it ends whose executor is gone.
    pub(super) fn lost(&mut self, detail: String) -> Outcome {
        match self.told.take() {
            Some(outcome) => Outcome::Told { outcome, stored: false },
            None => Outcome::WorkerLost { detail },
        }
    }

    pub(super) fn task(&self) -> &Admitted {
        &self.task
    }

    pub(super) fn started_at(&self) -> Millis {
        self.started_at
    }

    /// Whether it has run for less than that.
    pub(super) fn is_fresh(&self, now: Instant, within: Duration) -> bool {
        now.saturating_duration_since(self.started) < within
    }

    /// Brings the end of its grace forward, and says when that was to be.
    pub(super) fn hasten(&mut self, to: Instant) -> Option<Instant> {
        self.grace.replace(to)
    }
}

impl Work {
    pub(super) fn report(&self) -> Option<RunningTask> {
        let Self::Running(running) = self else { return None };
        let held = running.task.claim.debt.held();
        let headers = &running.task.invocation.headers;
        Some(RunningTask {
            id: headers.id.clone(),
            name: headers.task.clone(),
            queue: held.queue.clone(),
            started: running.started_at,
            attempt: held.attempt,
        })
    }
}

impl State {
    /// Gives waiting tasks to idle slots.
    pub(super) fn assign(&mut self) {
        while let Some(&index) = self.idle.last() {
            if let Some(task) = self.ahead.pop() {
                self.idle.pop();
                self.run(index, task);
                continue;
            }
            if self.idle.len() <= self.ahead.asked() {
                // Those come before what waits, and in a moment.
                break;
            }
            let Some(mut task) = self.waiting.pop_front() else { break };
            // Revocations are taken out of `waiting` when they come.
            if task.invocation.headers.expires.is_some()
                && let Err(refusal) = still_runs(&self.shared, &self.revoked, &task, clock::now())
            {
                self.refuse(task, refusal);
                continue;
            }
            if let Some(Err(due)) = task.place.as_mut().map(crate::limits::Place::start) {
                // Between its permission and here somebody was in the way.
                cast(&self.aggregator, AggregatorMsg::Postponed { claim: task.claim, due });
                continue;
            }
            self.idle.pop();
            if task.spec.acknowledge == Acknowledge::Early && !task.claim.begun {
                self.begin(index, task);
            } else {
                self.run(index, task);
            }
        }
        self.hand_ahead();
        self.look_ahead();
    }

    /// Has the message acknowledged before the run.
    fn begin(&mut self, index: usize, task: Admitted) {
        let (run, pool) = (self.next_run(), self.myself.clone());
        let reply = Box::new(move |began| cast(&pool, PoolMsg::Began { index, run, began }));
        cast(&self.aggregator, AggregatorMsg::Start(Start::new(&task, Some(reply))));
        self.seats[index].work = Work::Beginning { run, task: Box::new(task), ended: false };
    }

    pub(super) fn began(&mut self, index: usize, run: u64, began: Began) {
        let seat = &mut self.seats[index];
        if !matches!(seat.work, Work::Beginning { run: waiting, .. } if waiting == run) {
            return;
        }
        let Work::Beginning { mut task, ended, .. } = std::mem::take(&mut seat.work) else { return };
        let open = seat.open;
        match began {
            Began::Durable => {
                task.claim.begun = true;
                if ended || self.revoked.covers(&task.invocation) {
                    self.refuse(*task, Refusal::Revoked);
                } else if open {
                    return self.run(index, *task);
                } else {
                    // Its slot has died meanwhile.
                    self.waiting.push_front(*task);
                }
            }
            Began::TooLate => {
                self.shared.facts.tell(Some(&task.invocation), task.claim.debt.held(), Fact::Zombie);
                task.claim.settled();
            }
            Began::Refused => drop(task),
        }
        if open {
            self.free(index);
        }
        self.assign();
    }

    fn next_run(&mut self) -> u64 {
        self.runs += 1;
        self.runs
    }

    fn run(&mut self, index: usize, task: Admitted) {
        let (ready, mut first) = self.make_ready(task);
        first.job.begins(clock::now());
        self.start(index, ready);
        let seat = &mut self.seats[index];
        let handing = seat.hand.open();
        if let Some(actor) = &seat.actor {
            cast(actor, SlotMsg::Run { first, handing });
        }
    }

    /// A task as a job for a slot.
    pub(super) fn make_ready(&mut self, task: Admitted) -> (Ready, Numbered) {
        let run = self.next_run();
        let held = task.claim.debt.held();
        let (call, own) = (task.invocation.headers.timelimit, task.spec.time_limit);
        let limits = TimeLimit { hard_secs: call.hard_secs.or(own.hard_secs), soft_secs: call.soft_secs.or(own.soft_secs) };
        let (orders, listen) = watch::channel(Order::Run);
        let (progress, news) = mpsc::channel(NEWS_MAX);
        let (ends, early) = mpsc::channel(1);
        let job = Box::new(Job {
            invocation: task.invocation.clone(),
            spec: task.spec.clone(),
            queue: held.queue.clone(),
            attempt: held.attempt,
            limits,
            deadline: None,
            orders: listen,
            progress,
            early: ends,
        });
        (Ready { run, task, orders, limits }, Numbered { run, job, news, early })
    }

    /// A task begins to run now.
    pub(super) fn start(&mut self, index: usize, ready: Ready) {
        let Ready { run, task, orders, limits } = ready;
        if task.spec.track_started && !task.claim.begun {
            cast(&self.aggregator, AggregatorMsg::Start(Start::new(&task, None)));
        }
        self.shared.facts.tell(Some(&task.invocation), task.claim.debt.held(), Fact::Started);
        let (started, started_at) = (Instant::now(), clock::now());
        let (soft, hard) = (after(started, limits.soft_secs), after(started, limits.hard_secs));
        for (at, deadline) in [(soft, Deadline::Soft), (hard, Deadline::Hard)] {
            if let Some(at) = at {
                self.deadlines.insert(at, index, deadline);
                self.set_alarm();
            }
        }
        let running = Running { run, task, orders, started, started_at, soft, hard, grace: None, ended_by: None, told: None };
        self.seats[index].work = Work::Running(Box::new(running));
    }

    fn running(&mut self, index: usize, run: u64) -> Option<&mut Running> {
        match &mut self.seats[index].work {
            Work::Running(running) if running.run == run => Some(running),
            _ => None,
        }
    }

    /// What a slot tells of its tasks.
    pub(super) fn told(&mut self, place: SlotPlace, news: Vec<SlotNews>) {
        let SlotPlace { index, incarnation } = place;
        if self.seats[index].incarnation != incarnation || self.seats[index].actor.is_none() {
            return;
        }
        for news in news {
            match news {
                SlotNews::Progressed { run, progress } => self.progressed(index, run, progress),
                SlotNews::Early { run, early } => self.early(index, run, early),
                SlotNews::Ended { run, outcome, took } => {
                    self.shared.faults.hit("pool.finished");
                    self.finished(index, run, *outcome, took);
                }
                SlotNews::Began { run } => self.began_by_itself(index, run),
                SlotNews::Returned(runs) => self.returned(index, &runs),
                SlotNews::Free => {
                    self.put_hand_back(index);
                    debug_assert!(matches!(self.seats[index].work, Work::None), "what begins ends before its slot is free");
                    self.free(index);
                }
            }
        }
        self.assign();
    }

    fn progressed(&mut self, index: usize, run: u64, progress: Progress) {
        let aggregator = self.aggregator.clone();
        if let Some(running) = self.running(index, run) {
            let (invocation, fence) = (running.task.invocation.clone(), running.task.claim.fence());
            cast(&aggregator, AggregatorMsg::Progressed { invocation, fence, progress });
        }
    }

    /// Who waits is told by the aggregator, or by nobody once the run is not here any more.
    fn early(&mut self, index: usize, run: u64, early: Early) {
        let aggregator = self.aggregator.clone();
        if let Some(running) = self.running(index, run) {
            // Of a failure only its process knows which errbacks it calls.
            if !matches!(*early.outcome, Outcome::Failure(_)) {
                running.told = Some(early.outcome.clone());
            }
            cast(&aggregator, AggregatorMsg::Early { of: Start::new(&running.task, None), early });
        }
    }

    fn finished(&mut self, index: usize, run: u64, outcome: Outcome, took: Option<Duration>) {
        if self.running(index, run).is_some()
            && let Work::Running(running) = std::mem::take(&mut self.seats[index].work)
        {
            self.end(index, *running, outcome, took);
        }
    }

    /// Joins an outcome with the claim that was kept for it.
    pub(super) fn end(&mut self, index: usize, running: Running, outcome: Outcome, took: Option<Duration>) {
        for (at, deadline) in [(running.soft, Deadline::Soft), (running.hard, Deadline::Hard), (running.grace, Deadline::Grace)] {
            if let Some(at) = at {
                self.deadlines.remove(at, index, deadline);
            }
        }
        let outcome = match running.ended_by {
            Some(by) => by.outcome(outcome),
            None => outcome,
        };
        let runtime = took.unwrap_or_else(|| running.started.elapsed());
        self.ahead.took(runtime);
        let mut task = running.task;
        if let Some(place) = task.place.as_mut().filter(|_| !matches!(outcome.plain(), Outcome::Retry(_))) {
            place.ended();
        }
        let ended = Box::new(Ended { task, outcome, runtime });
        cast(&self.aggregator, AggregatorMsg::Ended(ended));
    }

    pub(super) fn hurry(&mut self, index: usize) {
        if let Work::Running(running) = &mut self.seats[index].work {
            running.soft = None;
            order(running, Order::Hurry);
        }
    }

    /// Tells what runs that the node wants to stop.
    pub(super) fn announce_end(&self) {
        for seat in &self.seats {
            if let Work::Running(running) = &seat.work {
                order(running, Order::Drain);
            }
        }
    }

    pub(super) fn hard_limit(&mut self, index: usize) {
        if let Work::Running(running) = &mut self.seats[index].work {
            let secs = running.hard.take().map_or(0.0, |hard| (hard - running.started).as_secs_f64());
            self.terminate(index, EndedBy::HardLimit { secs });
        }
    }

    pub(super) fn terminate_revoked(&mut self, index: usize) {
        if let Work::Running(running) = &self.seats[index].work
            && running.ended_by.is_none()
            && self.revoked.ends(&running.task.invocation)
        {
            self.terminate(index, EndedBy::Revoke { signal: None });
        }
    }

    pub(super) fn terminate(&mut self, index: usize, why: EndedBy) {
        let Work::Running(running) = &mut self.seats[index].work else { return };
        order(running, Order::Terminate);
        running.ended_by.get_or_insert(why);
        if running.grace.is_none() {
            let grace = Instant::now() + GRACE;
            running.grace = Some(grace);
            self.deadlines.insert(grace, index, Deadline::Grace);
            self.set_alarm();
        }
    }

    /// Hands back what has not ended: what is acknowledged late runs again elsewhere; what was acknowledged early may not,
    /// and is recorded as lost.
    pub(super) fn abandon(&mut self) {
        self.waiting.clear();
        self.abandon_ahead();
        for index in 0..self.seats.len() {
            match std::mem::take(&mut self.seats[index].work) {
                Work::Running(mut running) => {
                    order(&running, Order::Terminate);
                    let detail = "the node stopped before it ended".to_owned();
                    if running.task.claim.begun || running.told.is_some() {
                        let outcome = running.lost(detail);
                        self.end(index, *running, outcome, None);
                    } else {
                        let task = &running.task;
                        self.shared.facts.tell(Some(&task.invocation), task.claim.debt.held(), Fact::Requeued { detail });
                    }
                }
                Work::Beginning { .. } | Work::None => {}
            }
            self.lose_hand(index, "the node stopped before it ended");
        }
        // What was handed to slots and is to be run elsewhere.
        self.waiting.clear();
    }
}

fn order(running: &Running, order: Order) {
    running.orders.send_if_modified(|current| {
        let stronger = order > *current;
        *current = order.max(*current);
        stronger
    });
}

/// `secs` after `start`; `None` for no limit, and for one that no clock reaches.
fn after(start: Instant, secs: Option<f64>) -> Option<Instant> {
    start.checked_add(Duration::try_from_secs_f64(secs?).ok()?)
}

#[cfg(test)]
mod tests;
