//! The tasks of the aggregator: one flush, and the sweep for chords that nobody has concluded.

use std::{ops::Range, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use ractor::ActorRef;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use umbel_scheduler::{Answer, Commit};

use super::{
    super::{Shared, cast, chance::Backoff, panic_text},
    AggregatorMsg,
};
use crate::ledgers::LedgerError;

/// How often to look for chords that nobody has concluded, and how many at a time.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const SWEEP_MAX: usize = 64;

/// Commits a batch, however long that takes.
pub(super) fn spawn(shared: Arc<Shared>, aggregator: ActorRef<AggregatorMsg>, commits: Vec<Commit>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let answers = commit_all(&shared, commits).await;
        cast(&aggregator, AggregatorMsg::Flushed(answers));
    }))
}

/// An answer for each. A batch that the ledger refuses as a whole is halved until the ones at fault stand alone.
async fn commit_all(shared: &Shared, commits: Vec<Commit>) -> Vec<Result<Answer, String>> {
    let mut answers: Vec<Result<Answer, String>> = Vec::with_capacity(commits.len());
    // Ranges still to do; the last is the next, so that they are done in order.
    let mut todo: Vec<Range<usize>> = vec![0..commits.len()];
    while let Some(range) = todo.pop() {
        match commit_once(shared, &commits[range.clone()]).await {
            Ok(done) => answers.extend(done.into_iter().map(Ok)),
            Err(error) if range.len() <= 1 => answers.push(Err(error.to_string())),
            Err(_) => {
                let middle = range.start + range.len() / 2;
                todo.extend([middle..range.end, range.start..middle]);
            }
        }
    }
    answers
}

/// Asks until there is an answer or a refusal.
async fn commit_once(shared: &Shared, batch: &[Commit]) -> Result<Vec<Answer>, LedgerError> {
    let mut backoff = Backoff::new();
    loop {
        let why = match AssertUnwindSafe(shared.ledger.commit(batch.to_vec())).catch_unwind().await {
            Ok(Ok(answers)) if answers.len() == batch.len() => {
                shared.links.ledger.up();
                return Ok(answers);
            }
            Ok(Ok(answers)) => format!("{} answers to {} commits", answers.len(), batch.len()),
            Ok(Err(error)) if !error.is_transient() => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
        };
        shared.links.ledger.down(&why);
        sleep(backoff.next()).await;
    }
}

/// Looks for chords that nobody has concluded, at once and then for ever.
pub(super) fn spawn_sweep(shared: Arc<Shared>, aggregator: ActorRef<AggregatorMsg>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
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
