//! The supervisor: starts the pipeline, restarts what dies, and ends it in order.
//!
//! **What it owns.** All actors of the node, as its children; the seat of the subscription. **Who sends to it.** The node's
//! handle, its own alarm, and its children by dying. **What it sends on.** Drains and reports. **What bounds it.** Nothing of
//! a task passes through it.
//!
//! Those beside the pipeline ([`super::beside`]) are started again by themselves, and nothing waits for them.
//!
//! **When a part dies**, exactly those upstream of it are ended as well and all are started again, downstream first
//! ([`super::rest_for_one`]); too often, and the node stops with an error rather than spin. **When it dies itself**, the
//! node is over: its children are killed with it and the lease gives back what they held.
//!
//! **The end.** Draining goes down the line: the consumer stops fetching and tells the gate, the gate gives back what it
//! holds and tells the pools, the pools give back what waits and finish what runs, and each stops itself; the aggregator
//! ends when all is durable, and last the subscription is closed. At the deadline the pools hand back what still runs.

mod asking;
mod orders;
mod scaling;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use umbel_proto::Millis;
use umbel_scheduler::restart::{Restart, RestartMeter};

use super::{
    Shared,
    aggregator::{Aggregator, AggregatorMsg},
    alarm::Alarm,
    beside::{Beside, Side},
    cast,
    consumer::{Consumer, ConsumerArgs, ConsumerMsg, Seat},
    events,
    gate::{Gate, GateArgs, GateMsg},
    gauges::Standing,
    pool::{ExecutorPool, PoolArgs, PoolMsg},
    report::{NodeReport, Phase},
    rest_for_one::{Fallen, Part, RestForOne},
};
use crate::{clock, node::NodeError};

pub(crate) use orders::Order;
use scaling::Scaling;

/// The most restarts within [`RESTART_WINDOW_MS`] before the node stops with an error. With the meter's delays, a part that
/// dies each time at once reaches it in about twenty seconds.
const RESTARTS_MAX: u32 = 10;
const RESTART_WINDOW_MS: Millis = 60_000;

/// How long what has ended may take to become durable after the deadline, and the subscription to close.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// How long saying farewell may take: a few ways there and back.
const FAREWELL: Duration = Duration::from_millis(100);

/// The actor.
pub(crate) struct Supervisor;

/// What it is started with.
pub(crate) struct SupervisorArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) seat: Seat,
    /// The slots of each pool.
    pub(crate) slots: Vec<usize>,
    /// Whether the size of each pool follows its work.
    pub(crate) follow: Vec<bool>,
    /// Told once how it ended.
    pub(crate) ended: watch::Sender<Option<Result<(), NodeError>>>,
}

/// What it is told.
pub(crate) enum SupervisorMsg {
    /// End: at once what has not started, and what runs after `grace` at the latest.
    Shutdown { grace: Duration },
    /// The alarm rang.
    Due,
    /// The subscription is closed.
    Closed,
    /// Do something about the tasks it has or the room for them.
    Order(Order),
    /// Report.
    Report(RpcReplyPort<NodeReport>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Aggregator,
    Pool(usize),
    Gate,
    Consumer,
}

impl Part for Place {
    fn stage(self) -> usize {
        match self {
            Self::Aggregator => 0,
            Self::Pool(_) => 1,
            Self::Gate => 2,
            Self::Consumer => 3,
        }
    }
}

impl Place {
    fn as_str(self) -> &'static str {
        match self {
            Self::Aggregator => "aggregator",
            Self::Pool(_) => "pool",
            Self::Gate => "gate",
            Self::Consumer => "consumer",
        }
    }
}

/// An actor, as one thing among others.
#[derive(Debug)]
struct Handle(ActorCell);

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.0.get_id() == other.0.get_id()
    }
}

/// The addresses of those alive.
#[derive(Debug, Clone, Default)]
struct Addresses {
    aggregator: Option<ActorRef<AggregatorMsg>>,
    pools: Vec<Option<ActorRef<PoolMsg>>>,
    gate: Option<ActorRef<GateMsg>>,
    consumer: Option<ActorRef<ConsumerMsg>>,
}

pub(crate) struct State {
    shared: Arc<Shared>,
    seat: Seat,
    slots: Vec<usize>,
    scaling: Scaling,
    ended: watch::Sender<Option<Result<(), NodeError>>>,
    line: RestForOne<Place, Handle>,
    alive: Addresses,
    beside: Beside,
    phase: Phase,
    started: Millis,
    restarts: BTreeMap<&'static str, u64>,
    restart_at: Option<Instant>,
    deadline: Option<Instant>,
    /// The deadline has passed once: the next time is the last.
    abandoned: bool,
    closing: bool,
    outcome: Result<(), NodeError>,
    alarm: Alarm,
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = State;
    type Arguments = SupervisorArgs;

    async fn pre_start(&self, myself: ActorRef<SupervisorMsg>, args: SupervisorArgs) -> Result<State, ActorProcessingErr> {
        let SupervisorArgs { shared, seat, slots, follow, ended } = args;
        let pools = (0..slots.len()).map(Place::Pool);
        let places = [Place::Aggregator].into_iter().chain(pools).chain([Place::Gate, Place::Consumer]);
        let line = RestForOne::new(places, RestartMeter::new(RESTARTS_MAX, RESTART_WINDOW_MS));
        let alive = Addresses { pools: vec![None; slots.len()], ..Addresses::default() };
        let restarts = [Place::Aggregator, Place::Pool(0), Place::Gate, Place::Consumer].map(|place| (place.as_str(), 0)).into();
        Ok(State {
            shared,
            seat,
            slots,
            scaling: Scaling::new(&follow),
            ended,
            line,
            alive,
            beside: Beside::new(),
            phase: Phase::Running,
            started: clock::now(),
            restarts,
            restart_at: None,
            deadline: None,
            abandoned: false,
            closing: false,
            outcome: Ok(()),
            alarm: Alarm::new(move || cast(&myself, SupervisorMsg::Due)),
        })
    }

    async fn post_start(&self, myself: ActorRef<SupervisorMsg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.start_missing(&myself).await?;
        state.beside.start_due(&state.shared, &myself.get_cell()).await;
        state.set_alarm();
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<SupervisorMsg>, message: SupervisorMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Shutdown { grace } => state.shutdown(&myself, grace),
            SupervisorMsg::Due => state.due(&myself).await?,
            SupervisorMsg::Closed => myself.stop(None),
            SupervisorMsg::Order(order) => state.order(order),
            SupervisorMsg::Report(port) => state.report(port),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let ended = match &event {
            SupervisionEvent::ActorFailed(actor, error) => Some((actor, error.to_string())),
            SupervisionEvent::ActorTerminated(actor, _, reason) => Some((actor, reason.clone().unwrap_or_else(|| "it stopped".to_owned()))),
            _ => None,
        };
        if let Some((actor, why)) = &ended
            && state.beside.ended(actor, why, clock::now())
        {
            state.set_alarm();
            return Ok(());
        }
        match event {
            SupervisionEvent::ActorFailed(actor, error) => state.died(&myself, actor, &error.to_string()),
            SupervisionEvent::ActorTerminated(actor, ..) if state.phase == Phase::Draining => {
                state.line.ended(&Handle(actor));
                state.drain(&myself);
            }
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                state.died(&myself, actor, reason.as_deref().unwrap_or("it stopped"));
            }
            _ => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<SupervisorMsg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.phase = Phase::Stopped;
        state.ended.send_replace(Some(state.outcome.clone()));
        Ok(())
    }
}

impl State {
    async fn start_missing(&mut self, myself: &ActorRef<SupervisorMsg>) -> Result<(), ActorProcessingErr> {
        for place in self.line.missing() {
            let cell = self.start(place, myself.get_cell()).await?;
            self.line.started(place, Handle(cell));
        }
        Ok(())
    }

    async fn start(&mut self, place: Place, supervisor: ActorCell) -> Result<ActorCell, ActorProcessingErr> {
        let shared = self.shared.clone();
        let missing = || format!("the {} was to be started before those downstream of it", place.as_str());
        let aggregator = || self.alive.aggregator.clone().ok_or_else(missing);
        Ok(match place {
            Place::Aggregator => {
                let (actor, _) = Aggregator::spawn_linked(None, Aggregator, shared, supervisor).await?;
                self.alive.aggregator.insert(actor).get_cell()
            }
            Place::Pool(index) => {
                let args = PoolArgs { shared, aggregator: aggregator()?, index, slots: self.slots[index] };
                let (actor, _) = ExecutorPool::spawn_linked(None, ExecutorPool, args, supervisor).await?;
                self.alive.pools[index].insert(actor).get_cell()
            }
            Place::Gate => {
                let pools = self.alive.pools.iter().cloned().collect::<Option<Vec<_>>>().ok_or_else(missing)?;
                let args = GateArgs { shared, aggregator: aggregator()?, pools };
                let (actor, _) = Gate::spawn_linked(None, Gate, args, supervisor).await?;
                self.alive.gate.insert(actor).get_cell()
            }
            Place::Consumer => {
                let gate = self.alive.gate.clone().ok_or_else(missing)?;
                let args = ConsumerArgs { shared, gate, seat: self.seat.clone() };
                let (actor, _) = Consumer::spawn_linked(None, Consumer, args, supervisor).await?;
                self.alive.consumer.insert(actor).get_cell()
            }
        })
    }

    fn died(&mut self, myself: &ActorRef<SupervisorMsg>, actor: ActorCell, why: &str) {
        let Some(Fallen { part, others, restart }) = self.line.died(&Handle(actor), clock::now()) else { return };
        self.gone(part);
        for (place, handle) in others {
            self.gone(place);
            // Its claims go back as it goes.
            handle.0.kill();
        }
        tracing::error!(part = part.as_str(), "a part of the pipeline died: {why}");
        if self.phase == Phase::Draining {
            return self.drain(myself);
        }
        match restart {
            Restart::After(delay) => {
                let at = Instant::now() + Duration::from_millis(delay.max(0).unsigned_abs());
                self.phase = Phase::Restarting;
                self.restart_at = Some(self.restart_at.map_or(at, |sooner| sooner.max(at)));
                self.set_alarm();
            }
            Restart::GiveUp => {
                tracing::error!(part = part.as_str(), "the pipeline dies too often; stopping");
                self.outcome = Err(NodeError::GaveUp { part: part.as_str(), reason: why.to_owned() });
                self.shutdown(myself, Duration::ZERO);
            }
        }
    }

    fn gone(&mut self, place: Place) {
        match place {
            Place::Aggregator => self.alive.aggregator = None,
            Place::Pool(index) => self.alive.pools[index] = None,
            Place::Gate => self.alive.gate = None,
            Place::Consumer => self.alive.consumer = None,
        }
    }

    async fn due(&mut self, myself: &ActorRef<SupervisorMsg>) -> Result<(), ActorProcessingErr> {
        self.alarm.rung();
        let now = Instant::now();
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            for place in self.line.missing() {
                *self.restarts.entry(place.as_str()).or_default() += 1;
            }
            if let Err(error) = self.start_missing(myself).await {
                tracing::error!("a part of the pipeline cannot be started again: {error}");
                self.outcome = Err(NodeError::GaveUp { part: "supervisor", reason: error.to_string() });
                self.shutdown(myself, Duration::ZERO);
                return Ok(());
            }
            self.phase = Phase::Running;
        }
        if self.deadline.is_some_and(|at| at <= now) {
            self.abandon(myself);
        }
        self.beside.start_due(&self.shared, &myself.get_cell()).await;
        if self.scaling.next().is_some_and(|at| at <= now) {
            self.scale();
        }
        self.set_alarm();
        Ok(())
    }

    fn set_alarm(&mut self) {
        self.alarm.set(self.restart_at.into_iter().chain(self.deadline).chain(self.beside.next()).chain(self.scaling.next()).min());
    }

    fn shutdown(&mut self, myself: &ActorRef<SupervisorMsg>, grace: Duration) {
        if self.phase != Phase::Draining {
            tracing::info!(grace_secs = grace.as_secs_f64(), "stopping: no more tasks are taken");
        }
        self.phase = Phase::Draining;
        // Another node may as well lead at once.
        self.beside.end(Side::Beat);
        self.shared.gauges.stand(Standing::Draining);
        self.restart_at = None;
        if !self.abandoned {
            let deadline = Instant::now() + grace;
            // A second order may only shorten what is left.
            self.deadline = Some(self.deadline.map_or(deadline, |sooner| sooner.min(deadline)));
        }
        self.set_alarm();
        self.drain(myself);
    }

    /// Takes the next step of the end. Each step may be taken twice.
    fn drain(&mut self, myself: &ActorRef<SupervisorMsg>) {
        let left = self.line.missing();
        for place in &left {
            self.gone(*place);
        }
        let alive = &self.alive;
        if let Some(consumer) = &alive.consumer {
            return cast(consumer, ConsumerMsg::Drain);
        }
        if let Some(gate) = &alive.gate {
            return cast(gate, GateMsg::Drain);
        }
        if alive.pools.iter().any(Option::is_some) {
            return alive.pools.iter().flatten().for_each(|pool| cast(pool, PoolMsg::Drain));
        }
        if let Some(aggregator) = &alive.aggregator {
            return cast(aggregator, AggregatorMsg::Drain);
        }
        if self.line.is_empty() && !std::mem::replace(&mut self.closing, true) {
            self.deadline = None;
            self.set_alarm();
            self.shared.gauges.stand(Standing::Leaving);
            let (seat, myself, shared) = (self.seat.clone(), myself.clone(), self.shared.clone());
            crate::task::spawn(async move {
                tokio::join!(close(seat), farewell(&shared), events::farewell(&shared));
                cast(&myself, SupervisorMsg::Closed);
            });
        }
    }

    /// The deadline: what runs is handed back. The second time, what is not durable by then is left to the lease.
    fn abandon(&mut self, myself: &ActorRef<SupervisorMsg>) {
        let last = std::mem::replace(&mut self.abandoned, true);
        self.deadline = (!last).then(|| Instant::now() + LAST_GRACE);
        let cells = [self.alive.consumer.as_ref().map(ActorRef::get_cell), self.alive.gate.as_ref().map(ActorRef::get_cell)];
        cells.into_iter().flatten().for_each(|cell| cell.kill());
        if last {
            let pools = self.alive.pools.iter().flatten().map(ActorRef::get_cell);
            pools.chain(self.alive.aggregator.as_ref().map(ActorRef::get_cell)).for_each(|cell| cell.kill());
        } else {
            self.alive.pools.iter().flatten().for_each(|pool| cast(pool, PoolMsg::Abandon));
        }
        self.drain(myself);
    }
}

/// Gives the word that this node leaves time to be heard; those who miss it will find out by themselves.
async fn farewell(shared: &Shared) {
    if shared.gossip.is_some() && shared.cluster.borrow().others().next().is_some() {
        tokio::time::sleep(FAREWELL).await;
    }
}

/// Gives back what is still held and ends the lease; a broker that does not answer ends it by itself.
async fn close(seat: Seat) {
    let closed = timeout(LAST_GRACE, async {
        let seated = seat.lock().await.take();
        match seated {
            Some(seated) => seated.subscription.close().await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    });
    match closed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("the subscription could not be closed: {error}; its lease will end by itself"),
        Err(_) => tracing::warn!("the broker does not answer; the node's lease will end by itself"),
    }
}
