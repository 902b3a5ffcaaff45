//! The phased ledger: any broker with any result backend, where no step can change both.
//!
//! **What it owns.** References to the two. **Who sends to it.** The aggregator and the client. **What it does.** Each commit in
//! phases, every one of them durable before the next begins: failures of tasks that something is told of are stored ([`store`]), successors
//! and errbacks are published ([`send`]), all other results are stored, chord parts recorded and chords concluded, and last the
//! delivery is paid for. Phases of all commits of a batch go together. What a client submits is published as a whole
//! ([`Broker::publish_whole`]), for nobody sends it again when the client dies.
//!
//! **Whoever dies between two phases** leaves the delivery unpaid, and the message comes again. Until the ending is stored the
//! task has not ended and runs again, also when a failure of it can be read already; what it sends then are copies of what it may
//! have sent before, with the same ids. Once it is stored ([`Endings::store`](crate::backends::Endings::store), with its chord part
//! and the mark of it in one step) nothing is left to do but to pay, and whoever takes the message asks ([`Ledger::ended`]) before
//! he runs it ([`seek`]).
//!
//! **Copies** are known by a [`Stamp`]: which ending sends it, by a name that is written down before anything is sent and that
//! whoever begins this ending anew goes on with ([`Endings::begin`](crate::backends::Endings::begin)); and a number of its own.
//! The first copy that is taken runs, also when it comes again; others with the same ending are acknowledged. A message that is
//! only moved (a later time, another turn) keeps its stamp and is no copy: it is sent on in one step with its acknowledgement
//! ([`Broker::send_on`]).
//!
//! **What is promised less** than by [`redis`](super::redis): a task that is cut off between sending and storing may end another
//! way the next time, and then both have followers; its failure may have been read by then. Before anything is done the broker is
//! asked whether the delivery is still held; should it be lost between that question and the payment, the commit is answered as refused
//! although it has happened. A backend that remembers nothing ([`Backend::endings`]) leaves copies unnoticed.
//!
//! **What bounds it.** The credits of the claims in a batch. **When it dies.** An error of a phase is the answer to the batch;
//! what came before it has happened and will happen again.

mod fences;
mod phases;
mod seek;
mod send;
mod store;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use umbel_proto::GroupId;
use umbel_scheduler::{Answer, Commit, Effect, Fence, ReadyChord, RunId, admission::Ended};
use uuid::Uuid;

use self::{
    fences::Concluding,
    phases::{Phases, together},
};
use super::{Ledger, LedgerError, Stamp, Taken};
use crate::{
    backends::{Backend, BackendError, ChordStep, Sought},
    brokers::{Broker, BrokerError},
};

const KIND: &str = "phased";

/// Endings in two places.
#[derive(Debug)]
pub struct PhasedLedger {
    broker: Arc<dyn Broker>,
    backend: Arc<dyn Backend>,
    /// Chords that commits of this process are concluding: a claim is the process's, and tells none of its commits from another.
    concluding: Mutex<HashSet<GroupId>>,
    /// What names this process gives begin with, and how many it has given.
    names: (String, AtomicU64),
}

impl PhasedLedger {
    /// The ledger of a broker and a backend.
    pub fn new(broker: Arc<dyn Broker>, backend: Arc<dyn Backend>) -> Self {
        let names = (Uuid::new_v4().simple().to_string(), AtomicU64::new(0));
        Self { broker, backend, concluding: Mutex::default(), names }
    }

    /// A name that nobody has given before.
    fn name(&self) -> String {
        format!("{}-{}", self.names.0, self.names.1.fetch_add(1, Ordering::Relaxed))
    }

    /// Carries out commits phase by phase.
    async fn commit_together(&self, batch: &[Commit]) -> Result<Vec<Answer>, LedgerError> {
        let mut concluding = Concluding::new(self);
        let mut fences = self.fences(batch, &mut concluding).await?;
        let mut phases: Vec<Phases> = batch.iter().map(Phases::new).collect();
        let good = |at: &usize| fences[*at];
        let all: Vec<usize> = (0..batch.len()).filter(good).collect();
        // A chord that is concluded and begun again by the same commit is concluded first.
        let again = |at: usize| {
            let Fence::Chord { group, failed } = &batch[at].fence else { return None };
            batch[at]
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::OpenChord(open) if open.group == *group))
                .then_some((group, *failed))
        };
        for (group, failed) in all.iter().filter_map(|at| again(*at)) {
            self.close(group, failed).await?;
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
        for refused in self.send_on(batch, &all, &mut phases).await? {
            fences[refused] = false;
        }
        self.stamp(batch, &all, &mut phases).await?;
        self.store_failures(batch, &all, &mut phases).await?;
        self.publish(batch, &all, &mut phases).await?;
        for at in &all {
            if let (Fence::Chord { group, failed }, None) = (&batch[*at].fence, again(*at)) {
                phases[*at].concludes = Some((group.clone(), *failed));
            }
        }
        for refused in self.store(batch, &all, &mut phases, &mut ready).await? {
            fences[refused] = false;
        }
        let paying: Vec<usize> = all.iter().copied().filter(|at| phases[*at].release.is_some()).collect();
        let releases = paying.iter().filter_map(|at| phases[*at].release.take()).collect();
        let mut paid = vec![true; batch.len()];
        for (at, answer) in paying.iter().zip(self.broker.release(releases).await) {
            paid[*at] = answer.map_err(broker_error)?;
        }
        let done = all.iter().filter(|at| paid[**at]);
        self.forget(done.filter_map(|at| phases[*at].remembered.take()).collect());
        let answers = fences.into_iter().zip(paid).zip(ready);
        Ok(answers.map(|((fence, paid), ready)| if fence && paid { Answer::Done { ready } } else { Answer::Refused }).collect())
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

    async fn ended(&self, taken: &[Taken]) -> Result<Vec<Option<Ended>>, LedgerError> {
        let sought = |taken: &Taken| Sought { run: RunId::of(&taken.invocation), again: taken.again, stamp: Stamp::of(&taken.invocation) };
        self.seek(taken.iter().map(sought).collect()).await
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
