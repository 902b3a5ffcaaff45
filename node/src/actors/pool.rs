//! The pool: pairs tasks with the slots of one executor, and keeps their claims while they run.
//!
//! **What it owns.** The slots, which are its children (one_for_one); the claims of tasks that wait, begin or run; their
//! time limits. **Who sends to it.** The gate; its slots; its own alarm; the aggregator's answers to early acknowledgements
//! (as calls of a closure, so that the aggregator knows no pool). **What it sends on.** Starts, progress and endings, to the
//! aggregator. **What bounds it.** The credits of the claims; a slot has one job at a time, and a few behind it that have not begun
//! where tasks are short (`handing.rs`).
//!
//! **When a slot dies**, the claim that is kept here is settled as the loss of its worker, and another slot is started.
//! **When the pool dies**, its slots are killed with it, so that nothing runs whose claim is gone; the claims go back to
//! their queues (a task that was acknowledged early is recorded as lost), and gate and consumer are restarted with it.

mod ahead;
mod deadlines;
mod handing;
mod listing;
mod resizing;
mod runs;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::AtomicU32},
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Millis, TaskId};
use umbel_scheduler::{
    admission::{self, Arrival, Refusal, Verdict},
    devices::Device,
    placement::Offer,
    restart::{Restart, RestartMeter},
    revocation::Revoked,
};

use self::{
    ahead::Ahead,
    deadlines::{Deadline, Deadlines},
    handing::Hand,
    runs::Work,
};
use super::{
    Admitted, Shared,
    aggregator::{AggregatorMsg, Began},
    alarm::Alarm,
    cast, guarded,
    held::{HeldTask, Which},
    reply,
    report::PoolReport,
    slot::{ExecutorSlot, SlotArgs, SlotMsg, SlotNews},
};
use crate::{
    clock,
    executors::{Executor, Opening, SlotDied},
    facts::Fact,
};

/// How long a task that was told to end may take to do so, before its slot is given up.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// After how many takings a message that waits for a slot is not given back to others any more.
const GIVEN_BACK_MAX: u32 = 4;

/// The delay before the next slot while slots die under their tasks all the time.
const CRASH_LOOP_DELAY: Duration = Duration::from_secs(1);

/// The actor.
pub(crate) struct ExecutorPool;

/// What it is started with.
pub(crate) struct PoolArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) aggregator: ActorRef<AggregatorMsg>,
    /// Which of the node's executors it is for.
    pub(crate) index: usize,
    /// How many slots it has.
    pub(crate) slots: usize,
}

/// A slot of the pool, and which incarnation of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotPlace {
    pub(crate) index: usize,
    pub(crate) incarnation: u64,
}

/// What it is told.
pub(crate) enum PoolMsg {
    /// Run these.
    Run(Vec<Admitted>),
    /// This is what is revoked now.
    Revoked(Arc<Revoked>),
    /// What became of the early acknowledgement of a task.
    Began { index: usize, run: u64, began: Began },
    /// What became of one that was asked for before a slot is free.
    BegunAhead { number: u64, began: Began },
    /// A slot can run tasks; where the process is written that it runs them in, if it is not the node's own; whether it can begin a task
    /// by itself when one has ended.
    SlotOpened { place: SlotPlace, process: Option<Arc<AtomicU32>>, takes_ahead: bool },
    /// What has become of the tasks of a slot, in order.
    Told { place: SlotPlace, news: Vec<SlotNews> },
    /// Placement allows so many messages; others could begin what waits here.
    Offered(u32),
    /// The alarm rang.
    Due,
    /// Nothing more comes: give back what waits, finish what runs, and end.
    Drain,
    /// Hand back what runs as well, and end.
    Abandon,
    /// Have so many slots from now on.
    Resize(usize),
    /// Put other slots in the place of all of them.
    Renew,
    /// Which tasks it has.
    Held(RpcReplyPort<Vec<HeldTask>>),
    /// End tasks it has, and say which.
    Terminate { which: Which, signal: i32, port: RpcReplyPort<Vec<TaskId>> },
    /// Report.
    Report(RpcReplyPort<PoolReport>),
}

#[derive(Default)]
struct Seat {
    incarnation: u64,
    actor: Option<ActorRef<SlotMsg>>,
    open: bool,
    work: Work,
    /// What its slot was handed behind that.
    hand: Hand,
    /// It is not to be used any more.
    retired: bool,
    /// Its slot is to be replaced when it has nothing to do.
    renew: bool,
    /// Where its process is written, if it has one.
    process: Option<Arc<AtomicU32>>,
}

pub(crate) struct State {
    shared: Arc<Shared>,
    /// Which of the node's pools it is.
    index: usize,
    aggregator: ActorRef<AggregatorMsg>,
    executor: Arc<dyn Executor>,
    myself: ActorRef<PoolMsg>,
    seats: Vec<Seat>,
    by_actor: HashMap<ActorId, usize>,
    /// Seats that can take a task; the last one freed first, as its caches are warm.
    idle: Vec<usize>,
    /// Whether its slots can begin tasks by themselves; all of one executor can, or none.
    takes_ahead: bool,
    waiting: VecDeque<Admitted>,
    /// Tasks that come before those, and that are acknowledged already or will be in a moment.
    ahead: Ahead,
    revoked: Arc<Revoked>,
    deadlines: Deadlines,
    alarm: Alarm,
    meter: RestartMeter,
    runs: u64,
    slot_restarts: u64,
    draining: bool,
    _listening: AbortOnDropHandle<()>,
}

impl Actor for ExecutorPool {
    type Msg = PoolMsg;
    type State = State;
    type Arguments = PoolArgs;

    async fn pre_start(&self, myself: ActorRef<PoolMsg>, args: PoolArgs) -> Result<State, ActorProcessingErr> {
        let PoolArgs { shared, aggregator, index, slots } = args;
        let ring = myself.clone();
        let (mut offer, told) = (shared.credits.offer.subscribe(), myself.clone());
        let listening = crate::task::spawn(async move {
            while offer.changed().await.is_ok() {
                let Offer { messages, .. } = *offer.borrow_and_update();
                cast(&told, PoolMsg::Offered(messages));
            }
        });
        Ok(State {
            index,
            executor: shared.registry.executors()[index].clone(),
            aggregator,
            seats: (0..slots).map(|_| Seat::default()).collect(),
            by_actor: HashMap::new(),
            idle: Vec::with_capacity(slots),
            takes_ahead: false,
            waiting: VecDeque::new(),
            ahead: Ahead::default(),
            revoked: shared.broker.revoked().borrow().clone(),
            deadlines: Deadlines::default(),
            alarm: Alarm::new(move || cast(&ring, PoolMsg::Due)),
            // Idle slots that die, or cannot be opened, this often are no accident.
            meter: RestartMeter::new(5 + 2 * u32::try_from(slots).unwrap_or(u32::MAX / 4), 60_000),
            runs: 0,
            slot_restarts: 0,
            draining: false,
            _listening: AbortOnDropHandle::new(listening),
            myself,
            shared,
        })
    }

    async fn post_start(&self, _: ActorRef<PoolMsg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        for index in 0..state.seats.len() {
            state.open_slot(index).await?;
        }
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<PoolMsg>, message: PoolMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            PoolMsg::Run(tasks) => {
                state.shared.faults.hit("pool.run");
                if !state.draining {
                    state.waiting.extend(tasks);
                    state.assign();
                }
            }
            PoolMsg::Told { place, news } => state.told(place, news),
            PoolMsg::Began { index, run, began } => state.began(index, run, began),
            PoolMsg::BegunAhead { number, began } => state.begun_ahead(number, began),
            PoolMsg::SlotOpened { place, process, takes_ahead } => state.slot_opened(place, process, takes_ahead),
            PoolMsg::Revoked(revoked) => state.revoke(revoked),
            PoolMsg::Offered(messages) => state.make_room(messages),
            PoolMsg::Due => state.due().await?,
            PoolMsg::Drain => {
                state.draining = true;
                state.waiting.clear();
                state.announce_end();
            }
            PoolMsg::Abandon => {
                state.abandon();
                myself.stop(Some("abandoned".to_owned()));
            }
            PoolMsg::Resize(slots) if !state.draining => state.resize(slots).await?,
            PoolMsg::Renew if !state.draining => state.renew().await?,
            PoolMsg::Resize(_) | PoolMsg::Renew => {}
            PoolMsg::Held(port) => reply(port, state.held()),
            PoolMsg::Terminate { which, signal, port } => reply(port, state.terminate_some(&which, signal)),
            PoolMsg::Report(port) => reply(port, state.report()),
        }
        state.tell();
        if state.is_drained() {
            myself.stop(Some("drained".to_owned()));
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PoolMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, detail) = match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                let detail = error.downcast_ref::<SlotDied>().map_or_else(|| error.to_string(), |died| died.detail.clone());
                (actor, detail)
            }
            SupervisionEvent::ActorTerminated(actor, _, reason) => (actor, reason.unwrap_or_else(|| "it ended".to_owned())),
            _ => return Ok(()),
        };
        // Slots that were given up are not here any more.
        let Some(index) = state.by_actor.remove(&actor.get_id()) else { return Ok(()) };
        state.slot_died(index, detail)?;
        state.tell();
        if state.is_drained() {
            myself.stop(Some("drained".to_owned()));
        }
        Ok(())
    }
}

impl State {
    /// Whether it has done everything that is to be done before it ends.
    fn is_drained(&self) -> bool {
        self.draining && self.ahead.is_empty() && self.seats.iter().all(|seat| matches!(seat.work, Work::None) && seat.hand.is_empty())
    }

    async fn open_slot(&mut self, index: usize) -> Result<(), ActorProcessingErr> {
        self.seats[index].incarnation += 1;
        let place = SlotPlace { index, incarnation: self.seats[index].incarnation };
        let args = SlotArgs {
            executor: self.executor.clone(),
            opening: Opening { slot: index, device: self.device(index) },
            pool: self.myself.clone(),
            place,
            faults: self.shared.faults.clone(),
        };
        let (actor, _) = ExecutorSlot::spawn_linked(None, ExecutorSlot, args, self.myself.get_cell()).await?;
        self.by_actor.insert(actor.get_id(), index);
        self.seats[index].actor = Some(actor);
        Ok(())
    }

    /// The device of a slot, for as long as there is that slot.
    fn device(&self, index: usize) -> Option<Device> {
        self.shared.devices.of_slot(index).filter(|_| self.executor.has_devices())
    }

    fn slot_opened(&mut self, place: SlotPlace, process: Option<Arc<AtomicU32>>, takes_ahead: bool) {
        let seat = &mut self.seats[place.index];
        if seat.incarnation == place.incarnation && seat.actor.is_some() {
            seat.open = true;
            seat.process = process;
            seat.hand = Hand::new(takes_ahead);
            self.takes_ahead |= takes_ahead;
            if matches!(seat.work, Work::None) {
                self.free(place.index);
            }
            self.assign();
        }
    }

    /// A slot ended by itself.
    fn slot_died(&mut self, index: usize, detail: String) -> Result<(), ActorProcessingErr> {
        let worked = matches!(self.seats[index].work, Work::Running(_));
        tracing::warn!(executor = self.executor.kind(), slot = index, working = worked, "an executor died: {detail}");
        self.lost(index, detail);
        let delay = match self.meter.died(clock::now()) {
            Restart::After(delay) => Duration::from_millis(delay.max(0).unsigned_abs()),
            // Tasks that kill their executors are stopped by the count of their crashes, never by stopping the node.
            Restart::GiveUp if worked => CRASH_LOOP_DELAY,
            Restart::GiveUp => return Err(format!("the {} executor cannot be kept alive", self.executor.kind()).into()),
        };
        self.replace(index, delay);
        Ok(())
    }

    /// Takes a dead slot out, and settles what it ran.
    fn lost(&mut self, index: usize, detail: String) {
        let seat = &mut self.seats[index];
        seat.actor = None;
        seat.open = false;
        seat.process = None;
        self.idle.retain(|idle| *idle != index);
        if let Work::Running(mut running) = std::mem::take(&mut self.seats[index].work) {
            let outcome = running.lost(detail.clone());
            self.end(index, *running, outcome, None);
        }
        self.lose_hand(index, &detail);
    }

    fn replace(&mut self, index: usize, delay: Duration) {
        if self.seats[index].retired {
            return;
        }
        self.slot_restarts += 1;
        self.deadlines.insert(Instant::now() + delay, index, Deadline::Replace);
        self.set_alarm();
    }

    /// Gives up a slot that does not end its run: kills it, and starts another.
    fn give_up(&mut self, index: usize) {
        if let Some(actor) = self.seats[index].actor.take() {
            self.by_actor.remove(&actor.get_id());
            actor.get_cell().kill();
        }
        self.lost(index, "it did not end when it was told to".to_owned());
        self.replace(index, Duration::ZERO);
    }

    async fn due(&mut self) -> Result<(), ActorProcessingErr> {
        self.alarm.rung();
        self.give_stale_back(Instant::now());
        while let Some((index, deadline)) = self.deadlines.pop_due(Instant::now()) {
            match deadline {
                Deadline::Soft => self.hurry(index),
                Deadline::Hard => self.hard_limit(index),
                Deadline::Grace => self.give_up(index),
                Deadline::Replace if self.seats[index].retired || self.seats[index].actor.is_some() => {}
                Deadline::Replace => self.open_slot(index).await?,
            }
        }
        self.set_alarm();
        Ok(())
    }

    fn set_alarm(&mut self) {
        self.alarm.set(self.deadlines.next().into_iter().chain(self.ahead_alarm()).min());
    }

    fn revoke(&mut self, revoked: Arc<Revoked>) {
        self.revoked = revoked;
        self.refuse_ahead(None);
        self.call_back_refused(None);
        let waiting = std::mem::take(&mut self.waiting);
        for task in waiting {
            if self.revoked.covers(&task.invocation) {
                self.refuse(task, Refusal::Revoked);
            } else {
                self.waiting.push_back(task);
            }
        }
        for index in 0..self.seats.len() {
            self.terminate_revoked(index);
        }
        self.set_alarm();
    }

    /// Gives back what waits here beyond what placement allows: others can begin it at once. What has been taken often stays,
    /// so that no message is handed to and fro until it counts as poison.
    fn make_room(&mut self, messages: u32) {
        let beyond = self.shared.credits.in_use().saturating_sub(messages) as usize;
        let stays = self.waiting.len().saturating_sub(beyond);
        for task in self.waiting.split_off(stays) {
            let held = task.claim.debt.held();
            if task.claim.begun || held.attempt > GIVEN_BACK_MAX {
                self.waiting.push_back(task);
            } else {
                let detail = "another node can begin it at once".to_owned();
                self.shared.facts.tell(Some(&task.invocation), held, Fact::Requeued { detail });
            }
        }
    }

    fn refuse(&self, task: Admitted, refusal: Refusal) {
        task.refuse(refusal, &self.aggregator);
    }

    /// Writes down how busy it is.
    fn tell(&self) {
        let busy = self.seats.iter().filter(|seat| !matches!(seat.work, Work::None)).count();
        self.shared.gauges.pools[self.index].set(self.slots(), busy, self.waits());
    }

    /// How many tasks wait here.
    fn waits(&self) -> usize {
        self.waiting.len() + self.ahead.len() + self.handed()
    }

    fn report(&self) -> PoolReport {
        PoolReport {
            executor: self.executor.kind(),
            slots: self.slots(),
            processes: self.processes(),
            devices: self.devices(),
            alive: self.seats.iter().filter(|seat| seat.open).count(),
            waiting: self.waits(),
            slot_restarts: self.slot_restarts,
            running: self.seats.iter().filter_map(|seat| seat.work.report()).collect(),
            draining: self.draining,
        }
    }
}

/// Whether a task that has waited may still run: it may have expired or been revoked since (Celery looks twice as well,
/// `celery/worker/request.py::revoked`).
pub(crate) fn still_runs(shared: &Shared, revoked: &Revoked, task: &Admitted, now: Millis) -> Result<(), Refusal> {
    let claim = &task.claim;
    let arrival = Arrival {
        attempt: claim.debt.held().attempt,
        crashes: claim.crashes,
        lost: claim.lost,
        max_deliveries: shared.settings.max_deliveries,
    };
    match guarded(|| admission::admit(&task.invocation, Some(&task.spec), arrival, revoked, now)) {
        Ok(Verdict::Refuse(refusal)) => Err(refusal),
        // It was admitted before; a panic now is no reason to refuse it.
        Ok(Verdict::Run | Verdict::Hold { .. }) | Err(_) => Ok(()),
    }
}
