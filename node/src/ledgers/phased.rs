//! The phased ledger: any broker with any result backend, where no step can change both.
//!
//! **What it owns.** References to the two. **Who sends to it.** The aggregator and the client. **What it does.** Each commit in
//! phases, every one of them durable before the next begins: successors are published, results are stored, chord parts recorded and
//! chords concluded, and last the delivery is paid for. Phases of all commits of a batch go together. What a client submits is
//! published as a whole ([`Broker::publish_whole`]), for nobody sends it again when the client dies.
//!
//! **Whoever dies between two phases** leaves the delivery unpaid, and the message comes again. Until its results are stored the
//! task has not ended and runs again; what it sends then are copies of what it may have sent before, with the same ids. Once they
//! are stored ([`Endings::store`](crate::backends::Endings::store), with its chord part in one step) nothing is left to do but to
//! pay, and whoever takes the message asks ([`Ledger::ended`]) before he runs it.
//!
//! **Copies** are known by a [`Stamp`]: which ending sends it, by a name that is written down before anything is sent and that
//! whoever begins this ending anew goes on with ([`Endings::begin`](crate::backends::Endings::begin)); and a number of its own.
//! The first copy that is taken runs, also when it comes again; others with the same ending are acknowledged. A message that is
//! only moved (a later time, another turn) keeps its stamp and is no copy: it is sent on in one step with its acknowledgement
//! ([`Broker::send_on`]).
//!
//! **What is promised less** than by [`redis`](super::redis): a task that is cut off between sending and storing may end another
//! way the next time, and then both have followers. Before anything is done the broker is asked whether the delivery is still
//! held; should it be lost between that question and the payment, the commit is answered as refused although it has
//! happened. A backend that remembers nothing ([`Backend::endings`]) leaves copies unnoticed.
//!
//! **What bounds it.** The credits of the claims in a batch. **When it dies.** An error of a phase is the answer to the batch;
//! what came before it has happened and will happen again.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use umbel_proto::{GroupId, ResultRecord, State, TaskId};
use umbel_scheduler::{Answer, Commit, Effect, Fence, Publish, ReadyChord, Release, RunId, admission::Ended};
use uuid::Uuid;

use super::{Ledger, LedgerError, Stamp, Taken};
use crate::{
    backends::{Backend, BackendError, Beginning, ChordStep, Ending, Sought},
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
    /// What names this process gives begin with, and how many it has given.
    names: (String, AtomicU64),
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
    /// The chord that it concludes, and whether a member has failed.
    concludes: Option<(GroupId, bool)>,
    release: Option<(Held, Release)>,
    /// Whether something is sent with its stamp.
    sends: bool,
    /// What the backend remembers of it until it is paid for.
    remembered: Option<String>,
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

    /// Which commits' fences hold now. A chord's is claimed by asking.
    async fn fences(&self, batch: &[Commit], concluding: &mut Concluding<'_>) -> Result<Vec<bool>, LedgerError> {
        let deliveries: Vec<Held> = batch.iter().filter_map(delivery).collect();
        let mut held = self.broker.holds(&deliveries).await.map_err(broker_error)?.into_iter();
        let mut seen: Vec<Held> = Vec::new();
        let mut fences = Vec::with_capacity(batch.len());
        for commit in batch {
            fences.push(match &commit.fence {
                Fence::Open | Fence::Once { .. } => true,
                Fence::Chord { group, .. } => concluding.begin(group) && self.backend.claim_chord(group).await.map_err(backend_error)?,
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

    /// Sends on what is only moved (a later time, another turn), in one step with its acknowledgement; which commits found it not held
    /// any more.
    async fn send_on(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<Vec<usize>, LedgerError> {
        let (mut places, mut moves) = (Vec::new(), Vec::new());
        for at in all {
            let Fence::Delivery { run: Some(run), .. } = &batch[*at].fence else { continue };
            let phases = &mut phases[*at];
            let moved = matches!(&phases.publish[..], [publish] if RunId::of(&publish.invocation) == *run);
            if moved && phases.store.is_empty() && phases.chord.is_empty() && matches!(phases.release, Some((_, Release::Ack))) {
                moves.extend(phases.release.take().map(|(held, _)| held).zip(phases.publish.pop()));
                places.push(*at);
            }
        }
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let sent = self.broker.send_on(moves).await.into_iter().collect::<Result<Vec<bool>, _>>().map_err(broker_error)?;
        Ok(places.into_iter().zip(sent).filter(|(_, sent)| !sent).map(|(at, _)| at).collect())
    }

    /// Publishes. Who submits something and dies does not send it again, so that it must go whole; an ending is taken up by others.
    async fn publish(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<(), LedgerError> {
        let (mut each, mut whole) = (Vec::new(), Vec::new());
        for at in all {
            let publish = std::mem::take(&mut phases[*at].publish);
            let submits = matches!(batch[*at].fence, Fence::Open | Fence::Once { .. });
            if submits && publish.len() > 1 { whole.extend(publish) } else { each.extend(publish) }
        }
        if !each.is_empty() {
            self.broker.publish(each).await.into_iter().collect::<Result<Vec<()>, _>>().map_err(broker_error)?;
        }
        if !whole.is_empty() {
            self.broker.publish_whole(whole).await.map_err(broker_error)?;
        }
        Ok(())
    }

    /// Takes out of endings of messages that came again what another taking has done meanwhile.
    async fn spare(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<(), LedgerError> {
        let mut places = Vec::new();
        let mut sought = Vec::new();
        for at in all {
            let Fence::Delivery { attempt: 2.., run: Some(run), .. } = &batch[*at].fence else { continue };
            if phases[*at].ends() {
                places.push(*at);
                sought.push(Sought { run: run.clone(), again: true, stamp: None });
            }
        }
        for (at, ended) in places.into_iter().zip(self.seek(sought).await?) {
            if ended.is_some() {
                phases[at].publish.clear();
                phases[at].store.clear();
                if matches!(ended, Some(Ended::Whole)) {
                    phases[at].chord.clear();
                }
            }
        }
        Ok(())
    }

    /// Why there is nothing left to run of messages, where there is not.
    async fn seek(&self, sought: Vec<Sought>) -> Result<Vec<Option<Ended>>, LedgerError> {
        if sought.is_empty() {
            return Ok(Vec::new());
        }
        let mut ended: Vec<Option<Ended>> = match self.backend.endings() {
            Some(endings) => {
                let over = endings.look(&sought).await.map_err(backend_error)?;
                over.into_iter().map(|over| over.then_some(Ended::Whole)).collect()
            }
            None => vec![None; sought.len()],
        };
        let unknown = sought.iter().enumerate().filter(|(at, sought)| sought.again && ended[*at].is_none());
        let (places, ids): (Vec<usize>, Vec<TaskId>) = unknown.map(|(at, sought)| (at, sought.run.task())).unzip();
        if !ids.is_empty() {
            let records = self.backend.get(&ids).await.map_err(backend_error)?;
            for (at, record) in places.into_iter().zip(records) {
                let success = record.filter(|record| record.status == State::Success);
                ended[at] = success.map(|record| Ended::Stored(Box::new(record)));
            }
        }
        Ok(ended)
    }

    /// Writes on what endings send that they send it.
    async fn stamp(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<(), LedgerError> {
        let Some(endings) = self.backend.endings() else { return Ok(()) };
        let mut places = Vec::new();
        let mut beginnings = Vec::new();
        for at in all {
            let beginning = match &batch[*at].fence {
                Fence::Delivery { tag, attempt, run: Some(run) } => {
                    if phases[*at].publish.iter().all(|publish| RunId::of(&publish.invocation) == *run) {
                        continue;
                    }
                    Beginning { what: run.as_str().to_owned(), name: format!("{}.{tag}.{attempt}", self.names.0), first: *attempt == 1 }
                }
                Fence::Chord { group, .. } if !phases[*at].publish.is_empty() => {
                    Beginning { what: format!("chord:{group}"), name: self.name(), first: false }
                }
                _ => continue,
            };
            places.push(*at);
            beginnings.push(beginning);
        }
        if beginnings.is_empty() {
            return Ok(());
        }
        let names = endings.begin(&beginnings).await.map_err(backend_error)?;
        for ((at, Beginning { what, .. }), ending) in places.into_iter().zip(beginnings).zip(names) {
            for publish in &mut phases[at].publish {
                if RunId::of(&publish.invocation).as_str() != what {
                    Stamp { ending: ending.clone(), copy: self.name() }.put(&mut publish.invocation);
                }
            }
            phases[at].sends = true;
            phases[at].remembered = Some(what);
        }
        Ok(())
    }

    /// Lets the backend forget what is paid for. It goes by itself where that does not come about.
    fn forget(&self, names: Vec<String>) {
        if names.is_empty() || self.backend.endings().is_none() {
            return;
        }
        let backend = Arc::clone(&self.backend);
        crate::task::spawn(async move {
            if let Some(endings) = backend.endings()
                && let Err(error) = endings.forget(&names).await
            {
                tracing::debug!(%error, "what is remembered of endings stays until it expires");
            }
        });
    }

    /// Carries out commits phase by phase.
    async fn commit_together(&self, batch: &[Commit]) -> Result<Vec<Answer>, LedgerError> {
        let mut concluding = Concluding { ledger: self, groups: Vec::new() };
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

    async fn chord_steps(&self, steps: Vec<ChordStep>) -> Result<Vec<ReadyChord>, LedgerError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        self.backend.chord_steps(steps).await.map_err(backend_error)
    }

    /// Concludes a chord. Publishing may have taken longer than a claim lasts; nobody may have noticed.
    async fn close(&self, group: &GroupId, failed: bool) -> Result<(), LedgerError> {
        let closed = self.backend.close_chord(group, failed).await.map_err(backend_error)?;
        if !closed && self.backend.claim_chord(group).await.map_err(backend_error)? {
            self.backend.close_chord(group, failed).await.map_err(backend_error)?;
        }
        Ok(())
    }

    /// Stores results, records parts and concludes chords: in one step where the backend can. Which commits' chords were another's to
    /// conclude meanwhile.
    async fn store(
        &self,
        batch: &[Commit],
        all: &[usize],
        phases: &mut [Phases],
        ready: &mut [Vec<ReadyChord>],
    ) -> Result<Vec<usize>, LedgerError> {
        let storing: Vec<usize> = all.iter().copied().filter(|at| phases[*at].stores()).collect();
        if storing.is_empty() {
            return Ok(Vec::new());
        }
        let Some(endings) = self.backend.endings() else {
            let records = storing.iter().flat_map(|at| std::mem::take(&mut phases[*at].store)).collect();
            self.backend.store_of(records).await.into_iter().collect::<Result<Vec<bool>, _>>().map_err(backend_error)?;
            for at in storing {
                ready[at].extend(self.chord_steps(std::mem::take(&mut phases[at].chord)).await?);
                if let Some((group, failed)) = phases[at].concludes.take() {
                    self.close(&group, failed).await?;
                }
            }
            return Ok(Vec::new());
        };
        let ending = |at: &usize| {
            let phases = &mut phases[*at];
            let mark = match &batch[*at].fence {
                Fence::Delivery { run: Some(run), .. } if phases.needs_mark() => Some(run.clone()),
                _ => None,
            };
            if let Some(run) = &mark {
                phases.remembered = Some(run.as_str().to_owned());
            }
            let records = std::mem::take(&mut phases.store).into_iter().map(|(_, record)| record).collect();
            Ending { concludes: phases.concludes.take(), mark, records, steps: std::mem::take(&mut phases.chord) }
        };
        let stored: Vec<Ending> = storing.iter().map(ending).collect();
        let mut refused = Vec::new();
        for (at, chords) in storing.into_iter().zip(endings.store(&stored).await.map_err(backend_error)?) {
            match chords {
                Some(chords) => ready[at].extend(chords),
                None => refused.push(at),
            }
        }
        Ok(refused)
    }
}

/// How many of the first commits may go through the phases together. One that opens or concludes a chord comes behind what
/// earlier ones do to chords, and one that counts for a chord behind the conclusion of that.
fn together(batch: &[Commit]) -> usize {
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

/// The delivery that a commit is fenced by. The queue is not part of its name; the broker knows it.
fn delivery(commit: &Commit) -> Option<Held> {
    match &commit.fence {
        Fence::Delivery { tag, attempt, .. } => Some(Held { queue: "".into(), tag: tag.clone(), attempt: *attempt }),
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

    /// Whether it is the ending of its task, for good or until the next attempt.
    fn ends(&self) -> bool {
        matches!(self.release, Some((_, Release::Ack | Release::Dead { .. })))
    }

    fn stores(&self) -> bool {
        !self.store.is_empty() || !self.chord.is_empty() || self.concludes.is_some() || (self.sends && self.ends())
    }

    /// Whether its results do not say that it has ended: a SUCCESS does, and only the task's own is among them.
    fn needs_mark(&self) -> bool {
        self.ends() && !self.store.iter().any(|(_, record)| record.status == State::Success)
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
