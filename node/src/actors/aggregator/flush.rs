//! The tasks of the aggregator: one flush, and the sweep for chords that nobody has concluded.

use std::{iter, ops::Range, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use ractor::{ActorRef, ActorStatus};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::GroupId;
use umbel_scheduler::{Answer, Commit, ReadyChord};

use super::{
    super::{Shared, cast, chance::Backoff, panic_text},
    AggregatorMsg, Began,
    queue::{Pending, Settled, Then},
};
use crate::{facts::Fact, ledgers::LedgerError};

/// How often to look for chords that nobody has concluded, and how many at a time.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const SWEEP_MAX: usize = 64;

/// What the aggregator has to know of a flush.
#[derive(Default)]
pub(crate) struct Flushed {
    /// Chords that are complete with it.
    pub(super) ready: Vec<ReadyChord>,
    /// Conclusions that were in it, and whether they happened (or somebody else's had).
    pub(super) concluded: Vec<(GroupId, bool)>,
    /// Endings that the ledger refuses to carry out, now and later, and why.
    pub(super) refused: Vec<(Box<Settled>, String)>,
}

/// Commits a batch, however long that takes, and lets its claims go. It outlives its aggregator by one answer.
pub(super) fn spawn(shared: Arc<Shared>, aggregator: ActorRef<AggregatorMsg>, batch: Vec<Pending>) {
    crate::task::spawn(async move {
        let (commits, then): (Vec<Commit>, Vec<Then>) = batch.into_iter().map(|pending| (pending.commit, pending.then)).unzip();
        let Some(answers) = commit_all(&shared, &aggregator, commits).await else {
            // Nobody will ask again: what is not known to be durable goes back to its queues.
            return;
        };
        let mut flushed = Flushed::default();
        for (then, answer) in then.into_iter().zip(answers) {
            match answer {
                Ok(Answer::Done { ready }) => {
                    durable(&shared, then, &mut flushed);
                    flushed.ready.extend(ready);
                }
                Ok(Answer::Refused) => too_late(&shared, then, &mut flushed),
                Err(reason) => refused(then, reason, &mut flushed),
            }
        }
        cast(&aggregator, AggregatorMsg::Flushed(flushed));
    });
}

fn durable(shared: &Shared, then: Then, flushed: &mut Flushed) {
    match then {
        Then::Settled(settled) => {
            let claim = settled.claim;
            for fact in settled.facts {
                shared.facts.tell(claim.invocation.as_ref().ok(), claim.debt.held(), fact);
            }
            claim.settled();
        }
        Then::Begun(reply) => reply(Began::Durable),
        Then::Told(reply) => drop(reply.send(true)),
        Then::Noted => {}
        Then::Concluded(group) => flushed.concluded.push((group, true)),
    }
}

/// The fence did not hold: the message is not held here any more, or the chord has been concluded.
fn too_late(shared: &Shared, then: Then, flushed: &mut Flushed) {
    match then {
        Then::Settled(settled) => {
            let claim = settled.claim;
            if !settled.facts.is_empty() {
                shared.facts.tell(claim.invocation.as_ref().ok(), claim.debt.held(), Fact::Zombie);
            }
            claim.settled();
        }
        Then::Begun(reply) => reply(Began::TooLate),
        Then::Told(reply) => drop(reply.send(false)),
        Then::Noted => {}
        Then::Concluded(group) => flushed.concluded.push((group, false)),
    }
}

/// The ledger will not carry a commit out, now or later. That harms only its own task.
fn refused(then: Then, reason: String, flushed: &mut Flushed) {
    match then {
        Then::Settled(settled) => flushed.refused.push((settled, reason)),
        Then::Begun(reply) => reply(Began::Refused),
        Then::Told(reply) => drop(reply.send(false)),
        Then::Noted => tracing::warn!(reason, "the ledger refuses the state of a running task"),
        Then::Concluded(group) => {
            tracing::error!(%group, reason, "the ledger refuses the conclusion of a chord; it is tried again with the next sweep");
            flushed.concluded.push((group, false));
        }
    }
}

/// An answer for each. A batch that the ledger refuses as a whole is halved until the ones at fault stand alone. `None` when
/// the ledger does not answer and the aggregator is no more.
async fn commit_all(shared: &Shared, aggregator: &ActorRef<AggregatorMsg>, commits: Vec<Commit>) -> Option<Vec<Result<Answer, String>>> {
    let mut answers: Vec<Result<Answer, String>> = Vec::with_capacity(commits.len());
    // Ranges still to do; the last is the next, so that they are done in order.
    let mut todo: Vec<Range<usize>> = iter::once(0..commits.len()).collect();
    while let Some(range) = todo.pop() {
        match commit_once(shared, aggregator, &commits[range.clone()]).await? {
            Ok(done) => answers.extend(done.into_iter().map(Ok)),
            Err(error) if range.len() <= 1 => answers.push(Err(error.to_string())),
            Err(_) => {
                let middle = range.start + range.len() / 2;
                todo.extend([middle..range.end, range.start..middle]);
            }
        }
    }
    Some(answers)
}

/// Asks until there is an answer or a refusal, or nobody is left to ask for.
async fn commit_once(shared: &Shared, aggregator: &ActorRef<AggregatorMsg>, batch: &[Commit]) -> Option<Result<Vec<Answer>, LedgerError>> {
    let mut backoff = Backoff::by_link();
    loop {
        let why = match AssertUnwindSafe(shared.ledger.commit(batch.to_vec())).catch_unwind().await {
            Ok(Ok(answers)) if answers.len() == batch.len() => {
                shared.links.ledger.up();
                return Some(Ok(answers));
            }
            Ok(Ok(answers)) => format!("{} answers to {} commits", answers.len(), batch.len()),
            Ok(Err(error)) if !error.is_transient() => return Some(Err(error)),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
        };
        shared.links.ledger.down(&why);
        if aggregator.get_status() >= ActorStatus::Stopping {
            return None;
        }
        sleep(backoff.next()).await;
    }
}

/// Looks for chords that nobody has concluded, at once and then for ever.
pub(super) fn spawn_sweep(shared: Arc<Shared>, aggregator: ActorRef<AggregatorMsg>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(crate::task::spawn(async move {
        loop {
            match AssertUnwindSafe(shared.ledger.unconcluded(SWEEP_MAX)).catch_unwind().await {
                Ok(Ok(chords)) if !chords.is_empty() => cast(&aggregator, AggregatorMsg::Swept(chords)),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!("cannot look for unconcluded chords: {error}"),
                Err(panic) => tracing::error!("looking for unconcluded chords panicked: {}", panic_text(&*panic)),
            }
            sleep(SWEEP_EVERY).await;
        }
    }))
}
