//! A thousand random steps against a model of what a ledger is.
//!
//! The steps are drawn by a small generator of its own, so that the case is the same on every implementation and machine; a
//! failure names its seed.

use std::collections::{BTreeMap, BTreeSet};

use umbel::{
    proto::{GroupId, State, TaskId, Value},
    scheduler::{Answer, Commit, Effect, Fence, Release},
};

use super::commit;
use crate::conformance::{Setup, Stage, making::*};

/// What must be true.
#[derive(Default)]
struct Model {
    /// Results: whether SUCCESS, and the value.
    results: BTreeMap<String, (bool, i64)>,
    /// Chords that are not concluded: size and members.
    chords: BTreeMap<String, (u32, BTreeSet<(i64, String)>)>,
    /// Chords that were complete when everybody died: whoever comes upon one may be told of it.
    orphans: BTreeSet<String>,
    /// How many messages were sent.
    sent: u64,
}

impl Model {
    fn is_complete(&self, group: &str) -> bool {
        self.chords.get(group).is_some_and(|(size, members)| members.len() as u32 >= *size)
    }

    /// Carries out what the ledger must carry out; which chords it must tell, or `None` where it must refuse.
    fn commit(&mut self, steps: &[Step], fence: Option<&str>) -> Option<Vec<String>> {
        if let Some(group) = fence {
            if !self.is_complete(group) {
                return None;
            }
            self.chords.remove(group);
        }
        let mut told = Vec::new();
        for step in steps {
            let before = |model: &Self, group: &str| model.is_complete(group);
            match step {
                Step::Send => self.sent += 1,
                Step::Store(id, success, value) => {
                    if self.results.get(id).is_none_or(|(success, _)| !success) {
                        self.results.insert(id.clone(), (*success, *value));
                    }
                }
                Step::Open(group, size) => {
                    if !self.chords.contains_key(group) {
                        self.chords.insert(group.clone(), (*size, BTreeSet::new()));
                        told.extend(self.is_complete(group).then(|| group.clone()));
                    }
                }
                Step::Grow(group) => {
                    if let Some((size, _)) = self.chords.get_mut(group) {
                        *size += 1;
                    }
                }
                Step::Part(group, index, task) => {
                    let complete = before(self, group);
                    if let Some((_, members)) = self.chords.get_mut(group) {
                        members.insert((*index, task.clone()));
                    }
                    told.extend((!complete && self.is_complete(group)).then(|| group.clone()));
                }
            }
        }
        Some(told)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send,
    Store(String, bool, i64),
    Open(String, u32),
    Grow(String),
    Part(String, i64, String),
}

impl Step {
    fn draw(dice: &mut Dice, number: i64) -> Self {
        let group = format!("g{}", dice.below(4));
        match dice.below(10) {
            0 => Self::Send,
            1 | 2 => Self::Store(format!("t{}", dice.below(8)), dice.below(3) == 0, number),
            3 => Self::Open(group, dice.below(4) as u32),
            4 => Self::Grow(group),
            _ => Self::Part(group, dice.below(4) as i64, format!("t{}", dice.below(2))),
        }
    }

    fn effect(&self, number: i64) -> Effect {
        match self {
            Self::Send => Effect::Publish(Box::new(message("q", &format!("m{number}")))),
            Self::Store(id, success, value) => {
                let status = if *success { State::Success } else { State::Failure };
                Effect::Store(Box::new(result(id, status, *value)))
            }
            Self::Open(group, size) => open_chord(group, *size),
            Self::Grow(group) => Effect::GrowChord { group: GroupId::from(group), by: 1 },
            Self::Part(group, index, task) => part(group, *index, task),
        }
    }
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// Random batches, with crashes in between: answers, results, chords and messages are those of the model.
pub async fn it_behaves_like_the_model<S: Stage>() {
    for seed in [1, 0xDEAD_BEEF, 0x5EED_5EED_5EED] {
        run::<S>(seed).await;
    }
}

async fn run<S: Stage>(seed: u64) {
    let mut dice = Dice(seed);
    let mut stage = S::fresh(Setup::default()).await;
    let mut model = Model::default();
    for round in 0..120 {
        let mut batch = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..=dice.below(5) {
            let number = i64::from(round) * 100 + batch.len() as i64;
            let steps: Vec<Step> = (0..dice.below(5)).map(|_| Step::draw(&mut dice, number)).collect();
            let group = (dice.below(3) == 0).then(|| format!("g{}", dice.below(4)));
            expected.push(model.commit(&steps, group.as_deref()));
            let fence = group.map_or(Fence::Open, |group| Fence::Chord { group: GroupId::from(group), failed: false });
            batch.push(Commit { fence, effects: steps.iter().map(|step| step.effect(number)).collect() });
        }
        let answers = commit(&*stage.ledger(), batch).await;
        for (answer, expected) in answers.iter().zip(expected) {
            match (answer, expected) {
                (Answer::Refused, None) => {}
                (Answer::Done { ready }, Some(expected)) => check_told(&model, ready, &expected, seed, round),
                (answer, expected) => panic!("seed {seed}, round {round}: {answer:?} instead of {expected:?}"),
            }
        }
        if dice.below(20) == 0 {
            let complete: Vec<String> = model.chords.keys().filter(|group| model.is_complete(group)).cloned().collect();
            model.orphans.extend(complete);
            stage = stage.reopen().await;
        }
        check(&stage, &model, seed, round).await;
    }
    drain(&stage, &model).await;
}

/// A chord that was told may have been concluded by a later commit of the batch, or have grown: then it need not be there.
fn check_told(model: &Model, ready: &[umbel::scheduler::ReadyChord], expected: &[String], seed: u64, round: i32) {
    for chord in ready {
        let group = chord.group.as_str();
        assert!(
            model.orphans.contains(group) || expected.iter().any(|told| told == group),
            "seed {seed}, round {round}: {} was told",
            chord.group
        );
    }
    for group in expected.iter().filter(|group| model.is_complete(group)) {
        assert!(ready.iter().any(|chord| chord.group.as_str() == group), "seed {seed}, round {round}: {group} was not told");
    }
}

async fn check<S: Stage>(stage: &S, model: &Model, seed: u64, round: i32) {
    let backend = stage.backend();
    let names: Vec<TaskId> = (0..8).map(|number| TaskId::from(format!("t{number}"))).collect();
    for (id, record) in names.iter().zip(backend.get(&names).await.unwrap()) {
        let found = record.map(|record| (record.status == State::Success, record.result));
        let expected = model.results.get(id.as_str()).map(|(success, value)| (*success, Value::Int(*value)));
        assert_eq!(found, expected, "seed {seed}, round {round}, result {id}");
    }
    for group in (0..4).map(|number| format!("g{number}")) {
        let found = backend.chord(&GroupId::from(&group)).await.unwrap().map(|progress| (progress.size, progress.done));
        let expected = model.chords.get(&group).map(|(size, members)| (*size, members.len() as u32));
        assert_eq!(found, expected, "seed {seed}, round {round}, chord {group}");
    }
}

/// What was sent is there, once; and every complete chord can be concluded.
async fn drain<S: Stage>(stage: &S, model: &Model) {
    let broker = stage.broker();
    if model.sent > 0 {
        let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
        let taken = fetch(&mut subscription, model.sent as usize).await;
        let effects = vec![Effect::Release(Release::Ack)];
        let endings = taken.iter().map(|delivery| ending(&delivery.held, effects.clone())).collect();
        assert!(commit(&*stage.ledger(), endings).await.iter().all(|answer| *answer != Answer::Refused));
        assert_eq!(broker.queues().await.unwrap()[0].ready, 0);
    }
    for group in model.chords.keys() {
        let conclusion = Commit { fence: Fence::Chord { group: GroupId::from(group), failed: false }, effects: Vec::new() };
        let refused = commit(&*stage.ledger(), vec![conclusion]).await == [Answer::Refused];
        assert_eq!(refused, !model.is_complete(group));
    }
}
