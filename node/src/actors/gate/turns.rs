//! Turns: tasks whose limit is one for all nodes.
//!
//! Whoever counts is asked for all that came together in one go, and one question is on its way at a time. What has booked a start
//! waits here for its time, a moment; what may not start so soon goes to the durable schedule. So however many wait, other tasks
//! of their queue do not. What has no slot asks all the same, and books nothing: most of what comes at once is put off, and would
//! take up the room of other tasks until a slot is free.

mod keeper;

use tokio::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::Millis;
use umbel_scheduler::{
    admission::Refusal,
    limits::{MARGIN_MS, Rule, Turn},
    settlement::has_waited,
};

use self::keeper::KeepersClock;
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
    /// It has no slot, and was told that its start is near.
    near: bool,
    /// It has missed a start, and whoever gives turns still counts it.
    counted: bool,
    since: Instant,
}

/// Those that need a turn.
#[derive(Default)]
pub(super) struct Turns {
    asking: Vec<Waiting>,
    in_flight: Option<AbortOnDropHandle<()>>,
    /// How many wait for the start that they have booked, for each pool.
    booked: Vec<u32>,
    keeper: KeepersClock,
    /// How many wait here.
    pub(super) waiting: usize,
}

/// An answer.
pub(crate) struct Turned {
    asked: Vec<Waiting>,
    /// Whether there was a slot for each of them.
    ready: Vec<bool>,
    at: Instant,
    heard: Instant,
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
        self.turns.asking.push(Waiting {
            pool,
            task,
            limit,
            rule: rule.shared(),
            waited,
            near: false,
            counted: false,
            since: Instant::now(),
        });
    }

    /// Asks for those who need a turn, unless a question is on its way already.
    pub(super) fn ask(&mut self) {
        if self.turns.in_flight.is_some() || self.turns.asking.is_empty() {
            return;
        }
        self.turns.booked.resize(self.pools.len(), 0);
        // Who has booked a start will need a slot.
        let room = self.shared.gauges.pools.iter().zip(&self.turns.booked).map(|(pool, booked)| pool.idle().saturating_sub(*booked));
        let mut room: Vec<u32> = room.collect();
        let (mut asks, mut asked, mut later) = (Vec::new(), Vec::new(), Vec::new());
        for waiting in std::mem::take(&mut self.turns.asking) {
            let ready = room[waiting.pool] > 0 || waiting.since.elapsed() > FOR_A_SLOT;
            if (ready || !waiting.near) && asked.len() < ASKS_MAX {
                room[waiting.pool] = room[waiting.pool].saturating_sub(u32::from(ready));
                asks.push(waiting.ask(ready));
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
        let ready = asks.iter().map(|ask: &Ask| ask.ready).collect();
        let (keeper, gate, at) = (self.shared.limits.keeper.clone(), self.myself.clone(), Instant::now());
        self.turns.in_flight = Some(AbortOnDropHandle::new(crate::task::spawn(async move {
            let answer = keeper.turns(&asks).await;
            cast(&gate, GateMsg::Turned(Turned { asked, ready, at, heard: Instant::now(), answer }));
        })));
    }

    /// Carries out an answer.
    pub(super) fn turned(&mut self, turned: Turned) {
        let Turned { asked, ready, at, heard, answer } = turned;
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
        self.turns.keeper.heard(now, heard);
        // The schedule goes by the clock of whoever keeps it.
        let schedule = if self.shared.limits.by_broker { now } else { clock::now() };
        for ((waiting, ready), turn) in asked.into_iter().zip(ready).zip(turns) {
            match turn {
                Turn::Now | Turn::At(_) => {
                    let start = if let Turn::At(start) = turn { start } else { now };
                    let instant = self.turns.keeper.instant(start, now, at, heard);
                    let until = instant + Duration::from_secs_f64(MARGIN_MS / 1_000.0);
                    self.book(waiting, instant, Permit { at: start, until, again: schedule + (start - now) + AGAIN_MS });
                }
                Turn::Soon(wait) => {
                    let at = Instant::now() + Duration::from_secs_f64(wait / 1_000.0);
                    let waited = waiting.waited || ready;
                    self.wake(at, Wake::Turn(Box::new(Waiting { waited, near: !ready, ..waiting })));
                }
                Turn::Later(wait) => {
                    self.turns.waiting -= 1;
                    self.uncount(&waiting);
                    let due = schedule + wait.ceil() as Millis;
                    cast(&self.aggregator, AggregatorMsg::Postponed { claim: waiting.task.claim, due });
                }
                Turn::Duplicate(of) => {
                    self.turns.waiting -= 1;
                    self.uncount(&waiting);
                    waiting.task.refuse(Refusal::Duplicate { of }, &self.aggregator);
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

    /// It has a start, at this instant.
    fn book(&mut self, mut waiting: Waiting, instant: Instant, permit: Permit) {
        let permit = waiting.rule.rate.map(|_| permit);
        waiting.task.place = Some(Place::new(&self.shared.limits, waiting.ask(true), permit));
        if instant <= Instant::now() {
            return self.start(waiting);
        }
        self.turns.booked[waiting.pool] += 1;
        self.wake(instant, Wake::Start(Box::new(waiting)));
    }

    /// The time of the start that it has booked has come.
    pub(super) fn booked(&mut self, waiting: Waiting) {
        self.turns.booked[waiting.pool] = self.turns.booked[waiting.pool].saturating_sub(1);
        self.start(waiting);
    }

    fn start(&mut self, mut waiting: Waiting) {
        if waiting.task.place.as_ref().is_some_and(Place::is_late) {
            // The answer was too long on its way, or the way to here: the start goes back, and it asks for another.
            waiting.task.place.take().into_iter().for_each(Place::miss);
            return self.turn_again(Waiting { waited: true, counted: true, ..waiting });
        }
        self.turns.waiting -= 1;
        let Waiting { pool, task, .. } = waiting;
        let now = clock::now();
        match self.still_runs(&task, now) {
            Ok(()) => self.pass_alone(pool, task, now),
            Err(refusal) => task.refuse(refusal, &self.aggregator),
        }
    }

    /// Gives back what is kept for one that has missed its start and does not wait here any more.
    fn uncount(&self, waiting: &Waiting) {
        if waiting.counted {
            drop(Place::new(&self.shared.limits, waiting.ask(true), None));
        }
    }
}

impl Waiting {
    fn ask(&self, ready: bool) -> Ask {
        Ask {
            ready,
            limit: self.limit.clone(),
            rule: self.rule,
            holder: self.task.claim.debt.held().tag.as_str().to_owned(),
            task: self.task.invocation.headers.id.to_string(),
            waited: self.waited,
        }
    }
}
