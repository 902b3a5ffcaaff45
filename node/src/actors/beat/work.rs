//! What beat has done elsewhere: questions to the store, each a task that reports back with one message.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use umbel_proto::Millis;
use umbel_scheduler::{
    beat::{Action, Entry, Mark, Sending, Source, Tick},
    lease::Token,
    schedule::Schedule,
};

use super::declared::difference;
use crate::{
    actors::Shared,
    brokers::BrokerError,
    clock,
    schedules::{Answer, Book, Candidate, Kept, Poll, Schedules, Step, TICKS_MAX, written::schedule},
};

/// What the store said of the lease.
pub(crate) struct Asked {
    /// When it was asked, by the clock that never goes back.
    pub(super) at: Instant,
    pub(super) poll: Result<Poll, BrokerError>,
}

pub(super) async fn ask(schedules: Arc<dyn Schedules>, candidate: Candidate) -> Asked {
    let at = Instant::now();
    // An answer that comes after the lease would have ended is none.
    let poll = match timeout(candidate.lease, schedules.campaign(&candidate)).await {
        Ok(poll) => poll,
        Err(_) => {
            let reason = format!("no answer within {:?}", candidate.lease);
            Err(BrokerError::Unavailable { kind: schedules.kind(), reason })
        }
    };
    Asked { at, poll }
}

/// How long giving the lease up may take.
const RESIGN: Duration = Duration::from_secs(2);

pub(super) async fn resign(schedules: Arc<dyn Schedules>, candidate: Candidate) {
    match timeout(RESIGN, schedules.resign(&candidate)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("beat's lease cannot be given up, it ends by itself: {error}"),
        Err(_) => tracing::debug!("beat's lease cannot be given up in time, it ends by itself"),
    }
}

/// The entries, read and understood.
pub(crate) struct Loaded {
    /// Under which token they were read.
    pub(super) token: Token,
    pub(super) book: Result<Understood, BrokerError>,
}

pub(super) struct Understood {
    pub(super) entries: Vec<(Arc<Entry>, Schedule, Mark)>,
    /// Entries that cannot be understood: names, and why.
    pub(super) broken: BTreeMap<String, String>,
    pub(super) revision: u64,
}

/// Brings what is declared here into the store, and reads all entries.
pub(super) async fn load(schedules: Arc<dyn Schedules>, token: Token, declared: BTreeMap<Source, Vec<Entry>>, timezone: String) -> Loaded {
    let book = async {
        let mut book = schedules.book().await?;
        let (put, remove) = difference(&declared, &book);
        if !put.is_empty() || !remove.is_empty() {
            tracing::info!(changed = put.len(), removed = remove.len(), "beat's declared entries are brought into the store");
            schedules.put(put).await?;
            schedules.remove(&remove).await?;
            book = schedules.book().await?;
        }
        // Zones may be read from disk.
        let understood = tokio::task::spawn_blocking(move || understand(book, &timezone)).await;
        understood.map_err(|error| BrokerError::Refused { kind: schedules.kind(), reason: format!("entries cannot be read: {error}") })
    };
    Loaded { token, book: book.await }
}

fn understand(book: Book, timezone: &str) -> Understood {
    let mut broken: BTreeMap<String, String> = book.unreadable.into_iter().collect();
    let mut entries = Vec::with_capacity(book.entries.len());
    for Kept { entry, mark } in book.entries {
        match schedule(&entry, timezone) {
            Ok(schedule) => entries.push((Arc::new(entry), schedule, mark)),
            Err(reason) => drop(broken.insert(entry.name, reason)),
        }
    }
    Understood { entries, broken, revision: book.revision }
}

/// Ticks, carried out or not.
pub(crate) struct Carried {
    pub(super) ticks: Vec<Tick>,
    pub(super) answers: Result<Vec<Answer>, BrokerError>,
}

/// Makes the messages and hands the ticks to the store.
pub(super) async fn carry_out(
    shared: Arc<Shared>,
    schedules: Arc<dyn Schedules>,
    candidate: Candidate,
    token: Token,
    sending: Option<umbel_proto::QueueName>,
    ticks: Vec<Tick>,
    now: Millis,
) -> Carried {
    let mut steps: Vec<Step> = {
        let sending = Sending { settings: &shared.settings, specs: &shared.registry, queue: sending.as_ref() };
        ticks.iter().map(|tick| step(&sending, tick, now)).collect()
    };
    let mut answers = Vec::with_capacity(steps.len());
    let mut failed = None;
    while !steps.is_empty() && failed.is_none() {
        let rest = steps.split_off(steps.len().min(TICKS_MAX));
        match schedules.tick(&candidate, token, std::mem::replace(&mut steps, rest)).await {
            Ok(part) => answers.extend(part),
            Err(error) => failed = Some(error),
        }
    }
    let answers = match failed {
        Some(error) => Err(error),
        None => Ok(answers),
    };
    Carried { ticks, answers }
}

fn step(sending: &Sending<'_>, tick: &Tick, now: Millis) -> Step {
    let message = match tick.action {
        Action::Send => sending.message(tick, now).unwrap_or_else(|error| {
            // It will be the same the next time: the entry goes on without it, and whoever wrote it is told each time.
            tracing::error!(entry = tick.entry.name, task = tick.entry.task, "a scheduled task cannot be sent: {error}");
            None
        }),
        Action::Skip | Action::Rewind => None,
    };
    // ETA and countdown count from the store's time, as due times do; the queue asks this machine's clock.
    let message = message.map(|mut publish| {
        publish.due = publish.due.map(|due| due - now + clock::now());
        publish
    });
    Step { name: tick.entry.name.clone(), from: tick.from, mark: tick.mark.clone(), message }
}
