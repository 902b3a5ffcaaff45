//! The phased ledger: any broker with any result backend, where no step can change both.
//!
//! **What it owns.** References to the two. **Who sends to it.** The aggregator and the client. **What it does.** Each commit in
//! four phases, every one of them durable before the next begins: successors are published, results are stored, chord parts
//! are recorded, and last the delivery is paid for. Phases of all commits of a batch go together.
//!
//! **What is promised less.** Whoever dies between two phases leaves the delivery unpaid: the message comes again, its task
//! runs again, and what was done before is done once more, to the same effect: successors carry ids that were fixed before, a
//! SUCCESS stays, a part counts once. Before anything is done the broker is asked whether the delivery is still held; should it
//! be lost between that question and the payment, the commit is answered as refused although it has happened. On one
//! server prefer [`redis`](super::redis), which has neither gap.
//!
//! **What bounds it.** The credits of the claims in a batch. **When it dies.** An error of a phase is the answer to the batch;
//! what came before it has happened and will happen again.

use std::sync::Arc;

use async_trait::async_trait;
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
}

/// What a commit comes to, phase by phase.
#[derive(Debug, Default)]
struct Phases {
    publish: Vec<Publish>,
    store: Vec<umbel_proto::ResultRecord>,
    chord: Vec<ChordStep>,
    release: Option<(Held, Release)>,
}

impl PhasedLedger {
    /// The ledger of a broker and a backend.
    pub fn new(broker: Arc<dyn Broker>, backend: Arc<dyn Backend>) -> Self {
        Self { broker, backend }
    }

    /// Which commits' fences hold now. A chord's is claimed by asking.
    async fn fences(&self, batch: &[Commit]) -> Result<Vec<bool>, LedgerError> {
        let deliveries: Vec<Held> = batch.iter().filter_map(delivery).collect();
        let mut held = self.broker.holds(&deliveries).await.map_err(broker_error)?.into_iter();
        let mut seen: Vec<Held> = Vec::new();
        let mut fences = Vec::with_capacity(batch.len());
        for commit in batch {
            fences.push(match &commit.fence {
                Fence::Open | Fence::Once { .. } => true,
                Fence::Chord { group } => self.backend.claim_chord(group).await.map_err(backend_error)?,
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

    async fn store(&self, batch: Vec<umbel_proto::ResultRecord>) -> Result<(), LedgerError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.backend.store(batch).await.into_iter().collect::<Result<Vec<bool>, _>>().map(drop).map_err(backend_error)
    }
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
                Effect::Store(record) => phases.store.push((**record).clone()),
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
        let fences = self.fences(&batch).await?;
        let mut phases: Vec<Phases> = batch.iter().map(Phases::new).collect();
        let good = |at: &usize| fences[*at];
        let all: Vec<usize> = (0..batch.len()).filter(good).collect();
        // A chord is there before its members can end.
        let mut opens = Vec::new();
        for at in &all {
            let (open, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut phases[*at].chord).into_iter().partition(|step| matches!(step, ChordStep::Open(_)));
            opens.push((*at, open));
            phases[*at].chord = rest;
        }
        let mut ready: Vec<Vec<ReadyChord>> = batch.iter().map(|_| Vec::new()).collect();
        for (at, open) in opens {
            ready[at].extend(self.backend.chord_steps(open).await.map_err(backend_error)?);
        }
        self.publish(all.iter().flat_map(|at| std::mem::take(&mut phases[*at].publish)).collect()).await?;
        self.store(all.iter().flat_map(|at| std::mem::take(&mut phases[*at].store)).collect()).await?;
        for at in &all {
            let steps = std::mem::take(&mut phases[*at].chord);
            ready[*at].extend(self.backend.chord_steps(steps).await.map_err(backend_error)?);
            if let Fence::Chord { group } = &batch[*at].fence {
                self.backend.close_chord(group).await.map_err(backend_error)?;
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
