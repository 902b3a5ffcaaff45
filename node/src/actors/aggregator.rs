//! The aggregator: makes endings durable, and concludes chords.
//!
//! **What it owns.** Everything that is on its way into the ledger, with the claims it is owed for; one flush at a time, a
//! task that ends with it; a sweep that looks for chords whose concluder has died. **Who sends to it.** Gate and pools; its
//! own flush and sweep. **What it sends on.** Commits, to the ledger: at once when it is idle; what comes during a flush is
//! collected for the next one. **What bounds it.** The credits of the claims; progress, which has none, is kept once for
//! each running task, the newest; conclusions are as few as chords.
//!
//! **When it dies.** Everything upstream dies with it, and the claims go back. It is not known then whether the commits in
//! flight have happened; the fences see to it that none happens twice. What was to be concluded is found by the next sweep.
//! **When the ledger is away** that is a state: the flush asks again for ever, and as no credits come back, fetching stops.

mod flush;
mod queue;
mod settle;

use std::{collections::HashSet, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Invocation, Millis, Outcome, QueueName};
use umbel_scheduler::{Answer, Commit, Fence, ReadyChord, TaskSpec, admission::Refusal, chord};

use self::queue::{Pending, Queue, Then};
use super::{Admitted, Shared, cast, chance::Dice, guarded, reply, report::AggregatorReport};
use crate::{claim::Claim, clock, executors::Progress, facts::Fact};

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

/// A task is about to start.
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
    Ended(Ended),
    /// A task is about to start.
    Start(Start),
    /// A task tells how far it has come.
    Progressed { invocation: Arc<Invocation>, fence: Fence, progress: Progress },
    /// A message is not to run.
    Refused { claim: Claim, spec: Option<Arc<TaskSpec>>, refusal: Refusal },
    /// A message came before its time: back into the durable schedule.
    Later { claim: Claim, due: Millis },
    /// A message could not be understood.
    Undecodable(Claim),
    /// A decision about a message panicked.
    Poisonous { claim: Claim, spec: Option<Arc<TaskSpec>>, detail: String },
    /// Begin a flush, after everything that was in the mailbox.
    Flush,
    /// What became of the commits in flight, in order; `Err` for those that the ledger refuses to carry out at all.
    Flushed(Vec<Result<Answer, String>>),
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
    in_flight: Vec<Then>,
    flushing: Option<AbortOnDropHandle<()>>,
    flush_asked: bool,
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
            in_flight: Vec::new(),
            flushing: None,
            flush_asked: false,
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
                let pending = state.settle(ended);
                state.push(pending);
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
            AggregatorMsg::Refused { claim, spec, refusal } => {
                let pending = state.refuse(claim, spec, &refusal);
                state.push(pending);
            }
            AggregatorMsg::Later { claim, due } => state.push(settle::later(claim, due)),
            AggregatorMsg::Undecodable(claim) => state.push(settle::quarantine(claim)),
            AggregatorMsg::Poisonous { claim, spec, detail } => {
                let pending = state.poisonous(claim, spec, detail);
                state.push(pending);
            }
            AggregatorMsg::Flush => {
                state.flush_asked = false;
                state.flush();
            }
            AggregatorMsg::Flushed(answers) => {
                state.shared.faults.hit("aggregator.flushed");
                state.flushing = None;
                state.flushed(answers);
                state.flush();
            }
            AggregatorMsg::Swept(chords) => chords.into_iter().for_each(|chord| state.conclude(chord)),
            AggregatorMsg::Drain => state.draining = true,
            AggregatorMsg::Report(port) => reply(port, state.report()),
        }
        if state.draining && state.flushing.is_none() && state.queue.is_empty() {
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
        if self.flushing.is_none() && !self.flush_asked {
            self.flush_asked = true;
            cast(&self.myself, AggregatorMsg::Flush);
        }
    }

    fn flush(&mut self) {
        if self.flushing.is_some() || self.queue.is_empty() {
            return;
        }
        let (commits, then) = self.queue.take(FLUSH_MAX);
        self.report.flushes += 1;
        self.report.commits += commits.len() as u64;
        self.in_flight = then;
        self.flushing = Some(flush::spawn(self.shared.clone(), self.myself.clone(), commits));
    }

    fn flushed(&mut self, answers: Vec<Result<Answer, String>>) {
        for (then, answer) in std::mem::take(&mut self.in_flight).into_iter().zip(answers) {
            match answer {
                Ok(Answer::Done { ready }) => {
                    self.durable(then);
                    ready.into_iter().for_each(|chord| self.conclude(chord));
                }
                Ok(Answer::Refused) => self.too_late(then),
                Err(reason) => self.refused_by_ledger(then, &reason),
            }
        }
    }

    fn durable(&mut self, then: Then) {
        match then {
            Then::Settled(settled) => {
                let claim = settled.claim;
                for fact in settled.facts {
                    self.shared.facts.tell(claim.invocation.as_ref().ok(), claim.debt.held(), fact);
                }
                claim.settled();
            }
            Then::Begun(reply) => reply(Began::Durable),
            Then::Noted => {}
            Then::Concluded(group) => {
                self.concluding.remove(&group);
                self.report.concluded += 1;
            }
        }
    }

    /// The fence did not hold: the message has gone to somebody else, or the chord has been concluded.
    fn too_late(&mut self, then: Then) {
        match then {
            Then::Settled(settled) => {
                let claim = settled.claim;
                if !settled.facts.is_empty() {
                    self.shared.facts.tell(claim.invocation.as_ref().ok(), claim.debt.held(), Fact::Zombie);
                }
                claim.settled();
            }
            Then::Begun(reply) => reply(Began::TooLate),
            Then::Noted => {}
            Then::Concluded(group) => {
                self.concluding.remove(&group);
            }
        }
    }

    /// The ledger will not carry a commit out, now or later. That harms only its own task.
    fn refused_by_ledger(&mut self, then: Then, reason: &str) {
        match then {
            Then::Settled(settled) => {
                if let Some(pending) = self.without_ledger(*settled, reason) {
                    self.push(pending);
                }
            }
            Then::Begun(reply) => reply(Began::Refused),
            Then::Noted => tracing::warn!(reason, "the ledger refuses the state of a running task"),
            Then::Concluded(group) => {
                self.concluding.remove(&group);
                tracing::error!(%group, reason, "the ledger refuses the conclusion of a chord; it is tried again with the next sweep");
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
        AggregatorReport { waiting: self.queue.len(), in_flight: self.in_flight.len(), ..self.report.clone() }
    }
}
