//! The phased ledger: any broker with any result backend, where no step can change both.
//!
//! **What it owns.** References to the two. **Who sends to it.** The aggregator and the client. **What it does.** Each commit in
//! four phases, every one of them durable before the next begins: successors are published, results are stored, chord parts
//! are recorded, and last the delivery is paid for. Phases of all commits of a batch go together.
//!
//! **What is promised less.** Whoever dies between two phases leaves the delivery unpaid, and the message comes again. Where its
//! SUCCESS is stored by then ([`Ledger::ended`]), its successors had been published before: only its chord part and the payment
//! are made up for. Where it is not, the task runs again, and what was done before is done once more, to the same effect:
//! successors carry ids that were fixed before, a part counts once. Before anything is done the broker is asked whether the delivery is still held; should it
//! be lost between that question and the payment, the commit is answered as refused although it has happened. On one
//! server prefer [`redis`](super::redis), which has neither gap.
//!
//! **What bounds it.** The credits of the claims in a batch. **When it dies.** An error of a phase is the answer to the batch;
//! what came before it has happened and will happen again.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use umbel_proto::{GroupId, ResultRecord, State, TaskId};
use umbel_scheduler::{Answer, Commit, Effect, Fence, Publish, ReadyChord, Release};

use super::{Ledger, LedgerError};
use crate::{
    backends::{Backend, BackendError, ChordStep},
    brokers::{Broker, BrokerError, Held},
};

const KIND: &str = "phased";

/// Endings in two places.
#[derive(Debug)]
pub struct PhasedLedger {
    broker: Arc<dyn Broker>,
    backend: Arc<dyn Backend>,
    /// Chords that commits of this process are concluding: a claim is the process's, and tells none of its commits from another.
    concluding: Mutex<HashSet<GroupId>>,
}

/// Chords that one batch concludes, until it is dropped.
struct Concluding<'a> {
    ledger: &'a PhasedLedger,
    groups: Vec<GroupId>,
}

impl Concluding<'_> {
    /// Whether nobody else here concludes this chord.
    fn begin(&mut self, group: &GroupId) -> bool {
        let new = self.ledger.concluding.lock().unwrap_or_else(PoisonError::into_inner).insert(group.clone());
        if new {
            self.groups.push(group.clone());
        }
        new
    }
}

impl Drop for Concluding<'_> {
    fn drop(&mut self) {
        let mut concluding = self.ledger.concluding.lock().unwrap_or_else(PoisonError::into_inner);
        self.groups.iter().for_each(|group| {
            concluding.remove(group);
        });
    }
}

/// What a commit comes to, phase by phase.
#[derive(Debug, Default)]
struct Phases {
    publish: Vec<Publish>,
    store: Vec<(Option<Held>, ResultRecord)>,
    chord: Vec<ChordStep>,
    release: Option<(Held, Release)>,
}

impl PhasedLedger {
    /// The ledger of a broker and a backend.
    pub fn new(broker: Arc<dyn Broker>, backend: Arc<dyn Backend>) -> Self {
        Self { broker, backend, concluding: Mutex::default() }
    }

    /// Which commits' fences hold now. A chord's is claimed by asking.
    async fn fences(&self, batch: &[Commit], concluding: &mut Concluding<'_>) -> Result<Vec<bool>, LedgerError> {
        let deliveries: Vec<Held> = batch.iter().filter_map(delivery).collect();
        let mut held = self.broker.holds(&deliveries).await.map_err(broker_error)?.into_iter();
        let mut seen: Vec<Held> = Vec::new();
        let mut fences = Vec::with_capacity(batch.len());
        for commit in batch {
            fences.push(match &commit.fence {
                Fence::Open | Fence::Once { .. } => true,
                Fence::Chord { group } => concluding.begin(group) && self.backend.claim_chord(group).await.map_err(backend_error)?,
                Fence::Delivery { .. } => {
                    let Some(delivery) = delivery(commit) else { continue };
                    // Of two endings of one delivery in a batch the first counts.
                    let first = !seen.contains(&delivery);
                    if commit.effects.iter().any(ends) {
                        seen.push(delivery);
                    }
                    held.next().unwrap_or(false) && first
                }
            });
        }
        Ok(fences)
    }

    async fn publish(&self, batch: Vec<Publish>) -> Result<(), LedgerError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.broker.publish(batch).await.into_iter().collect::<Result<Vec<()>, _>>().map(drop).map_err(broker_error)
    }

    /// Takes out of endings of messages that came again what another taking has done already: its SUCCESS is stored, so its
    /// successors are published.
    async fn spare(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<(), LedgerError> {
        let again = |at: &usize| matches!(batch[*at].fence, Fence::Delivery { attempt: 2.., .. });
        let wanted: Vec<(usize, TaskId)> = all
            .iter()
            .filter(|at| again(at))
            .filter_map(|at| {
                let (_, record) = phases[*at].store.iter().find(|(_, record)| record.status.is_ready())?;
                Some((*at, record.task_id.clone()))
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let (places, ids): (Vec<usize>, Vec<TaskId>) = wanted.into_iter().unzip();
        for (at, ended) in places.into_iter().zip(self.ended(&ids).await?) {
            if ended.is_some() {
                phases[at].publish.clear();
                phases[at].store.clear();
            }
        }
        Ok(())
    }

    /// Carries out commits phase by phase.
    async fn commit_together(&self, batch: &[Commit]) -> Result<Vec<Answer>, LedgerError> {
        let mut concluding = Concluding { ledger: self, groups: Vec::new() };
        let fences = self.fences(batch, &mut concluding).await?;
        let mut phases: Vec<Phases> = batch.iter().map(Phases::new).collect();
        let good = |at: &usize| fences[*at];
        let all: Vec<usize> = (0..batch.len()).filter(good).collect();
        // A chord that is concluded and begun again by the same commit is concluded first.
        let again = |at: usize| {
            let Fence::Chord { group } = &batch[at].fence else { return None };
            batch[at].effects.iter().any(|effect| matches!(effect, Effect::OpenChord(open) if open.group == *group)).then_some(group)
        };
        for group in all.iter().filter_map(|at| again(*at)) {
            self.close(group).await?;
        }
        // A chord is there before its members can end.
        let mut opens = Vec::new();
        for at in &all {
            let chord = &mut phases[*at].chord;
            let first = chord.iter().rposition(|step| matches!(step, ChordStep::Open(_))).map_or(0, |last| last + 1);
            let rest = chord.split_off(first);
            opens.push((*at, std::mem::replace(chord, rest)));
        }
        let mut ready: Vec<Vec<ReadyChord>> = batch.iter().map(|_| Vec::new()).collect();
        for (at, open) in opens {
            ready[at].extend(self.chord_steps(open).await?);
        }
        self.spare(batch, &all, &mut phases).await?;
        self.publish(all.iter().flat_map(|at| std::mem::take(&mut phases[*at].publish)).collect()).await?;
        self.store(all.iter().flat_map(|at| std::mem::take(&mut phases[*at].store)).collect()).await?;
        for at in &all {
            let steps = std::mem::take(&mut phases[*at].chord);
            ready[*at].extend(self.chord_steps(steps).await?);
            if let (Fence::Chord { group }, None) = (&batch[*at].fence, again(*at)) {
                self.close(group).await?;
            }
        }
        let paying: Vec<usize> = all.iter().copied().filter(|at| phases[*at].release.is_some()).collect();
        let releases = paying.iter().filter_map(|at| phases[*at].release.take()).collect();
        let mut paid = vec![true; batch.len()];
        for (at, answer) in paying.iter().zip(self.broker.release(releases).await) {
            paid[*at] = answer.map_err(broker_error)?;
        }
        let answers = fences.into_iter().zip(paid).zip(ready);
        Ok(answers.map(|((fence, paid), ready)| if fence && paid { Answer::Done { ready } } else { Answer::Refused }).collect())
    }

    async fn chord_steps(&self, steps: Vec<ChordStep>) -> Result<Vec<ReadyChord>, LedgerError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        self.backend.chord_steps(steps).await.map_err(backend_error)
    }

    /// Concludes a chord. Publishing may have taken longer than a claim lasts; nobody may have noticed.
    async fn close(&self, group: &GroupId) -> Result<(), LedgerError> {
        let closed = self.backend.close_chord(group).await.map_err(backend_error)?;
        if !closed && self.backend.claim_chord(group).await.map_err(backend_error)? {
            self.backend.close_chord(group).await.map_err(backend_error)?;
        }
        Ok(())
    }

    async fn store(&self, batch: Vec<(Option<Held>, ResultRecord)>) -> Result<(), LedgerError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.backend.store_of(batch).await.into_iter().collect::<Result<Vec<bool>, _>>().map(drop).map_err(backend_error)
    }
}

/// How many of the first commits may go through the phases together. One that opens or concludes a chord comes behind what
/// earlier ones do to chords.
fn together(batch: &[Commit]) -> usize {
    let counts = |commit: &Commit| {
        commit.effects.iter().any(|effect| matches!(effect, Effect::OpenChord(_) | Effect::GrowChord { .. } | Effect::Part(_)))
    };
    let begins = |commit: &Commit| {
        matches!(commit.fence, Fence::Chord { .. }) || commit.effects.iter().any(|effect| matches!(effect, Effect::OpenChord(_)))
    };
    let mut before = false;
    for (at, commit) in batch.iter().enumerate() {
        if before && begins(commit) {
            return at;
        }
        before |= counts(commit) || matches!(commit.fence, Fence::Chord { .. });
    }
    batch.len()
}

/// The delivery that a commit is fenced by. The queue is not part of its name; the broker knows it.
fn delivery(commit: &Commit) -> Option<Held> {
    match &commit.fence {
        Fence::Delivery { tag, attempt } => Some(Held { queue: "".into(), tag: tag.clone(), attempt: *attempt }),
        Fence::Open | Fence::Once { .. } | Fence::Chord { .. } => None,
    }
}

fn ends(effect: &Effect) -> bool {
    matches!(effect, Effect::Release(release) if !matches!(release, Release::Begin))
}

impl Phases {
    fn new(commit: &Commit) -> Self {
        let mut phases = Self::default();
        for effect in &commit.effects {
            match effect {
                Effect::Publish(publish) => phases.publish.push((**publish).clone()),
                Effect::Store(record) => phases.store.push((delivery(commit), (**record).clone())),
                Effect::OpenChord(open) => phases.chord.push(ChordStep::Open((**open).clone())),
                Effect::GrowChord { group, by } => phases.chord.push(ChordStep::Grow { group: group.clone(), by: *by }),
                Effect::Part(part) => phases.chord.push(ChordStep::Part((**part).clone())),
                Effect::Release(release) => phases.release = delivery(commit).map(|held| (held, release.clone())),
            }
        }
        phases
    }
}

#[async_trait]
impl Ledger for PhasedLedger {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn commit(&self, batch: Vec<Commit>) -> Result<Vec<Answer>, LedgerError> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let (slice, after) = rest.split_at(together(rest));
            answers.extend(self.commit_together(slice).await?);
            rest = after;
        }
        Ok(answers)
    }

    async fn ended(&self, ids: &[TaskId]) -> Result<Vec<Option<ResultRecord>>, LedgerError> {
        let found = self.backend.get(ids).await.map_err(backend_error)?;
        Ok(found.into_iter().map(|record| record.filter(|record| record.status == State::Success)).collect())
    }

    async fn unconcluded(&self, limit: usize) -> Result<Vec<ReadyChord>, LedgerError> {
        self.backend.unconcluded(limit).await.map_err(backend_error)
    }
}

fn broker_error(error: BrokerError) -> LedgerError {
    let reason = error.to_string();
    if error.is_transient() { LedgerError::Unavailable { kind: KIND, reason } } else { LedgerError::Refused { kind: KIND, reason } }
}

fn backend_error(error: BackendError) -> LedgerError {
    let reason = error.to_string();
    if error.is_transient() { LedgerError::Unavailable { kind: KIND, reason } } else { LedgerError::Refused { kind: KIND, reason } }
}
