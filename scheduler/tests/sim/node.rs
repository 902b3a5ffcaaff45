//! A node as a small state machine over the pure core: what came in goes in, what to send and when to be woken comes out.
//!
//! It does what the actors of `umbel` do, without actors: fetch by credits, admit, hold, begin, run, settle, commit until
//! there is an answer, conclude, sweep. Nothing of it outlives a crash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use umbel_proto::{DeliveryTag, GroupId, Invocation, Millis, NodeId, Outcome};
use umbel_scheduler::{
    Acknowledge, Answer, Commit, Effect, Fence, ReadyChord, Release, Settings, TaskSpec,
    admission::{Arrival, Verdict, admit},
    canvas::Specs,
    chord::conclude,
    revocation::Revoked,
    settlement::{Context, later, refuse, settle, started},
};

use crate::{
    dice::Dice,
    mutation::Mutation,
    plan::Network,
    store::Delivery,
    workload::{Tasks, error, outcome},
};

/// How long to wait for an answer.
const PATIENCE: Millis = 1_200;
/// How often leases are renewed.
const RENEW_EVERY: Millis = 1_000;
/// How often to look for chords that nobody has concluded.
const SWEEP_EVERY: Millis = 3_000;
/// The longest a message is held before its time.
const HOLD_MAX: Millis = 5_000;

/// What a node may ask of the store.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Fetch(u32),
    Renew(Vec<(DeliveryTag, u32)>),
    Commit(Box<Commit>),
    Unconcluded,
}

/// What it is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Fetched(Vec<Delivery>),
    Renewed,
    Committed(Answer),
    Unconcluded(Vec<ReadyChord>),
}

/// Why it is woken.
#[derive(Debug, Clone)]
pub(crate) enum Alarm {
    Fetch,
    FetchLate(u64),
    Renew,
    Sweep,
    Held(u64),
    Ended(u64),
    CommitLate(u64),
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Out {
    Send(u64, Ask),
    Wake(Millis, Alarm),
    /// A task has been started.
    Started(Delivery),
}

/// What a node depends on.
pub(crate) struct World<'a> {
    pub(crate) now: Millis,
    pub(crate) dice: &'a mut Dice,
    pub(crate) network: &'a Network,
    pub(crate) tasks: &'a Tasks,
    pub(crate) settings: &'a Settings,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) out: Vec<Out>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Held,
    Waiting,
    Beginning,
    Running,
    Ending,
}

#[derive(Debug)]
struct Claim {
    delivery: Delivery,
    begun: bool,
    stage: Stage,
}

#[derive(Debug, Clone)]
enum Then {
    Begun(u64),
    Ended(u64),
    Noted,
    Concluded(GroupId),
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeId,
    /// How much its clock is fast.
    pub(crate) skew: Millis,
    pub(crate) up: bool,
    /// How often it has been started; what was meant for an earlier life is not for this one.
    pub(crate) life: u32,
    /// It does nothing before this time.
    pub(crate) still_until: Millis,
    credits: u32,
    free: u32,
    slots: usize,
    next: u64,
    fetching: Option<(u64, u32)>,
    claims: BTreeMap<u64, Claim>,
    waiting: VecDeque<u64>,
    pending: BTreeMap<u64, (Commit, Then)>,
    concluding: BTreeSet<GroupId>,
    revoked: Revoked,
}

impl Node {
    pub(crate) fn new(index: usize, skew: Millis, credits: u32, slots: usize) -> Self {
        Self {
            name: NodeId::from(format!("n{index}")),
            skew,
            up: false,
            life: 0,
            still_until: 0,
            credits,
            free: credits,
            slots,
            next: 0,
            fetching: None,
            claims: BTreeMap::new(),
            waiting: VecDeque::new(),
            pending: BTreeMap::new(),
            concluding: BTreeSet::new(),
            revoked: Revoked::default(),
        }
    }

    /// Begins a life.
    pub(crate) fn start(&mut self, revoked: Revoked, world: &mut World<'_>) {
        let fresh = Self::new(0, self.skew, self.credits, self.slots);
        let (name, life, next) = (self.name.clone(), self.life + 1, self.next);
        *self = Self { name, life, next, up: true, revoked, ..fresh };
        for (after, alarm) in [(1, Alarm::Fetch), (RENEW_EVERY, Alarm::Renew), (SWEEP_EVERY, Alarm::Sweep)] {
            world.out.push(Out::Wake(after, alarm));
        }
    }

    /// Ends a life, without a word to anybody.
    pub(crate) fn crash(&mut self) {
        let fresh = Self::new(0, self.skew, self.credits, self.slots);
        *self = Self { name: self.name.clone(), life: self.life, next: self.next, ..fresh };
    }

    /// Whether every credit is free, being fetched with, or under a message.
    pub(crate) fn credits_hold(&self) -> bool {
        self.free + self.fetching.map_or(0, |(_, max)| max) + self.claims.len() as u32 == self.credits
    }

    /// Whether it has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.claims.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn wake(&mut self, alarm: Alarm, world: &mut World<'_>) {
        match alarm {
            Alarm::Fetch => self.fetch(world),
            Alarm::FetchLate(id) => {
                if let Some((_, max)) = self.fetching.take_if(|(waiting, _)| *waiting == id) {
                    self.free += max;
                    world.out.push(Out::Wake(1, Alarm::Fetch));
                }
            }
            Alarm::Renew => {
                let holds = self.claims.values().map(|claim| (claim.delivery.tag.clone(), claim.delivery.attempt)).collect();
                self.send(Ask::Renew(holds), world);
                world.out.push(Out::Wake(RENEW_EVERY, Alarm::Renew));
            }
            Alarm::Sweep => {
                if world.mutation != Some(Mutation::NoSweep) {
                    self.send(Ask::Unconcluded, world);
                }
                world.out.push(Out::Wake(SWEEP_EVERY, Alarm::Sweep));
            }
            Alarm::Held(claim) => self.judge(claim, world),
            Alarm::Ended(claim) => self.ended(claim, world),
            Alarm::CommitLate(id) => {
                if let Some((commit, _)) = self.pending.get(&id) {
                    world.out.push(Out::Send(id, Ask::Commit(Box::new(commit.clone()))));
                    world.out.push(Out::Wake(PATIENCE, Alarm::CommitLate(id)));
                }
            }
        }
        self.assign(world);
    }

    pub(crate) fn answered(&mut self, id: u64, reply: Reply, world: &mut World<'_>) {
        match reply {
            Reply::Fetched(deliveries) => self.fetched(id, deliveries, world),
            Reply::Renewed => {}
            Reply::Committed(answer) => self.committed(id, answer, world),
            Reply::Unconcluded(chords) => chords.iter().for_each(|chord| self.conclude(chord, world)),
        }
        self.assign(world);
    }

    /// What is revoked has changed.
    pub(crate) fn revoked(&mut self, revoked: Revoked, world: &mut World<'_>) {
        self.revoked = revoked;
        let covered = |claim: &Claim| self.revoked.covers(&claim.delivery.invocation);
        let hit: Vec<(u64, Stage)> = self.claims.iter().filter(|(_, claim)| covered(claim)).map(|(id, claim)| (*id, claim.stage)).collect();
        for (id, stage) in hit {
            match stage {
                Stage::Waiting => self.judge(id, world),
                Stage::Running => self.settle(id, Outcome::Revoked { terminated: true, signal: Some(15) }, world),
                Stage::Held | Stage::Beginning | Stage::Ending => {}
            }
        }
        self.assign(world);
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn send(&mut self, ask: Ask, world: &mut World<'_>) -> u64 {
        let id = self.id();
        world.out.push(Out::Send(id, ask));
        id
    }

    fn commit(&mut self, commit: Commit, then: Then, world: &mut World<'_>) {
        let id = self.send(Ask::Commit(Box::new(commit.clone())), world);
        self.pending.insert(id, (commit, then));
        world.out.push(Out::Wake(PATIENCE, Alarm::CommitLate(id)));
    }

    fn fetch(&mut self, world: &mut World<'_>) {
        if self.fetching.is_some() {
            return;
        }
        if self.free == 0 {
            return world.out.push(Out::Wake(200, Alarm::Fetch));
        }
        let max = 1 + world.dice.below(self.free as usize) as u32;
        self.free -= max;
        let id = self.send(Ask::Fetch(max), world);
        self.fetching = Some((id, max));
        world.out.push(Out::Wake(PATIENCE, Alarm::FetchLate(id)));
    }

    /// An answer that came too late is nobody's any more: its messages are not renewed, and their leases end.
    fn fetched(&mut self, id: u64, deliveries: Vec<Delivery>, world: &mut World<'_>) {
        let Some((_, max)) = self.fetching.take_if(|(waiting, _)| *waiting == id) else { return };
        self.free += max - deliveries.len() as u32;
        let pause = if deliveries.is_empty() { world.dice.between(200, 900) } else { 5 };
        world.out.push(Out::Wake(pause, Alarm::Fetch));
        for delivery in deliveries {
            let claim = self.id();
            self.claims.insert(claim, Claim { delivery, begun: false, stage: Stage::Held });
            self.judge(claim, world);
        }
    }

    fn verdict(&self, claim: &Claim, world: &World<'_>) -> Verdict {
        let delivery = &claim.delivery;
        let arrival = Arrival {
            attempt: delivery.attempt,
            crashes: delivery.crashes,
            lost: delivery.lost,
            max_deliveries: world.settings.max_deliveries,
        };
        let spec = world.tasks.spec(&delivery.invocation.headers.task);
        match admit(&delivery.invocation, spec, arrival, &self.revoked, world.now + self.skew) {
            Verdict::Hold { .. } if world.mutation == Some(Mutation::EarlyEta) => Verdict::Run,
            verdict => verdict,
        }
    }

    fn judge(&mut self, id: u64, world: &mut World<'_>) {
        let Some(claim) = self.claims.get(&id) else { return };
        let (verdict, crashes) = (self.verdict(claim, world), claim.delivery.crashes);
        match verdict {
            Verdict::Run => {
                self.set(id, Stage::Waiting);
                self.waiting.push_back(id);
            }
            Verdict::Hold { until } if until - world.now - self.skew <= HOLD_MAX => {
                world.out.push(Out::Wake(until - world.now - self.skew, Alarm::Held(id)));
            }
            Verdict::Hold { until } if world.mutation == Some(Mutation::JudgedTwice) => {
                self.end(id, vec![Effect::Release(Release::Requeue { due: Some(until), crashes })], world);
            }
            Verdict::Hold { until } => {
                let effects = later(&claim.delivery.invocation, until, crashes, &claim.delivery.queue);
                self.end(id, effects, world);
            }
            Verdict::Refuse(refusal) => {
                let effects = self.with_context(id, world, |invocation, context| {
                    let settlement = refuse(invocation, &refusal, context);
                    assert_eq!(settlement, refuse(invocation, &refusal, context), "a refusal was not the same twice");
                    settlement.effects
                });
                self.end(id, effects, world);
            }
        }
    }

    fn set(&mut self, id: u64, stage: Stage) {
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.stage = stage;
        }
    }

    fn busy(&self) -> usize {
        self.claims.values().filter(|claim| matches!(claim.stage, Stage::Beginning | Stage::Running)).count()
    }

    /// Gives waiting tasks to idle slots.
    fn assign(&mut self, world: &mut World<'_>) {
        while self.busy() < self.slots {
            let Some(id) = self.waiting.pop_front() else { return };
            let Some(claim) = self.claims.get(&id).filter(|claim| claim.stage == Stage::Waiting) else { continue };
            if let Verdict::Refuse(_) = self.verdict(claim, world) {
                self.judge(id, world);
                continue;
            }
            let spec = world.tasks.spec(&claim.delivery.invocation.headers.task).expect("all tasks are known");
            if spec.acknowledge == Acknowledge::Early {
                let commit = Commit { fence: fence(claim), effects: vec![Effect::Release(Release::Begin)] };
                self.set(id, Stage::Beginning);
                self.commit(commit, Then::Begun(id), world);
            } else {
                self.run(id, world);
            }
        }
    }

    fn run(&mut self, id: u64, world: &mut World<'_>) {
        self.set(id, Stage::Running);
        let Some(claim) = self.claims.get(&id) else { return };
        let (delivery, fence) = (claim.delivery.clone(), fence(claim));
        if !claim.begun
            && let Some(effect) = self.with_context(id, world, |invocation, context| started(invocation, context, 1))
        {
            self.commit(Commit { fence, effects: vec![effect] }, Then::Noted, world);
        }
        world.out.push(Out::Started(delivery));
        let long = if world.dice.chance(10) { 15_000 } else { 1_500 };
        let time = world.dice.between(1, long);
        world.out.push(Out::Wake(time, Alarm::Ended(id)));
    }

    fn ended(&mut self, id: u64, world: &mut World<'_>) {
        let Some(claim) = self.claims.get(&id).filter(|claim| claim.stage == Stage::Running) else { return };
        let outcome = if world.dice.chance(world.network.executor_dies) {
            Outcome::WorkerLost { detail: "signal 9 (SIGKILL)".to_owned() }
        } else if world.dice.chance(world.network.panics) {
            Outcome::Failure(error("panicked"))
        } else {
            outcome(&claim.delivery.invocation)
        };
        self.settle(id, outcome, world);
    }

    fn settle(&mut self, id: u64, outcome: Outcome, world: &mut World<'_>) {
        let mut effects = self.with_context(id, world, |invocation, context| {
            let settlement = settle(invocation, outcome.clone(), context);
            assert_eq!(settlement, settle(invocation, outcome, context), "a settlement was not the same twice");
            settlement.effects
        });
        if world.mutation == Some(Mutation::PartForgotten) {
            effects.retain(|effect| !matches!(effect, Effect::Part(_)));
        }
        self.end(id, effects, world);
    }

    fn with_context<T>(&self, id: u64, world: &mut World<'_>, decide: impl FnOnce(&Invocation, Context<'_>) -> T) -> T {
        let claim = &self.claims[&id];
        let invocation = &claim.delivery.invocation;
        let unknown = TaskSpec::new(invocation.headers.task.clone());
        let context = Context {
            spec: world.tasks.spec(&invocation.headers.task).unwrap_or(&unknown),
            specs: world.tasks,
            settings: world.settings,
            node: &self.name,
            queue: &claim.delivery.queue,
            crashes: claim.delivery.crashes,
            begun: claim.begun,
            now: world.now + self.skew,
            dice: world.dice.unit(),
        };
        decide(invocation, context)
    }

    fn end(&mut self, id: u64, effects: Vec<Effect>, world: &mut World<'_>) {
        self.set(id, Stage::Ending);
        let commit = Commit { fence: fence(&self.claims[&id]), effects };
        self.commit(commit, Then::Ended(id), world);
    }

    fn committed(&mut self, id: u64, answer: Answer, world: &mut World<'_>) {
        let Some((_, then)) = self.pending.remove(&id) else { return };
        let refused = answer == Answer::Refused;
        match then {
            Then::Begun(claim) if refused => self.let_go(claim, refused, world),
            Then::Begun(id) => {
                if let Some(claim) = self.claims.get_mut(&id) {
                    claim.begun = true;
                    self.run(id, world);
                }
            }
            Then::Ended(claim) => self.let_go(claim, refused, world),
            Then::Noted => {}
            Then::Concluded(group) => {
                self.concluding.remove(&group);
            }
        }
        if let Answer::Done { ready } = answer {
            ready.iter().for_each(|chord| self.conclude(chord, world));
        }
    }

    fn let_go(&mut self, claim: u64, refused: bool, world: &World<'_>) {
        if self.claims.remove(&claim).is_some() && !(refused && world.mutation == Some(Mutation::CreditLeak)) {
            self.free += 1;
        }
    }

    fn conclude(&mut self, chord: &ReadyChord, world: &mut World<'_>) {
        if !self.concluding.insert(chord.group.clone()) {
            return;
        }
        let commit = conclude(chord, world.settings, world.tasks, world.now + self.skew);
        self.commit(commit, Then::Concluded(chord.group.clone()), world);
    }
}

/// The condition of what is committed in a claim's name.
fn fence(claim: &Claim) -> Fence {
    Fence::Delivery { tag: claim.delivery.tag.clone(), attempt: claim.delivery.attempt, run: None }
}
