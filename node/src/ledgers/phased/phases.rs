//! What commits come to, phase by phase.

use std::collections::HashSet;

use umbel_proto::{GroupId, ResultRecord, State};
use umbel_scheduler::{Commit, Effect, Fence, Publish, Release};

use crate::{backends::ChordStep, brokers::Held};

/// What a commit comes to, what is done with it taken out phase by phase.
#[derive(Debug, Default)]
pub(super) struct Phases {
    pub(super) publish: Vec<Publish>,
    pub(super) store: Vec<(Option<Held>, ResultRecord)>,
    pub(super) chord: Vec<ChordStep>,
    /// The chord that it concludes, and whether a member has failed.
    pub(super) concludes: Option<(GroupId, bool)>,
    pub(super) release: Option<(Held, Release)>,
    /// Whether something is sent with its stamp.
    pub(super) sends: bool,
    /// Whether failures are stored already.
    told: bool,
    /// What the backend remembers of it until it is paid for.
    pub(super) remembered: Option<String>,
}

impl Phases {
    pub(super) fn new(commit: &Commit) -> Self {
        let mut phases = Self::default();
        for effect in &commit.effects {
            match effect {
                Effect::Publish(publish) => phases.publish.push((**publish).clone()),
                Effect::Store(record) => phases.store.push((delivery(commit), (**record).clone())),
                Effect::StoredBefore => phases.told = true,
                Effect::OpenChord(open) => phases.chord.push(ChordStep::Open((**open).clone())),
                Effect::GrowChord { group, by } => phases.chord.push(ChordStep::Grow { group: group.clone(), by: *by }),
                Effect::Part(part) => phases.chord.push(ChordStep::Part((**part).clone())),
                Effect::Release(release) => phases.release = delivery(commit).map(|held| (held, release.clone())),
            }
        }
        phases
    }

    /// Whether it is the ending of its task, for good or until the next attempt.
    pub(super) fn ends(&self) -> bool {
        matches!(self.release, Some((_, Release::Ack | Release::Dead { .. })))
    }

    /// Takes out the failures that something which is sent may ask for: an errback looks at its task's result. A SUCCESS is no such
    /// thing, it says that its task has ended and left nothing to send; nor is the RETRY of a message that sends itself.
    pub(super) fn failures_told(&mut self) -> Vec<(Option<Held>, ResultRecord)> {
        if self.publish.is_empty() {
            return Vec::new();
        }
        let failures: Vec<_> = self.store.extract_if(.., |(_, record)| record.status == State::Failure).collect();
        self.told |= !failures.is_empty();
        failures
    }

    /// Whether there is something to write when it has been sent.
    pub(super) fn stores(&self) -> bool {
        self.told || !self.store.is_empty() || !self.chord.is_empty() || self.concludes.is_some() || (self.sends && self.ends())
    }

    /// Whether its results do not say that it has ended: a SUCCESS does, and only the task's own is among them.
    pub(super) fn needs_mark(&self) -> bool {
        self.ends() && !self.store.iter().any(|(_, record)| record.status == State::Success)
    }
}

/// How many of the first commits may go through the phases together. One that opens or concludes a chord comes behind what
/// earlier ones do to chords, and one that counts for a chord behind the conclusion of that.
pub(super) fn together(batch: &[Commit]) -> usize {
    let counts = |commit: &Commit| {
        commit.effects.iter().any(|effect| matches!(effect, Effect::OpenChord(_) | Effect::GrowChord { .. } | Effect::Part(_)))
    };
    let begins = |commit: &Commit| {
        matches!(commit.fence, Fence::Chord { .. }) || commit.effects.iter().any(|effect| matches!(effect, Effect::OpenChord(_)))
    };
    let mut before = false;
    let mut concluded: HashSet<&GroupId> = HashSet::new();
    for (at, commit) in batch.iter().enumerate() {
        let late = commit.effects.iter().any(|effect| match effect {
            Effect::GrowChord { group, .. } => concluded.contains(group),
            Effect::Part(part) => concluded.contains(&part.group),
            _ => false,
        });
        if late || (before && begins(commit)) {
            return at;
        }
        if let Fence::Chord { group, .. } = &commit.fence {
            concluded.insert(group);
        }
        before |= counts(commit) || matches!(commit.fence, Fence::Chord { .. });
    }
    batch.len()
}

pub(super) fn ends(effect: &Effect) -> bool {
    matches!(effect, Effect::Release(release) if !matches!(release, Release::Begin))
}

/// The delivery that a commit is fenced by. The queue is not part of its name; the broker knows it.
pub(super) fn delivery(commit: &Commit) -> Option<Held> {
    match &commit.fence {
        Fence::Delivery { tag, attempt, .. } => Some(Held { queue: "".into(), tag: tag.clone(), attempt: *attempt }),
        Fence::Open | Fence::Once { .. } | Fence::Chord { .. } => None,
    }
}
