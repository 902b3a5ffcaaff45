//! Settling: outcomes and refusals become commits. The decisions are the scheduler's; here a panic in one of them is kept
//! to the message it is about.

use std::{sync::Arc, time::Duration};

use umbel_proto::{Millis, Outcome, TaskError};
use umbel_scheduler::{
    Commit, DeadReason, Effect, Release, TaskSpec,
    admission::Refusal,
    settlement::{self, Context, Settlement},
};

use super::{
    super::guarded,
    Ended, Start, State,
    queue::{Pending, Resort, Settled, Then},
    telling::Settling,
};
use crate::{brokers::Held, claim::Claim, clock, executors::Early, facts::Fact};

/// How long a message rests after a decision about it has panicked.
const REST_MS: Millis = 1_000;

impl State {
    pub(super) fn settle(&mut self, ended: Ended) -> Settling {
        let Ended { task, outcome, runtime } = ended;
        self.settle_as(Resort::Ending, task.claim, task.spec, outcome, runtime)
    }

    fn settle_as(&mut self, resort: Resort, claim: Claim, spec: Arc<TaskSpec>, outcome: Outcome, runtime: Duration) -> Settling {
        let Ok(invocation) = claim.invocation.clone() else { return quarantine(claim).into() };
        let now = clock::now();
        let told = matches!(outcome, Outcome::Delegated(_));
        let decided = guarded(|| {
            self.shared.faults.hit("settle");
            let context = self.context(&spec, &claim, now);
            settlement::settle(&invocation, outcome, context)
        });
        match decided {
            Ok(mut settlement) => {
                let whom = if told { None } else { self.whom(&invocation, &mut settlement) };
                Settling { pending: settled(claim, Some(spec), settlement, runtime, now, resort), whom }
            }
            Err(panic) => self.poisonous(claim, Some(spec), format!("settling its ending panicked: {panic}")).into(),
        }
    }

    pub(super) fn refuse(&mut self, claim: Claim, spec: Option<Arc<TaskSpec>>, refusal: &Refusal) -> Settling {
        let Ok(invocation) = claim.invocation.clone() else { return quarantine(claim).into() };
        let assumed = spec.clone().unwrap_or_else(|| Arc::new(TaskSpec::new(invocation.headers.task.clone())));
        let now = clock::now();
        let decided = guarded(|| settlement::refuse(&invocation, refusal, self.context(&assumed, &claim, now)));
        match decided {
            Ok(mut settlement) => {
                let whom = self.whom(&invocation, &mut settlement);
                Settling { pending: settled(claim, spec, settlement, Duration::ZERO, now, Resort::Ending), whom }
            }
            Err(panic) => dead(claim, format!("refusing it panicked: {panic}")).into(),
        }
    }

    /// A decision about it panicked: its message rests for a while and has another chance, as often as its task allows
    /// executors to die under it, and is a dead letter then.
    pub(super) fn poisonous(&mut self, claim: Claim, spec: Option<Arc<TaskSpec>>, detail: String) -> Pending {
        self.report.panics += 1;
        let held = claim.debt.held();
        tracing::error!(queue = %held.queue, tag = %held.tag, crashes = claim.crashes + 1, "{detail}");
        let max = spec.as_ref().map_or_else(|| TaskSpec::new("").max_crashes, |spec| spec.max_crashes);
        let crashes = claim.crashes + 1;
        if claim.begun || crashes >= max {
            return dead(claim, detail);
        }
        let release = Release::Requeue { due: Some(clock::now() + REST_MS), crashes };
        let facts = vec![Fact::Requeued { detail }];
        pending(claim, spec, vec![Effect::Release(release)], facts, Resort::Ending)
    }

    /// The ledger refused an ending for good, such as one that is too large: the task has failed then, and says so. Where
    /// even that is refused, its message becomes a dead letter; and where that is, it goes back to its queue by itself.
    pub(super) fn without_ledger(&mut self, settled: Settled, reason: &str) -> Option<Settling> {
        let Settled { claim, spec, resort, .. } = settled;
        let held = claim.debt.held();
        tracing::error!(queue = %held.queue, tag = %held.tag, reason, "the ledger refuses an ending");
        match (resort, spec) {
            (Resort::Ending, Some(spec)) => {
                let error = TaskError::new("umbel", "EndingRefused", format!("its ending could not be stored: {reason}"));
                Some(self.settle_as(Resort::Failure, claim, spec, Outcome::Failure(error), Duration::ZERO))
            }
            (Resort::Ending | Resort::Failure, _) => Some(dead(claim, format!("its ending could not be stored: {reason}")).into()),
            (Resort::DeadLetter, _) => None,
        }
    }

    /// What to write down before a task runs; `None` when there is nothing.
    pub(super) fn start(&mut self, start: Start) -> Option<Pending> {
        let context = self.context_of(&start);
        let started = guarded(|| settlement::started(&start.invocation, context, std::process::id()));
        let Start { fence, invocation, begin, .. } = start;
        let started = started.unwrap_or_else(|panic| {
            tracing::error!(task_id = %invocation.headers.id, "the state STARTED cannot be written: {panic}");
            None
        });
        let release = begin.as_ref().map(|_| Effect::Release(Release::Begin));
        let effects: Vec<Effect> = started.into_iter().chain(release).collect();
        match begin {
            Some(begin) => Some(Pending { commit: Commit { fence, effects }, then: Then::Begun(begin) }),
            None if effects.is_empty() => None,
            None => Some(Pending { commit: Commit { fence, effects }, then: Then::Noted }),
        }
    }

    /// What to write down of an ending while its run goes on; `None` when that has to wait. Where there is nothing to store, the fence is
    /// looked at all the same.
    pub(super) fn early(&mut self, of: &Start, early: Early) -> Option<Pending> {
        let Early { outcome, stored } = early;
        let context = self.context_of(of);
        let effects = guarded(|| settlement::early(&of.invocation, *outcome, context)).unwrap_or_else(|panic| {
            tracing::error!(task_id = %of.invocation.headers.id, "an ending cannot be written before its run is over: {panic}");
            None
        });
        let Some(effects) = effects else {
            let _ = stored.send(false);
            return None;
        };
        Some(Pending { commit: Commit { fence: of.fence.clone(), effects }, then: Then::Told(stored) })
    }

    fn context_of<'a>(&'a mut self, start: &'a Start) -> Context<'a> {
        let dice = self.dice.roll();
        Context {
            spec: &start.spec,
            specs: &self.shared.registry,
            settings: &self.shared.settings,
            node: &self.shared.node,
            queue: &start.queue,
            crashes: start.crashes,
            begun: start.begin.is_some(),
            now: clock::now(),
            dice,
        }
    }

    fn context<'a>(&'a mut self, spec: &'a TaskSpec, claim: &'a Claim, now: Millis) -> Context<'a> {
        let dice = self.dice.roll();
        let Held { queue, .. } = claim.debt.held();
        Context {
            spec,
            specs: &self.shared.registry,
            settings: &self.shared.settings,
            node: &self.shared.node,
            queue,
            crashes: claim.crashes,
            begun: claim.begun,
            now,
            dice,
        }
    }
}

/// A message that could not be understood.
pub(super) fn quarantine(claim: Claim) -> Pending {
    let decided = match &claim.invocation {
        Err(error) => guarded(|| settlement::quarantine(error)).map_err(|_| error.to_string()),
        Ok(_) => Err("it has no task".to_owned()),
    };
    match decided {
        Ok(effects) => {
            let facts = dead_letter_facts(&effects).collect();
            pending(claim, None, effects, facts, Resort::Failure)
        }
        Err(detail) => dead(claim, detail),
    }
}

/// A message that came before its time.
pub(super) fn later(claim: Claim, due: Millis) -> Pending {
    let effects = match &claim.invocation {
        Ok(invocation) => settlement::later(invocation, due, claim.crashes, &claim.debt.held().queue),
        Err(_) => vec![Effect::Release(Release::Requeue { due: Some(due), crashes: claim.crashes })],
    };
    pending(claim, None, effects, Vec::new(), Resort::Failure)
}

/// A message that has to wait for its turn.
pub(super) fn postponed(claim: Claim, due: Millis) -> Pending {
    let effects = match &claim.invocation {
        Ok(invocation) => settlement::postponed(invocation, due, claim.crashes, &claim.debt.held().queue),
        Err(_) => vec![Effect::Release(Release::Requeue { due: Some(due), crashes: claim.crashes })],
    };
    pending(claim, None, effects, Vec::new(), Resort::Failure)
}

fn dead(claim: Claim, detail: String) -> Pending {
    let effects = vec![Effect::Release(Release::Dead { reason: DeadReason::Crashed, detail })];
    let facts = dead_letter_facts(&effects).collect();
    pending(claim, None, effects, facts, Resort::DeadLetter)
}

fn settled(claim: Claim, spec: Option<Arc<TaskSpec>>, settlement: Settlement, runtime: Duration, now: Millis, resort: Resort) -> Pending {
    let Settlement { mut effects, ending } = settlement;
    // What a begun message leaves behind with the broker goes with its ending.
    if claim.begun && !effects.iter().any(|effect| matches!(effect, Effect::Release(_))) {
        effects.push(Effect::Release(Release::Ack));
    }
    let mut facts = vec![Fact::of_ending(ending, runtime, now)];
    facts.extend(dead_letter_facts(&effects));
    pending(claim, spec, effects, facts, resort)
}

fn pending(claim: Claim, spec: Option<Arc<TaskSpec>>, effects: Vec<Effect>, facts: Vec<Fact>, resort: Resort) -> Pending {
    let commit = Commit { fence: claim.fence(), effects };
    Pending { commit, then: Then::Settled(Box::new(Settled { claim, spec, facts, resort })) }
}

fn dead_letter_facts(effects: &[Effect]) -> impl Iterator<Item = Fact> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Release(Release::Dead { reason, detail }) => Some(Fact::DeadLettered { reason: *reason, detail: detail.clone() }),
        _ => None,
    })
}
