//! The gate: decides whether a message may run now, later, or never.
//!
//! **What it owns.** Messages that came before their time, those that wait for a limit, and the list of what is
//! revoked. **Who sends to it.** The consumer; its own alarm; its own watch on the broker's revocations. **What it sends on.**
//! Admitted tasks, one message a batch, to the pool of the executor that runs them; everything that will not run here to
//! the aggregator, which settles it. **What bounds it.** The credits of the claims it holds; none is held longer than
//! [`HOLD_MAX`], as the durable schedule has room for a million and the gate has not.
//!
//! **When it dies.** It and the consumer are restarted; the claims it held go back to their queues.

mod limits;
mod turns;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Millis, TaskName};
use umbel_scheduler::{
    TaskSpec,
    admission::{self, Arrival, Verdict},
    rate_limit::Rate,
    revocation::Revoked,
};

use self::{
    limits::{Limited, Pass},
    turns::{Turned, Turns, Waiting},
};
use super::{
    Admitted, Shared,
    aggregator::AggregatorMsg,
    alarm::Alarm,
    cast, guarded,
    held::{HeldTask, Stage},
    pool::PoolMsg,
    registry::Known,
    reply,
    report::GateReport,
};
use crate::{claim::Claim, clock, facts::Fact};

/// The longest a message is held in memory rather than put into the durable schedule.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(5);

/// The actor.
pub(crate) struct Gate;

/// What it is started with.
pub(crate) struct GateArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) aggregator: ActorRef<AggregatorMsg>,
    pub(crate) pools: Vec<ActorRef<PoolMsg>>,
}

/// What it is told.
pub(crate) enum GateMsg {
    /// These were taken.
    Arrived(Vec<Claim>),
    /// This is what is revoked now.
    Revoked(Arc<Revoked>),
    /// Whoever counts has given turns.
    Turned(Turned),
    /// The options of tasks have been changed.
    Retuned,
    /// Which tasks it has.
    Held(RpcReplyPort<Vec<HeldTask>>),
    /// The alarm rang.
    Due,
    /// Nothing more comes: give back what is held, tell the pools, and end.
    Drain,
    /// Report.
    Report(RpcReplyPort<GateReport>),
}

/// What to do when the time has come.
enum Wake {
    Held(Box<Claim>),
    Limit(TaskName),
    Turn(Box<Waiting>),
    Start(Box<Waiting>),
}

pub(crate) struct State {
    shared: Arc<Shared>,
    aggregator: ActorRef<AggregatorMsg>,
    pools: Vec<ActorRef<PoolMsg>>,
    revoked: Arc<Revoked>,
    /// By time, and the order in which they came.
    waking: BTreeMap<(Instant, u64), Wake>,
    came: u64,
    held: usize,
    limits: HashMap<TaskName, Limited>,
    turns: Turns,
    myself: ActorRef<GateMsg>,
    alarm: Alarm,
    /// What goes to each pool at the end of this message.
    batches: Vec<Vec<Admitted>>,
    _watching: [AbortOnDropHandle<()>; 2],
}

impl Actor for Gate {
    type Msg = GateMsg;
    type State = State;
    type Arguments = GateArgs;

    async fn pre_start(&self, myself: ActorRef<GateMsg>, args: GateArgs) -> Result<State, ActorProcessingErr> {
        let GateArgs { shared, aggregator, pools } = args;
        let mut orders = shared.broker.revoked();
        let revoked = orders.borrow_and_update().clone();
        let gate = myself.clone();
        let watching = crate::task::spawn(async move {
            while orders.changed().await.is_ok() {
                let revoked = orders.borrow_and_update().clone();
                cast(&gate, GateMsg::Revoked(revoked));
            }
        });
        let (mut tunings, gate) = (shared.registry.tunings(), myself.clone());
        let tuning = crate::task::spawn(async move {
            while tunings.changed().await.is_ok() {
                cast(&gate, GateMsg::Retuned);
            }
        });
        Ok(State {
            shared,
            aggregator,
            batches: pools.iter().map(|_| Vec::new()).collect(),
            pools,
            revoked,
            waking: BTreeMap::new(),
            came: 0,
            held: 0,
            limits: HashMap::new(),
            turns: Turns::default(),
            myself: myself.clone(),
            alarm: Alarm::new(move || cast(&myself, GateMsg::Due)),
            _watching: [watching, tuning].map(AbortOnDropHandle::new),
        })
    }

    async fn handle(&self, myself: ActorRef<GateMsg>, message: GateMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            GateMsg::Arrived(claims) => {
                state.shared.faults.hit("gate.arrived");
                let now = clock::now();
                claims.into_iter().for_each(|claim| state.arrived(claim, now));
                state.ask();
                state.send_batches();
            }
            GateMsg::Turned(turned) => state.turned(turned),
            GateMsg::Due => state.due(),
            GateMsg::Revoked(revoked) => {
                state.revoked = revoked;
                for pool in &state.pools {
                    cast(pool, PoolMsg::Revoked(state.revoked.clone()));
                }
            }
            GateMsg::Retuned => {
                state.retune(clock::now());
                state.send_batches();
            }
            GateMsg::Held(port) => reply(port, state.held(clock::now())),
            GateMsg::Drain => {
                state.waking.clear();
                state.limits.clear();
                state.turns.clear();
                for pool in &state.pools {
                    cast(pool, PoolMsg::Drain);
                }
                myself.stop(Some("drained".to_owned()));
            }
            GateMsg::Report(port) => reply(port, state.report()),
        }
        Ok(())
    }
}

impl State {
    fn arrived(&mut self, claim: Claim, now: Millis) {
        if let Ok(invocation) = &claim.invocation {
            self.shared.facts.tell(Some(invocation), claim.debt.held(), Fact::Received);
        }
        self.judge(claim, now);
    }

    fn judge(&mut self, claim: Claim, now: Millis) {
        let Ok(invocation) = claim.invocation.clone() else {
            return cast(&self.aggregator, AggregatorMsg::Undecodable(claim));
        };
        let known = self.shared.registry.find(&invocation.headers.task);
        if let Some(ended) = &claim.ended {
            let (refusal, spec) = (admission::Refusal::Ended(ended.clone()), known.map(|known| known.spec));
            return cast(&self.aggregator, AggregatorMsg::Refused { claim, spec, refusal });
        }
        let arrival = Arrival {
            attempt: claim.debt.held().attempt,
            crashes: claim.crashes,
            lost: claim.lost,
            max_deliveries: self.shared.settings.max_deliveries,
        };
        let verdict = guarded(|| {
            self.shared.faults.hit("gate.admit");
            admission::admit(&invocation, known.as_ref().map(|known| &*known.spec), arrival, &self.revoked, now)
        });
        match (verdict, known) {
            (Ok(Verdict::Run), Some(Known { pool, spec })) => {
                self.pass(pool, Admitted { claim, invocation, spec, place: None }, now);
            }
            (Ok(Verdict::Run), None) => {
                let refusal = admission::Refusal::UnknownTask;
                cast(&self.aggregator, AggregatorMsg::Refused { claim, spec: None, refusal });
            }
            (Ok(Verdict::Hold { until }), _) => self.hold(claim, until, now),
            (Ok(Verdict::Refuse(refusal)), known) => {
                let spec = known.map(|known| known.spec);
                cast(&self.aggregator, AggregatorMsg::Refused { claim, spec, refusal });
            }
            (Err(panic), known) => {
                let spec = known.map(|known| known.spec);
                let detail = format!("admission panicked: {panic}");
                cast(&self.aggregator, AggregatorMsg::Poisonous { claim, spec, detail });
            }
        }
    }

    fn hold(&mut self, claim: Claim, until: Millis, now: Millis) {
        let wait = Duration::from_millis((until - now).max(0).unsigned_abs());
        if wait > HOLD_MAX {
            return cast(&self.aggregator, AggregatorMsg::Later { claim, due: until });
        }
        self.held += 1;
        self.wake(Instant::now() + wait, Wake::Held(Box::new(claim)));
    }

    fn pass(&mut self, pool: usize, task: Admitted, now: Millis) {
        let rules = self.shared.limits.in_force.borrow().clone();
        match rules.get(&task.spec.name) {
            Some(rule) if !rule.shared().is_empty() => self.needs_turn(pool, task, rule),
            _ => self.pass_alone(pool, task, now),
        }
    }

    /// The limit of a task that this node keeps by itself: the rule's for each node, else the task's own as it is now.
    fn own_rate(&self, spec: &TaskSpec) -> Option<Rate> {
        match self.shared.limits.in_force.borrow().get(&spec.name) {
            Some(rule) if rule.per_node => rule.parsed_rate(),
            Some(rule) if rule.rate.is_some() => None,
            _ => spec.rate_limit,
        }
    }

    /// Past the limit that this node keeps by itself, if there is one.
    fn pass_alone(&mut self, pool: usize, task: Admitted, now: Millis) {
        let Some(rate) = self.own_rate(&task.spec) else {
            self.batches[pool].push(task);
            return;
        };
        let name = task.spec.name.clone();
        let limited = self.limits.entry(name.clone()).or_insert_with(|| Limited::new(rate, pool, now));
        limited.change(rate, now);
        match limited.pass(task, now) {
            Pass::Now(task) => self.batches[pool].push(task),
            Pass::Waits { first_until: Some(until) } => self.wake_for_limit(name, until, now),
            Pass::Waits { first_until: None } => {}
            Pass::Later { task, due } => cast(&self.aggregator, AggregatorMsg::Later { claim: task.claim, due }),
        }
    }

    fn wake_for_limit(&mut self, name: TaskName, until: Millis, now: Millis) {
        let wait = Duration::from_millis((until - now).max(1).unsigned_abs());
        self.wake(Instant::now() + wait, Wake::Limit(name));
    }

    fn wake(&mut self, at: Instant, what: Wake) {
        self.came += 1;
        self.waking.insert((at, self.came), what);
        self.set_alarm();
    }

    fn set_alarm(&mut self) {
        self.alarm.set(self.waking.first_key_value().map(|((at, _), _)| *at));
    }

    fn due(&mut self) {
        self.alarm.rung();
        let now = clock::now();
        while let Some(first) = self.waking.first_entry() {
            if first.key().0 > Instant::now() {
                break;
            }
            match first.remove() {
                Wake::Held(claim) => {
                    self.held -= 1;
                    self.judge(*claim, now);
                }
                Wake::Limit(name) => self.open_limit(name, now),
                Wake::Turn(waiting) => self.turn_again(*waiting),
                Wake::Start(waiting) => self.booked(*waiting),
            }
        }
        self.ask();
        self.send_batches();
        self.set_alarm();
    }

    /// Lets those pass whose turn it is. They are judged again: they may have expired or been revoked meanwhile.
    fn open_limit(&mut self, name: TaskName, now: Millis) {
        let Some(limited) = self.limits.get_mut(&name) else { return };
        let (ready, next) = limited.open(now);
        let shed = next.map(|until| limited.shed(until, now)).unwrap_or_default();
        let (pool, waits) = (limited.pool, limited.waiting() > 0);
        self.let_go(pool, ready, now);
        for (task, due) in shed {
            cast(&self.aggregator, AggregatorMsg::Later { claim: task.claim, due });
        }
        if let Some(until) = next.filter(|_| waits) {
            self.wake_for_limit(name, until, now);
        }
    }

    /// Passes these on, but for those that nobody wants any more.
    fn let_go(&mut self, pool: usize, tasks: impl IntoIterator<Item = Admitted>, now: Millis) {
        for task in tasks {
            match self.still_runs(&task, now) {
                Ok(()) => self.batches[pool].push(task),
                Err(refusal) => task.refuse(refusal, &self.aggregator),
            }
        }
    }

    fn still_runs(&self, task: &Admitted, now: Millis) -> Result<(), admission::Refusal> {
        super::pool::still_runs(&self.shared, &self.revoked, task, now)
    }

    fn send_batches(&mut self) {
        for (pool, batch) in self.pools.iter().zip(&mut self.batches) {
            if !batch.is_empty() {
                cast(pool, PoolMsg::Run(std::mem::take(batch)));
            }
        }
    }

    /// Gives tasks that wait for their rate limit the rate that holds now.
    fn retune(&mut self, now: Millis) {
        let names: Vec<TaskName> = self.limits.keys().cloned().collect();
        for name in names {
            match self.shared.registry.find(&name).and_then(|known| self.own_rate(&known.spec)) {
                Some(rate) => {
                    if let Some(limited) = self.limits.get_mut(&name) {
                        limited.change(rate, now);
                    }
                    self.open_limit(name, now);
                }
                None => {
                    if let Some(limited) = self.limits.remove(&name) {
                        self.let_go(limited.pool, limited.into_waiting(), now);
                    }
                }
            }
        }
    }

    /// Every task it has.
    fn held(&self, now: Millis) -> Vec<HeldTask> {
        let held = self.waking.iter().filter_map(|((at, _), wake)| {
            let Wake::Held(claim) = wake else { return None };
            let invocation = claim.invocation.as_ref().ok()?.clone();
            let left = at.saturating_duration_since(Instant::now()).as_millis() as Millis;
            let due = invocation.headers.eta.as_ref().map_or(now + left, umbel_proto::Timestamp::millis);
            let held = claim.debt.held().clone();
            Some(HeldTask { invocation, held, acknowledged: claim.begun, stage: Stage::Scheduled { due } })
        });
        let limited = self.limits.values().flat_map(Limited::tasks).map(|task| HeldTask::new(task, Stage::Reserved));
        held.chain(limited).collect()
    }

    fn report(&self) -> GateReport {
        GateReport {
            held: self.held,
            limited: self.limits.values().map(Limited::waiting).sum::<usize>() + self.turns.waiting,
            revoked: self.revoked.iter().count(),
        }
    }
}
