//! Turns: tasks whose limit is one for all nodes.
//!
//! Whoever counts is asked for all that came together in one go, and one question is on its way at a time. What may not start
//! yet waits here for a moment or goes to the durable schedule; so however many wait, other tasks of their queue do not.

use tokio::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::Millis;
use umbel_scheduler::{
    admission::Refusal,
    limits::{MARGIN_MS, Rule, Turn},
    settlement::has_waited,
};

use super::{
    super::{Admitted, aggregator::AggregatorMsg, cast},
    GateMsg, State, Wake,
};
use crate::{
    clock,
    limits::{Ask, LimitRule, LimitsError, Permit, Place},
};

/// The most who ask at a time.
const ASKS_MAX: usize = 256;

/// How long to wait when nobody answers.
const NO_ANSWER: Duration = Duration::from_millis(200);

/// How long a task may wait for a slot before it asks for its turn all the same: a permission should be used when it is given.
const FOR_A_SLOT: Duration = Duration::from_secs(1);

/// How often such a task looks.
const LOOK: Duration = Duration::from_millis(20);

/// When a task comes back that was too late for its start: soon, and by way of the schedule, which keeps its place in the queue.
const AGAIN_MS: Millis = 50;

/// A task that needs a turn.
pub(super) struct Waiting {
    pool: usize,
    task: Admitted,
    limit: String,
    rule: Rule,
    waited: bool,
    since: Instant,
}

/// Those that need a turn.
#[derive(Default)]
pub(super) struct Turns {
    asking: Vec<Waiting>,
    in_flight: Option<AbortOnDropHandle<()>>,
    /// How long an answer takes when nothing is in its way.
    quickest: Duration,
    /// How many wait here.
    pub(super) waiting: usize,
}

/// An answer.
pub(crate) struct Turned {
    asked: Vec<Waiting>,
    at: Instant,
    answer: Result<(Millis, Vec<Turn>), LimitsError>,
}

impl Turns {
    /// Gives all of them back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl State {
    /// Has a task ask for its turn at the end of this message.
    pub(super) fn needs_turn(&mut self, pool: usize, task: Admitted, rule: &LimitRule) {
        let (limit, waited) = (rule.limit(&task.invocation), has_waited(&task.invocation));
        self.turns.waiting += 1;
        self.turns.asking.push(Waiting { pool, task, limit, rule: rule.shared(), waited, since: Instant::now() });
    }

    /// Asks for those who need a turn, unless a question is on its way already.
    pub(super) fn ask(&mut self) {
        if self.turns.in_flight.is_some() || self.turns.asking.is_empty() {
            return;
        }
        let mut room: Vec<u32> = self.shared.gauges.pools.iter().map(|pool| pool.idle()).collect();
        let (mut asked, mut later) = (Vec::new(), Vec::new());
        for waiting in std::mem::take(&mut self.turns.asking) {
            let fits = room[waiting.pool] > 0 || waiting.since.elapsed() > FOR_A_SLOT;
            if fits && asked.len() < ASKS_MAX {
                room[waiting.pool] = room[waiting.pool].saturating_sub(1);
                asked.push(waiting);
            } else {
                later.push(waiting);
            }
        }
        for waiting in later {
            self.wake(Instant::now() + LOOK, Wake::Turn(Box::new(waiting)));
        }
        if asked.is_empty() {
            return;
        }
        let asks: Vec<Ask> = asked.iter().map(Waiting::ask).collect();
        let (keeper, gate, at) = (self.shared.limits.keeper.clone(), self.myself.clone(), Instant::now());
        self.turns.in_flight = Some(AbortOnDropHandle::new(crate::task::spawn(async move {
            let answer = keeper.turns(&asks).await;
            cast(&gate, GateMsg::Turned(Turned { asked, at, answer }));
        })));
    }

    /// Carries out an answer.
    pub(super) fn turned(&mut self, turned: Turned) {
        let Turned { asked, at, answer } = turned;
        self.turns.in_flight = None;
        let (now, turns) = match answer {
            Ok((now, turns)) if turns.len() == asked.len() => (now, turns),
            Ok(_) | Err(_) => {
                if let Err(error) = answer {
                    tracing::debug!(count = asked.len(), "no turns: {error}");
                }
                for waiting in asked {
                    self.wake(Instant::now() + NO_ANSWER, Wake::Turn(Box::new(waiting)));
                }
                return;
            }
        };
        let took = at.elapsed();
        // Slower ones are followed slowly: a way that has become longer is another way, a hiccup is none.
        self.turns.quickest = match self.turns.quickest {
            Duration::ZERO => took,
            quickest if took < quickest => took,
            quickest => quickest + (took - quickest) / 50,
        };
        // The schedule goes by the clock of whoever keeps it.
        let schedule = if self.shared.limits.by_broker { now } else { clock::now() };
        // It was given after it was asked for, at the latest a quickest way ago; from then on the margin counts.
        let until = at + self.turns.quickest + Duration::from_secs_f64(MARGIN_MS / 1_000.0);
        let permit = Permit { at: now, until, again: schedule + AGAIN_MS };
        for (waiting, turn) in asked.into_iter().zip(turns) {
            match turn {
                Turn::Now => self.has_turn(waiting, permit),
                Turn::Soon(wait) => {
                    let at = Instant::now() + Duration::from_secs_f64(wait / 1_000.0);
                    self.wake(at, Wake::Turn(Box::new(Waiting { waited: true, ..waiting })));
                }
                Turn::Later(wait) => {
                    self.turns.waiting -= 1;
                    let due = schedule + wait.ceil() as Millis;
                    cast(&self.aggregator, AggregatorMsg::Postponed { claim: waiting.task.claim, due });
                }
                Turn::Duplicate(of) => {
                    self.turns.waiting -= 1;
                    let Admitted { claim, spec, .. } = waiting.task;
                    cast(&self.aggregator, AggregatorMsg::Refused { claim, spec: Some(spec), refusal: Refusal::Duplicate { of } });
                }
            }
        }
        self.send_batches();
        self.ask();
    }

    /// Asks once more.
    pub(super) fn turn_again(&mut self, waiting: Waiting) {
        self.turns.asking.push(waiting);
    }

    fn has_turn(&mut self, waiting: Waiting, permit: Permit) {
        let (ask, permit) = (waiting.ask(), waiting.rule.rate.map(|_| permit));
        if let Some(permit) = permit.filter(|permit| permit.until < Instant::now()) {
            // The answer was too long on its way: the start goes back, and it asks for another.
            self.shared.limits.unused(&ask, permit);
            return self.turn_again(waiting);
        }
        self.turns.waiting -= 1;
        let Waiting { pool, mut task, .. } = waiting;
        task.place = Some(Place::new(&self.shared.limits, ask, permit));
        let now = clock::now();
        match self.still_runs(&task, now) {
            Ok(()) => self.pass_alone(pool, task, now),
            Err(refusal) => {
                let Admitted { claim, spec, .. } = task;
                cast(&self.aggregator, AggregatorMsg::Refused { claim, spec: Some(spec), refusal });
            }
        }
    }
}

impl Waiting {
    fn ask(&self) -> Ask {
        Ask {
            limit: self.limit.clone(),
            rule: self.rule,
            holder: self.task.claim.debt.held().tag.as_str().to_owned(),
            task: self.task.invocation.headers.id.to_string(),
            waited: self.waited,
        }
    }
}
