//! The aggregator: makes endings durable, and concludes chords.
//!
//! **What it owns.** Everything that is on its way into the ledger, with the claims it is owed for; one flush at a time, which
//! has its share of the claims with it; what an executor is being told; a sweep that looks for chords whose concluder has died.
//! **Who sends to it.** Gate and pools; its own flush, sweep and telling. **What it sends on.** Endings that an executor stores or wants
//! to know, to that one; commits, to the ledger: at once when it is idle; what comes during a flush is collected for the next one.
//! **What bounds it.** The credits of the claims; progress, which has none, is kept once for each running task, the newest;
//! conclusions are as few as chords.
//!
//! **When it dies.** Everything upstream dies with it, and the claims that waited here go back. The flush in flight is let
//! finish, as its answer is about to come; what chords it completes the next sweep finds.
//! **When the ledger is away** that is a state: the flush asks again for ever, and as no credits come back, fetching stops.

mod flush;
mod queue;
mod settle;
mod telling;

use std::{collections::HashSet, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Invocation, Millis, Outcome, QueueName};
use umbel_scheduler::{Commit, Fence, ReadyChord, TaskSpec, admission::Refusal, chord};

use self::{
    flush::Flushed,
    queue::{Pending, Queue, Then},
    telling::{Telling, Told},
};
use super::{Admitted, Shared, cast, chance::Dice, guarded, reply, report::AggregatorReport};
use crate::{
    claim::Claim,
    clock,
    executors::{Early, Progress},
};

/// The most commits in one flush.
pub(crate) const FLUSH_MAX: usize = 512;

/// The actor.
pub(crate) struct Aggregator;

/// A task has ended.
pub(crate) struct Ended {
    pub(crate) task: Admitted,
    pub(crate) outcome: Outcome,
    pub(crate) runtime: Duration,
}

/// What became of an early acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Began {
    /// It is durable: the task may start.
    Durable,
    /// The message has gone to somebody else.
    TooLate,
    /// The ledger refuses to write it down: the message goes back to its queue.
    Refused,
}

/// Told what became of an early acknowledgement.
pub(crate) type Begun = Box<dyn FnOnce(Began) + Send>;

/// A task is about to start, or runs.
pub(crate) struct Start {
    pub(crate) fence: Fence,
    pub(crate) invocation: Arc<Invocation>,
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) queue: QueueName,
    pub(crate) crashes: u32,
    /// Acknowledges the message early.
    pub(crate) begin: Option<Begun>,
}

impl Start {
    pub(crate) fn new(task: &Admitted, begin: Option<Begun>) -> Self {
        Self {
            fence: task.claim.fence(),
            invocation: task.invocation.clone(),
            spec: task.spec.clone(),
            queue: task.claim.debt.held().queue.clone(),
            crashes: task.claim.crashes,
            begin,
        }
    }
}

/// What it is told.
pub(crate) enum AggregatorMsg {
    /// A task has ended.
    Ended(Box<Ended>),
    /// A task is about to start.
    Start(Start),
    /// A task tells how far it has come.
    Progressed { invocation: Arc<Invocation>, fence: Fence, progress: Progress },
    /// A task has ended whose run goes on, and waits for that to be stored.
    Early { of: Start, early: Early },
    /// A message is not to run.
    Refused { claim: Claim, spec: Option<Arc<TaskSpec>>, refusal: Refusal },
    /// A message came before its time: back into the durable schedule.
    Later { claim: Claim, due: Millis },
    /// A message has to wait for its turn under a limit.
    Postponed { claim: Claim, due: Millis },
    /// A message could not be understood.
    Undecodable(Claim),
    /// A decision about a message panicked.
    Poisonous { claim: Claim, spec: Option<Arc<TaskSpec>>, detail: String },
    /// An executor was told of an ending, which can be written down now.
    Told(Told),
    /// Begin a flush, after everything that was in the mailbox.
    Flush,
    /// The flush has ended.
    Flushed(Flushed),
    /// Chords that nobody has concluded.
    Swept(Vec<ReadyChord>),
    /// Nothing more comes: end when all is durable.
    Drain,
    /// Report.
    Report(RpcReplyPort<AggregatorReport>),
}

pub(crate) struct State {
    shared: Arc<Shared>,
    myself: ActorRef<AggregatorMsg>,
    queue: Queue,
    /// How many commits are in flight; 0 is no flush.
    in_flight: usize,
    flush_asked: bool,
    telling: Telling,
    concluding: HashSet<umbel_proto::GroupId>,
    dice: Dice,
    draining: bool,
    report: AggregatorReport,
    _sweeping: AbortOnDropHandle<()>,
}

impl Actor for Aggregator {
    type Msg = AggregatorMsg;
    type State = State;
    type Arguments = Arc<Shared>;

    async fn pre_start(&self, myself: ActorRef<AggregatorMsg>, shared: Arc<Shared>) -> Result<State, ActorProcessingErr> {
        Ok(State {
            _sweeping: flush::spawn_sweep(shared.clone(), myself.clone()),
            shared,
            myself,
            queue: Queue::default(),
            in_flight: 0,
            flush_asked: false,
            telling: Telling::default(),
            concluding: HashSet::new(),
            dice: Dice::new(),
            draining: false,
            report: AggregatorReport::default(),
        })
    }

    async fn handle(&self, myself: ActorRef<AggregatorMsg>, message: AggregatorMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            AggregatorMsg::Ended(ended) => {
                state.shared.faults.hit("aggregator.ended");
                let settled = state.settle(*ended);
                state.tell_then_push(settled);
            }
            AggregatorMsg::Start(start) => {
                if let Some(pending) = state.start(start) {
                    state.push(pending);
                }
            }
            AggregatorMsg::Progressed { invocation, fence, progress } => {
                state.queue.note(&invocation, fence, progress);
                state.ask_flush();
            }
            AggregatorMsg::Early { of, early } => {
                if let Some(pending) = state.early(&of, early) {
                    state.push(pending);
                }
            }
            AggregatorMsg::Refused { claim, spec, refusal } => {
                let settled = state.refuse(claim, spec, &refusal);
                state.tell_then_push(settled);
            }
            AggregatorMsg::Later { claim, due } => state.push(settle::later(claim, due)),
            AggregatorMsg::Postponed { claim, due } => state.push(settle::postponed(claim, due)),
            AggregatorMsg::Undecodable(claim) => state.push(settle::quarantine(claim)),
            AggregatorMsg::Poisonous { claim, spec, detail } => {
                let pending = state.poisonous(claim, spec, detail);
                state.push(pending);
            }
            AggregatorMsg::Told(told) => {
                let pending = state.telling.told(told);
                state.push(pending);
            }
            AggregatorMsg::Flush => {
                state.flush_asked = false;
                state.flush();
            }
            AggregatorMsg::Flushed(flushed) => {
                state.shared.faults.hit("aggregator.flushed");
                state.in_flight = 0;
                state.flushed(flushed);
                state.flush();
            }
            AggregatorMsg::Swept(chords) => chords.into_iter().for_each(|chord| state.conclude(chord)),
            AggregatorMsg::Drain => state.draining = true,
            AggregatorMsg::Report(port) => reply(port, state.report()),
        }
        if state.draining && state.in_flight == 0 && state.queue.is_empty() && state.telling.is_empty() {
            myself.stop(Some("drained".to_owned()));
        }
        Ok(())
    }
}

impl State {
    fn push(&mut self, pending: Pending) {
        self.queue.push(pending);
        self.ask_flush();
    }

    /// A flush begins behind what is in the mailbox already: the first of many endings does not go alone.
    fn ask_flush(&mut self) {
        if self.in_flight == 0 && !self.flush_asked {
            self.flush_asked = true;
            cast(&self.myself, AggregatorMsg::Flush);
        }
    }

    fn flush(&mut self) {
        if self.in_flight > 0 || self.queue.is_empty() {
            return;
        }
        let batch = self.queue.take(FLUSH_MAX);
        self.in_flight = batch.len();
        self.report.flushes += 1;
        self.report.commits += batch.len() as u64;
        flush::spawn(self.shared.clone(), self.myself.clone(), batch);
    }

    fn flushed(&mut self, flushed: Flushed) {
        let Flushed { ready, concluded, refused } = flushed;
        for (group, done) in concluded {
            self.concluding.remove(&group);
            self.report.concluded += u64::from(done);
        }
        ready.into_iter().for_each(|chord| self.conclude(chord));
        for (settled, reason) in refused {
            if let Some(settled) = self.without_ledger(*settled, &reason) {
                self.tell_then_push(settled);
            }
        }
    }

    fn conclude(&mut self, ready: ReadyChord) {
        if !self.concluding.insert(ready.group.clone()) {
            return;
        }
        let shared = &self.shared;
        let commit: Result<Commit, String> = guarded(|| {
            shared.faults.hit("conclude");
            chord::conclude(&ready, &shared.settings, &shared.registry, clock::now())
        });
        match commit {
            Ok(commit) => self.push(Pending { commit, then: Then::Concluded(ready.group) }),
            Err(panic) => {
                self.concluding.remove(&ready.group);
                self.report.panics += 1;
                tracing::error!(group = %ready.group, "concluding a chord panicked ({panic}); it is tried again with the next sweep");
            }
        }
    }

    fn report(&self) -> AggregatorReport {
        AggregatorReport { waiting: self.queue.len() + self.telling.len(), in_flight: self.in_flight, ..self.report.clone() }
    }
}
