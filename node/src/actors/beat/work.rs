//! What beat has done elsewhere: questions to the store, each a task that reports back with one message.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::broadcast,
    time::{Instant, timeout},
};
use umbel_proto::Millis;
use umbel_scheduler::{
    Publish,
    beat::{Action, Entry, Mark, Sending, Source, Tick},
    lease::Token,
    schedule::Schedule,
};

use super::{
    Sent,
    declared::{begin, difference},
};
use crate::{
    actors::Shared,
    brokers::BrokerError,
    clock,
    schedules::{Answer, Book, Candidate, Kept, Poll, Schedules, Step, TICKS_MAX, tables::Row, written::schedule},
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

/// What is declared on a node.
pub(super) struct Declared {
    pub(super) entries: BTreeMap<Source, Vec<Entry>>,
    /// The rows of tables, where they have been read.
    pub(super) rows: Option<Arc<Vec<Row>>>,
    pub(super) timezone: String,
}

/// Brings what is declared here into the store, and reads all entries.
pub(super) async fn load(schedules: Arc<dyn Schedules>, candidate: Candidate, token: Token, declared: Declared) -> Loaded {
    let Declared { entries: mut declared, rows, timezone } = declared;
    if let Some(rows) = &rows {
        declared.insert(Source::Django, rows.iter().map(|row| row.entry.clone()).collect());
    }
    let book = async {
        let mut book = schedules.book().await?;
        let known = book.entries.iter().map(|kept| kept.entry.name.clone()).collect();
        let (put, remove) = difference(&declared, &book);
        if !put.is_empty() || !remove.is_empty() {
            tracing::info!(changed = put.len(), removed = remove.len(), "beat's declared entries are brought into the store");
            schedules.put(put).await?;
            schedules.remove(&remove).await?;
            book = schedules.book().await?;
        }
        let mut begun = rows.map(|rows| begin(&rows, &known, &book)).unwrap_or_default();
        if !begun.is_empty() {
            while !begun.is_empty() {
                let rest = begun.split_off(begun.len().min(TICKS_MAX));
                schedules.tick(&candidate, token, std::mem::replace(&mut begun, rest)).await?;
            }
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

/// Where messages go, and who is told of those that were sent.
pub(super) struct Outbox {
    pub(super) queue: Option<umbel_proto::QueueName>,
    pub(super) sent: broadcast::Sender<Sent>,
}

/// Makes the messages and hands the ticks to the store.
pub(super) async fn carry_out(
    shared: Arc<Shared>,
    schedules: Arc<dyn Schedules>,
    candidate: Candidate,
    token: Token,
    outbox: Outbox,
    ticks: Vec<Tick>,
    now: Millis,
) -> Carried {
    let mut steps: Vec<Step> = {
        let sending = Sending { settings: &shared.settings, specs: &shared.registry, queue: outbox.queue.as_ref() };
        ticks.iter().map(|tick| step(&sending, tick, now)).collect()
    };
    // Kept where somebody listens.
    let wanted = outbox.sent.receiver_count() > 0;
    let kept: Vec<Option<Arc<Publish>>> = steps.iter().filter(|_| wanted).map(|step| step.message.clone().map(Arc::new)).collect();
    let mut answers = Vec::with_capacity(steps.len());
    let mut failed = None;
    while !steps.is_empty() && failed.is_none() {
        let rest = steps.split_off(steps.len().min(TICKS_MAX));
        match schedules.tick(&candidate, token, std::mem::replace(&mut steps, rest)).await {
            Ok(part) => answers.extend(part),
            Err(error) => failed = Some(error),
        }
    }
    for (answer, message) in answers.iter().zip(kept) {
        if let (Answer::Done, Some(message)) = (answer, message) {
            // An error means that the last listener has just gone.
            let _ = outbox.sent.send(Sent { at: clock::now(), message });
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
