//! A tiny cluster in memory that carries decisions out: one queue, one ledger, one thread, no time but its own.
//!
//! It proves what pure decisions come to when messages arrive in any order, twice, or after their node has died. Which of the
//! waiting messages is taken next, and what befalls it, is drawn by the caller, so that a run can be replayed.

use std::collections::BTreeMap;

use umbel_proto::{
    DeliveryTag, GroupId, Invocation, Map, Millis, NodeId, Outcome, QueueName, ResultRecord, ResultTuple, Signature, State, TaskId,
    TaskName, Value,
};

use crate::{
    Answer, ChordPart, Commit, DeadReason, Effect, Fence, OpenChord, ReadyChord, ReadyPart, Release, RunId, Settings, TaskSpec,
    admission::{Arrival, Verdict, admit},
    canvas::{CanvasError, Launch, Launched, Specs, launch},
    chord::conclude,
    revocation::Revoked,
    settlement::{Context, Ending, refuse, settle},
};

/// What tasks do.
pub type Behaviour<'a> = &'a mut dyn FnMut(&Invocation) -> Outcome;

/// The cluster.
#[derive(Debug)]
pub struct Model {
    /// Settings of all nodes.
    pub settings: Settings,
    /// The tasks that nodes know; a name that is not here has [`TaskSpec::new`]'s options, unless `strict`.
    pub specs: Known,
    /// What is revoked.
    pub revoked: Revoked,
    /// The time.
    pub now: Millis,
    /// Waiting messages.
    pub queue: Vec<Message>,
    /// Stored results.
    pub results: BTreeMap<TaskId, ResultRecord>,
    /// Open and concluded chords.
    pub chords: BTreeMap<GroupId, Chord>,
    /// Complete chords that nobody has concluded yet.
    pub ready: Vec<ReadyChord>,
    /// Dead letters.
    pub dead: Vec<(Invocation, DeadReason, String)>,
    /// Every ending that was recorded, in order.
    pub endings: Vec<(Invocation, Ending)>,
    /// Every state that was stored, in order.
    pub stored: Vec<ResultRecord>,
    /// Which taking of each delivery may end it.
    held: BTreeMap<DeliveryTag, u32>,
    launches: u32,
    tag: u64,
}

/// The tasks that nodes know.
#[derive(Debug, Default)]
pub struct Known {
    /// By name.
    pub tasks: BTreeMap<TaskName, TaskSpec>,
    /// Whether any other task is unknown.
    pub strict: bool,
}

/// A waiting message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The message.
    pub invocation: Invocation,
    /// The queue it waits in.
    pub queue: QueueName,
    /// When it may be taken.
    pub due: Millis,
    /// How often it has been taken.
    pub attempt: u32,
    /// How many executors died under it.
    pub crashes: u32,
    tag: DeliveryTag,
}

/// A chord, counted by index and task id.
#[derive(Debug, Clone)]
pub struct Chord {
    /// How it was opened; `None` while parts came first.
    pub open: Option<OpenChord>,
    /// The parts.
    pub parts: BTreeMap<(i64, TaskId), ChordPart>,
    /// Whether its conclusion is committed.
    pub concluded: bool,
    told: bool,
}

impl Specs for Known {
    fn spec(&self, task: &TaskName) -> Option<&TaskSpec> {
        self.tasks.get(task)
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            specs: Known::default(),
            revoked: Revoked::default(),
            now: 1_700_000_000_000,
            queue: Vec::new(),
            results: BTreeMap::new(),
            chords: BTreeMap::new(),
            ready: Vec::new(),
            dead: Vec::new(),
            endings: Vec::new(),
            stored: Vec::new(),
            held: BTreeMap::new(),
            launches: 0,
            tag: 0,
        }
    }
}

impl Model {
    /// Launches a workflow.
    ///
    /// # Errors
    /// As [`launch`].
    pub fn submit(&mut self, signature: &Signature) -> Result<Launched, CanvasError> {
        self.submit_with(signature, &[], &Map::new())
    }

    /// Launches a workflow with call arguments.
    ///
    /// # Errors
    /// As [`launch`].
    pub fn submit_with(&mut self, signature: &Signature, args: &[Value], kwargs: &Map) -> Result<Launched, CanvasError> {
        self.launches += 1;
        let seed = format!("launch-{}", self.launches);
        let ask = Launch { settings: &self.settings, specs: &self.specs, args, kwargs, sender: None, seed: &seed, now: self.now };
        let launched = launch(signature, ask)?;
        self.commit(Commit { fence: Fence::Open, effects: launched.effects.clone() }, None);
        Ok(launched)
    }

    /// Takes and ends messages until nothing is left; `draw` answers which of `n` things happens next.
    pub fn run(&mut self, behaviour: Behaviour<'_>, draw: &mut dyn FnMut(usize) -> usize) {
        while self.step(behaviour, draw) {}
    }

    /// Runs to the end in the order messages came, without mishaps.
    pub fn run_in_order(&mut self, behaviour: Behaviour<'_>) {
        self.run(behaviour, &mut |_| 0);
    }

    /// Concludes one chord, or takes one message and ends it; `false` when nothing is left. Draws of 1 let a message be taken a
    /// second time before the first taker is done: the first taker's ending is then refused.
    pub fn step(&mut self, behaviour: Behaviour<'_>, draw: &mut dyn FnMut(usize) -> usize) -> bool {
        if !self.ready.is_empty() && (self.queue.is_empty() || draw(2) == 0) {
            let ready = self.ready.remove(draw(self.ready.len()));
            self.conclude(&ready);
            return true;
        }
        let Some(first_due) = self.queue.iter().map(|message| message.due).min() else { return false };
        self.now = self.now.max(first_due);
        let takable: Vec<usize> = (0..self.queue.len()).filter(|index| self.queue[*index].due <= self.now).collect();
        let mut message = self.queue.remove(takable[draw(takable.len())]);
        self.take(&mut message);
        let zombie = (draw(8) == 1).then(|| (message.clone(), self.decide(&message, behaviour)));
        if zombie.is_some() {
            self.take(&mut message);
        }
        let (effects, ending) = self.decide(&message, behaviour);
        assert!(self.end(&message, effects, ending), "the newest taker's ending was refused");
        if let Some((early, (effects, ending))) = zombie {
            assert!(!self.end(&early, effects, ending), "a zombie's ending was accepted");
        }
        true
    }

    /// What a message comes to: the same whenever it is asked.
    fn decide(&self, message: &Message, behaviour: Behaviour<'_>) -> (Vec<Effect>, Ending) {
        let invocation = &message.invocation;
        let name = &invocation.headers.task;
        let fallback = TaskSpec::new(name.clone());
        let known = self.specs.spec(name).or((!self.specs.strict).then_some(&fallback));
        let max_deliveries = self.settings.max_deliveries;
        let arrival = Arrival { attempt: message.attempt, crashes: message.crashes, lost: false, max_deliveries };
        let node = NodeId::from("model@host");
        let context = Context {
            spec: known.unwrap_or(&fallback),
            specs: &self.specs,
            settings: &self.settings,
            node: &node,
            queue: &message.queue,
            crashes: message.crashes,
            begun: false,
            now: self.now,
            dice: 0.5,
        };
        let settlement = match admit(invocation, known, arrival, &self.revoked, self.now) {
            Verdict::Refuse(refusal) => refuse(invocation, &refusal, context),
            Verdict::Hold { until } => unreachable!("taken {} ms early", until - self.now),
            Verdict::Run => {
                let outcome = behaviour(invocation);
                let settlement = settle(invocation, outcome.clone(), context);
                assert_eq!(settlement, settle(invocation, outcome, context), "a decision was not the same twice");
                settlement
            }
        };
        (settlement.effects, settlement.ending)
    }

    fn take(&mut self, message: &mut Message) {
        message.attempt += 1;
        self.held.insert(message.tag.clone(), message.attempt);
    }

    /// Whether the ending counted.
    fn end(&mut self, message: &Message, effects: Vec<Effect>, ending: Ending) -> bool {
        let releases = effects.iter().filter(|effect| matches!(effect, Effect::Release(_))).count();
        assert_eq!(releases, 1, "an ending releases its delivery once");
        assert!(matches!(effects.last(), Some(Effect::Release(_))), "what the broker is owed comes last");
        let fence = Fence::Delivery { tag: message.tag.clone(), attempt: message.attempt, run: Some(RunId::of(&message.invocation)) };
        let counted = self.commit(Commit { fence, effects }, Some(message)) != Answer::Refused;
        if counted {
            self.endings.push((message.invocation.clone(), ending));
        }
        counted
    }

    /// Concludes a chord, and tries to do it again.
    pub fn conclude(&mut self, ready: &ReadyChord) {
        let commit = conclude(ready, &self.settings, &self.specs, self.now);
        assert_eq!(commit, conclude(ready, &self.settings, &self.specs, self.now), "a conclusion was not the same twice");
        assert_ne!(self.commit(commit.clone(), None), Answer::Refused, "a chord could not be concluded");
        assert_eq!(self.commit(commit, None), Answer::Refused, "a chord was concluded twice");
    }

    /// Carries out a commit.
    pub fn commit(&mut self, commit: Commit, message: Option<&Message>) -> Answer {
        match &commit.fence {
            Fence::Open | Fence::Once { .. } => {}
            Fence::Delivery { tag, attempt, .. } if self.held.get(tag) == Some(attempt) => {
                self.held.remove(tag);
            }
            Fence::Delivery { .. } => return Answer::Refused,
            Fence::Chord { group, .. } => match self.chords.get_mut(group) {
                Some(chord) if !chord.concluded => chord.concluded = true,
                _ => return Answer::Refused,
            },
        }
        for effect in commit.effects {
            self.carry_out(effect, message);
        }
        let before = self.ready.len();
        self.complete();
        Answer::Done { ready: self.ready[before..].to_vec() }
    }

    fn carry_out(&mut self, effect: Effect, message: Option<&Message>) {
        match effect {
            Effect::Publish(publish) => {
                self.tag += 1;
                let (queue, due) = (publish.route.queue, publish.due.unwrap_or(self.now));
                self.queue.push(Message {
                    invocation: publish.invocation,
                    queue,
                    due,
                    attempt: 0,
                    crashes: 0,
                    tag: self.tag.to_string().into(),
                });
            }
            Effect::Store(record) => {
                self.stored.push((*record).clone());
                let known = self.results.get(&record.task_id);
                if known.is_none_or(|known| known.status != State::Success) {
                    self.results.insert(record.task_id.clone(), *record);
                }
            }
            Effect::StoredBefore => {}
            Effect::OpenChord(open) => {
                let chord = self.chord(&open.group);
                assert!(chord.open.is_none(), "chord {} was opened twice", open.group);
                chord.open = Some(*open);
            }
            Effect::GrowChord { group, by } => {
                if let Some(open) = &mut self.chord(&group).open {
                    open.size += by;
                }
            }
            Effect::Part(part) => {
                let key = (part.index.unwrap_or(i64::MAX), part.task_id.clone());
                self.chord(&part.group).parts.entry(key).or_insert(*part);
            }
            Effect::Release(release) => self.release(release, message.expect("only deliveries are released")),
        }
    }

    fn release(&mut self, release: Release, message: &Message) {
        match release {
            Release::Ack => {}
            Release::Requeue { due, crashes } => {
                self.queue.push(Message { due: due.unwrap_or(self.now), crashes, ..message.clone() });
            }
            Release::Dead { reason, detail } => self.dead.push((message.invocation.clone(), reason, detail)),
            Release::Begin => unreachable!("no ending begins"),
        }
    }

    fn chord(&mut self, group: &GroupId) -> &mut Chord {
        let new = || Chord { open: None, parts: BTreeMap::new(), concluded: false, told: false };
        self.chords.entry(group.clone()).or_insert_with(new)
    }

    fn complete(&mut self) {
        for (group, chord) in &mut self.chords {
            let Some(open) = &chord.open else { continue };
            if chord.told || chord.parts.len() < open.size as usize {
                continue;
            }
            assert_eq!(chord.parts.len(), open.size as usize, "chord {group} has more parts than it was opened for");
            chord.told = true;
            let parts: Vec<ReadyPart> = chord.parts.values().cloned().map(ReadyPart::from).collect();
            let last = parts.last().map(|part| part.task_id.clone());
            self.ready.push(ReadyChord { group: group.clone(), body: open.body.clone(), parts, last });
        }
    }

    /// The value a client reads for `result`: of a group the list of its members'. `None` while something is missing.
    pub fn value(&self, result: &ResultTuple) -> Option<Value> {
        match &result.children {
            Some(members) => members.iter().map(|member| self.value(member)).collect::<Option<Vec<_>>>().map(Value::List),
            None => {
                let record = self.results.get(result.id.as_str())?;
                (record.status == State::Success).then(|| record.result.clone())
            }
        }
    }

    /// The record of a task.
    pub fn record(&self, id: &str) -> Option<&ResultRecord> {
        self.results.get(id)
    }
}
