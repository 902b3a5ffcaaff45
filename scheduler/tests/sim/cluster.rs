//! The cluster: nodes, the network between them and the store, and virtual time. One thread, one event after the other.

use std::collections::{BTreeMap, VecDeque};

use umbel_proto::{Map, Millis, ResultTuple};
use umbel_scheduler::{
    Answer, Commit, Effect, Fence, Settings,
    canvas::{Launch, launch},
    revocation::Revocation,
};

use crate::{
    dice::Dice,
    mutation::{Invariant, Mutation, Violation, demand},
    node::{Alarm, Ask, Node, Out, Reply, World},
    plan::{HEAL, Network, Operation, Plan},
    store::Store,
    witness::Witness,
    workload::Tasks,
};

/// How long everything may take to end once nothing goes wrong any more.
const PROGRESS: Millis = 15 * 60_000;
/// How often the store looks at its clock.
const TICK: Millis = 250;
/// How much of a story is told.
const TRACE_MAX: usize = 400;
/// When it all begins, so that no time is negative.
const EPOCH: Millis = 1_700_000_000_000;

#[derive(Debug)]
enum Event {
    Ask { node: usize, life: u32, id: u64, ask: Ask },
    Reply { node: usize, life: u32, id: u64, reply: Reply },
    Alarm { node: usize, life: u32, alarm: Alarm },
    Revoked { node: usize, life: u32 },
    Start { node: usize },
    Submit(usize),
    Fault(usize),
    Tick,
    Heal,
}

/// What a run without a broken invariant came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) steps: u64,
    pub(crate) messages: u64,
    pub(crate) chords: u64,
    pub(crate) zombies: u64,
    pub(crate) losses: u64,
}

/// The cluster.
pub(crate) struct Cluster {
    now: Millis,
    dice: Dice,
    plan: Plan,
    network: Network,
    store: Store,
    nodes: Vec<Node>,
    witness: Witness,
    events: BTreeMap<(Millis, u64), Event>,
    sequence: u64,
    away_until: Millis,
    healed: bool,
    results: Vec<ResultTuple>,
    tasks: Tasks,
    settings: Settings,
    seed: u64,
    steps: u64,
    trace: Option<VecDeque<String>>,
}

impl Cluster {
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>, tracing: bool) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice);
        let nodes = plan.nodes.iter().enumerate().map(|(index, (skew, credits, slots))| Node::new(index, *skew, *credits, *slots));
        let mut cluster = Self {
            now: EPOCH,
            nodes: nodes.collect(),
            network: plan.network.clone(),
            store: Store::new(mutation),
            witness: Witness::new(plan.nodes.iter().map(|(skew, ..)| *skew).fold(0, Millis::max)),
            events: BTreeMap::new(),
            sequence: 0,
            away_until: 0,
            healed: false,
            results: Vec::new(),
            tasks: Tasks::new(),
            settings: Settings::default(),
            seed,
            steps: 0,
            trace: tracing.then(VecDeque::new),
            dice,
            plan,
        };
        (0..cluster.nodes.len()).for_each(|node| cluster.after(0, Event::Start { node }));
        for index in 0..cluster.plan.workflows.len() {
            cluster.after(cluster.plan.workflows[index].0, Event::Submit(index));
        }
        for index in 0..cluster.plan.script.len() {
            cluster.after(cluster.plan.script[index].0, Event::Fault(index));
        }
        cluster.after(TICK, Event::Tick);
        cluster.after(HEAL, Event::Heal);
        cluster
    }

    /// Runs to the end; `Err` with the first thing that does not hold.
    pub(crate) fn run(&mut self) -> Result<Told, Violation> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.steps += 1;
            self.step(event)?;
            let touched = std::mem::take(&mut self.store.touched);
            self.witness.places(&self.store, &touched)?;
            for node in &self.nodes {
                demand(node.credits_hold(), Invariant::Credits, || format!("{} has made or lost credits", node.name))?;
            }
            if self.healed && self.is_done() {
                return self.finish();
            }
            let late = self.now - EPOCH > HEAL + PROGRESS;
            demand(!late, Invariant::Progress, || self.unfinished())?;
        }
        demand(false, Invariant::Progress, || "nothing happens any more".to_owned()).map(|()| Told::default())
    }

    /// What was done, as far as it was asked to be told.
    pub(crate) fn story(&self) -> String {
        let lines = self.trace.iter().flatten().cloned().collect::<Vec<_>>().join("\n");
        format!(
            "nodes (skew, credits, slots): {:?}\nscript: {:?}\nnetwork: {:?}\n{lines}",
            self.plan.nodes, self.plan.script, self.plan.network
        )
    }

    fn finish(&self) -> Result<Told, Violation> {
        let tags: Vec<_> = self.store.messages.keys().cloned().collect();
        self.witness.places(&self.store, &tags)?;
        self.results.iter().try_for_each(|result| self.witness.ready(&self.store, result))?;
        Ok(Told {
            steps: self.steps,
            messages: self.store.messages.len() as u64,
            chords: self.store.chords.len() as u64,
            zombies: self.witness.zombies,
            losses: self.witness.losses,
        })
    }

    fn is_done(&self) -> bool {
        let store = &self.store;
        self.results.len() == self.plan.workflows.len()
            && store.ready.is_empty()
            && store.schedule.is_empty()
            && store.held.is_empty()
            && store.chords.values().all(|chord| chord.concluded)
            && self.nodes.iter().all(Node::is_idle)
    }

    fn unfinished(&self) -> String {
        let (store, open) = (&self.store, self.store.chords.values().filter(|chord| !chord.concluded).count());
        let (ready, later, held) = (store.ready.len(), store.schedule.len(), store.held.len());
        format!("{ready} messages wait, {later} are scheduled, {held} held, and {open} chords are open")
    }

    fn after(&mut self, wait: Millis, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + wait.max(0), self.sequence), event);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_MAX {
                trace.pop_front();
            }
            trace.push_back(format!("{:>8} {}", self.now - EPOCH, line()));
        }
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Ask { node, life, id, ask } => return self.asked(node, life, id, ask),
            Event::Reply { node, life, .. } | Event::Alarm { node, life, .. } | Event::Revoked { node, life } => {
                let still_until = self.nodes[node].still_until;
                if self.nodes[node].life != life || !self.nodes[node].up {
                    return Ok(());
                }
                if still_until > self.now {
                    self.after(still_until - self.now, event);
                    return Ok(());
                }
                return self.tell(node, event);
            }
            Event::Start { node } => {
                if !self.nodes[node].up {
                    self.note(|| format!("n{node} starts"));
                    return self.tell(node, event);
                }
            }
            Event::Submit(index) => return self.submit(index),
            Event::Fault(index) => self.fault(self.plan.script[index].1.clone()),
            Event::Tick => {
                if self.away_until <= self.now {
                    self.store.pass(self.now);
                }
                self.after(TICK, Event::Tick);
            }
            Event::Heal => self.heal(),
        }
        Ok(())
    }

    /// Lets a node act, and does what it says.
    fn tell(&mut self, index: usize, event: Event) -> Result<(), Violation> {
        let mut world = World {
            now: self.now,
            dice: &mut self.dice,
            network: &self.network,
            tasks: &self.tasks,
            settings: &self.settings,
            mutation: self.store.mutation,
            out: Vec::new(),
        };
        let node = &mut self.nodes[index];
        match event {
            Event::Reply { id, reply, .. } => node.answered(id, reply, &mut world),
            Event::Alarm { alarm, .. } => node.wake(alarm, &mut world),
            Event::Revoked { .. } => node.revoked(self.store.revoked.clone(), &mut world),
            _ => node.start(self.store.revoked.clone(), &mut world),
        }
        let (out, life) = (world.out, node.life);
        for out in out {
            match out {
                Out::Send(id, ask) => self.send(|node, id, ask| Event::Ask { node, life, id, ask }, index, id, ask),
                Out::Wake(wait, alarm) => self.after(wait, Event::Alarm { node: index, life, alarm }),
                Out::Started(delivery) => {
                    let id = &delivery.invocation.headers.id;
                    self.note(|| format!("n{index} runs {} as {} of {id}", delivery.tag, delivery.attempt));
                    self.witness.started(&delivery, self.now)?;
                }
            }
        }
        Ok(())
    }

    /// Puts something on the wire, where it may be lost, doubled or late.
    fn send<T: Clone>(&mut self, event: impl Fn(usize, u64, T) -> Event, node: usize, id: u64, what: T) {
        let network = self.network.clone();
        if self.dice.chance(network.dropped) {
            return;
        }
        for _ in 0..1 + usize::from(self.dice.chance(network.doubled)) {
            let late = if self.dice.chance(network.late) { self.dice.between(0, 7_000) } else { 0 };
            let wait = self.dice.between(1, 20) + late;
            self.after(wait, event(node, id, what.clone()));
        }
    }

    /// A request has reached the store.
    fn asked(&mut self, node: usize, life: u32, id: u64, ask: Ask) -> Result<(), Violation> {
        let now = self.now;
        if self.away_until > now {
            return Ok(());
        }
        let reply = match ask {
            Ask::Fetch(max) => {
                let deliveries = self.store.fetch(max, now);
                for delivery in &deliveries {
                    self.note(|| format!("n{node} takes {} as {}, lost: {}", delivery.tag, delivery.attempt, delivery.lost));
                    self.witness.taken(delivery, now)?;
                }
                Reply::Fetched(deliveries)
            }
            Ask::Renew(holds) => {
                let renewed = self.store.renew(&holds, now);
                self.witness.renewed(renewed, now);
                Reply::Renewed
            }
            Ask::Commit(commit) => Reply::Committed(self.commit(Some(node), &commit)?),
            Ask::Unconcluded => Reply::Unconcluded(self.store.unconcluded(now)),
        };
        self.send(|node, id, reply| Event::Reply { node, life, id, reply }, node, id, reply);
        Ok(())
    }

    fn commit(&mut self, node: Option<usize>, commit: &Commit) -> Result<Answer, Violation> {
        let answer = self.store.commit(commit, self.now);
        let refused = answer == Answer::Refused;
        self.note(|| {
            let who = node.map_or("a client".to_owned(), |node| format!("n{node}"));
            let kinds: Vec<String> = commit.effects.iter().map(short).collect();
            format!("{who} commits {:?}: {} -> {}", commit.fence, kinds.join(", "), if refused { "refused" } else { "done" })
        });
        if refused {
            let stale = matches!(&commit.fence, Fence::Delivery { tag, attempt, .. } if self.store.messages[tag].attempt != *attempt);
            self.witness.zombies += u64::from(stale);
            return Ok(answer);
        }
        self.witness.committed(commit, &self.store)?;
        for effect in &commit.effects {
            if let Effect::Publish(publish) = effect {
                let embed = publish.invocation.embed();
                // A twin of what opens chords or calls back would be a second workflow, not a second message.
                let leaf = embed.chain.is_empty() && embed.callbacks.is_empty() && embed.errbacks.is_empty();
                if leaf && self.dice.chance(self.network.twins) {
                    let tag = self.store.publish(publish, self.now);
                    self.note(|| format!("{} has a twin: {tag}", publish.invocation.headers.id));
                }
            }
        }
        Ok(answer)
    }

    fn submit(&mut self, index: usize) -> Result<(), Violation> {
        if self.away_until > self.now {
            self.after(self.away_until - self.now, Event::Submit(index));
            return Ok(());
        }
        let (_, signature, by_celery) = &self.plan.workflows[index];
        let seed = format!("{}.{index}", self.seed);
        let ask = Launch {
            settings: &self.settings,
            specs: &self.tasks,
            args: &[],
            kwargs: &Map::new(),
            sender: None,
            seed: &seed,
            now: self.now,
        };
        let mut launched = launch(signature, ask).expect("the workload is well formed");
        for effect in &mut launched.effects {
            if let (Effect::Publish(publish), true) = (effect, by_celery) {
                publish.due = None;
            }
        }
        self.results.push(launched.result);
        self.commit(None, &Commit { fence: Fence::Open, effects: launched.effects }).map(drop)
    }

    fn fault(&mut self, operation: Operation) {
        self.note(|| format!("fault: {operation:?}"));
        match operation {
            Operation::Crash { node, down } => {
                if self.nodes[node].up {
                    self.nodes[node].crash();
                    self.after(down, Event::Start { node });
                }
            }
            Operation::Pause { node, still } => self.nodes[node].still_until = self.now + still,
            Operation::Outage { away } => self.away_until = self.now + away,
            Operation::Revoke => self.revoke(),
        }
    }

    fn revoke(&mut self) {
        let invocations: Vec<_> = self.store.messages.values().map(|message| message.invocation.clone()).collect();
        if invocations.is_empty() {
            return;
        }
        let headers = &invocations[self.dice.below(invocations.len())].headers;
        let order = match (self.dice.below(3), &headers.root_id, &headers.group) {
            (0, Some(root), _) => Revocation::Workflow(root.clone()),
            (1, _, Some(group)) => Revocation::Group(group.clone()),
            _ => Revocation::Task(headers.id.clone()),
        };
        self.note(|| format!("revoked: {order:?}"));
        self.store.revoked.insert(order, self.now);
        for node in 0..self.nodes.len() {
            let (wait, life) = (self.dice.between(1, 300), self.nodes[node].life);
            self.after(wait, Event::Revoked { node, life });
        }
    }

    /// From now on everything works.
    fn heal(&mut self) {
        self.note(|| "everything is healed".to_owned());
        (self.network, self.away_until, self.healed) = (Network::default(), 0, true);
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            (node.still_until, node.skew) = (0, 0);
            self.after(0, Event::Start { node: index });
        }
    }
}

fn short(effect: &Effect) -> String {
    match effect {
        Effect::Publish(publish) => format!("publish {} {}", publish.invocation.headers.task, publish.invocation.headers.id),
        Effect::Store(record) => format!("store {:?} {}", record.status, record.task_id),
        Effect::StoredBefore => "stored before".to_owned(),
        Effect::OpenChord(open) => format!("open {} of {}", open.group, open.size),
        Effect::GrowChord { group, by } => format!("grow {group} by {by}"),
        Effect::Part(part) => format!("part {:?} of {}", part.index, part.group),
        Effect::Release(release) => format!("{release:?}"),
    }
}
