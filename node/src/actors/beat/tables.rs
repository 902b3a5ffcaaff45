//! What a leader does about the tables of an application's own: it asks them whether they have changed, and tells them what was sent.
//!
//! How far the rows have been told is not remembered by anybody: a leader compares what the store knows with what the rows say, so
//! that whatever its predecessor did not come to write is written by it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::Millis;
use umbel_scheduler::{
    beat::{Beat as Agenda, Source},
    lease::Token,
};

use crate::{
    actors::chance::Backoff,
    schedules::tables::{EVERY, Question, Ran, Row, Seen, Tables},
};

/// How soon after the last question the rows are told of what was sent since.
const SOON: Duration = Duration::from_secs(1);

/// How often all rows are read whether or not they seem to have changed: what is changed in bulk, or by SQL, says nothing of itself.
const ALL_AGAIN: Duration = Duration::from_secs(300);

/// Tables, and how often they are asked.
#[derive(Debug, Clone)]
pub struct TablesOptions {
    /// The tables.
    pub tables: Arc<dyn Tables>,
    /// How often they are asked whether they have changed.
    pub every: Duration,
}

impl TablesOptions {
    /// Asked as often as django-celery-beat does.
    pub fn new(tables: Arc<dyn Tables>) -> Self {
        Self { tables, every: EVERY }
    }
}

/// What the tables have said.
pub(crate) struct Looked {
    token: Token,
    told: Vec<Ran>,
    all: bool,
    seen: Result<Seen, String>,
}

pub(super) async fn look(tables: Arc<dyn Tables>, token: Token, question: Question) -> Looked {
    let (told, all) = (question.ran.clone(), question.known.is_none());
    Looked { token, told, all, seen: tables.look(question).await }
}

/// How far a leader is with them.
pub(super) struct Following {
    options: TablesOptions,
    known: Option<String>,
    /// When all of them were read last.
    read: Option<Instant>,
    asked: Option<Instant>,
    /// Not before.
    look_at: Instant,
    pub(super) looking: Option<AbortOnDropHandle<()>>,
    /// What each row says, or was told: when it was sent last, how often, and whether it is over.
    told: HashMap<String, (Option<Millis>, u64, bool)>,
    /// The rows, as read under this leadership.
    rows: Option<Arc<Vec<Row>>>,
    backoff: Backoff,
    outage: Option<String>,
}

impl Following {
    pub(super) fn new(options: TablesOptions, now: Instant) -> Self {
        Self {
            options,
            known: None,
            read: None,
            asked: None,
            look_at: now,
            looking: None,
            told: HashMap::new(),
            rows: None,
            backoff: Backoff::new(),
            outage: None,
        }
    }

    /// Leadership begins or ends: what was read is old.
    pub(super) fn forget(&mut self, now: Instant) {
        *self = Self::new(self.options.clone(), now);
    }

    /// When they are to be asked next; `None` while they are.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.looking.is_none().then_some(self.look_at)
    }

    /// An entry of theirs was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.outage.is_none() {
            self.look_at = self.look_at.min(self.asked.map_or(now, |asked| asked + SOON).max(now));
        }
    }

    /// The next question.
    pub(super) fn question(&mut self, agenda: &Agenda, now: Instant) -> (Arc<dyn Tables>, Question) {
        self.asked = Some(now);
        let is_old = self.read.is_none_or(|read| now.saturating_duration_since(read) > ALL_AGAIN);
        let question = Question {
            first: self.read.is_none(),
            known: self.known.clone().filter(|_| !is_old),
            // Without the rows nobody knows what they say.
            ran: if self.rows.is_some() { self.ran(agenda) } else { Vec::new() },
        };
        (self.options.tables.clone(), question)
    }

    fn ran(&self, agenda: &Agenda) -> Vec<Ran> {
        let theirs = agenda.standings().filter(|standing| standing.entry.source == Source::Django);
        theirs
            .filter_map(|standing| {
                let mark = standing.mark;
                let over = standing.entry.one_off && mark.runs > 0;
                let (name, at) = (standing.entry.name.clone(), mark.sent?);
                (self.told.get(&name) != Some(&(Some(at), mark.runs, over))).then_some(Ran { name, at, runs: mark.runs, over })
            })
            .collect()
    }

    /// Takes in an answer; whether entries are to be loaded again.
    pub(super) fn looked(&mut self, looked: Looked, leads: Option<Token>, now: Instant) -> bool {
        self.looking = None;
        if leads != Some(looked.token) {
            return false;
        }
        let Seen { change, rows, wrong } = match looked.seen {
            Ok(seen) => seen,
            Err(reason) => {
                if self.outage.is_none() {
                    tracing::warn!("beat: the tables of django-celery-beat cannot be asked: {reason}; what they said last goes on");
                }
                self.outage = Some(reason);
                self.look_at = now + self.backoff.next();
                return false;
            }
        };
        if self.outage.take().is_some() {
            tracing::info!("beat: the tables of django-celery-beat answer again");
        }
        self.backoff = Backoff::new();
        self.look_at = now + self.options.every;
        self.known = Some(change);
        self.told.extend(looked.told.into_iter().map(|Ran { name, at, runs, over }| (name, (Some(at), runs, over))));
        wrong.iter().for_each(|wrong| tracing::error!("beat: {wrong}"));
        if looked.all {
            self.read = Some(now);
        }
        let Some(rows) = rows else { return false };
        self.told = rows.iter().map(|row| (row.entry.name.clone(), (row.last, row.runs, false))).collect();
        let is_other = self.rows.as_ref().is_none_or(|known| entries(known) != entries(&rows));
        self.rows = Some(Arc::new(rows));
        is_other
    }

    /// The rows, once they have been read.
    pub(super) fn rows(&self) -> Option<Arc<Vec<Row>>> {
        self.rows.clone()
    }

    /// Why they do not answer, while they do not.
    pub(super) fn outage(&self) -> Option<&String> {
        self.outage.as_ref()
    }
}

fn entries(rows: &[Row]) -> BTreeMap<&str, &umbel_scheduler::beat::Entry> {
    rows.iter().map(|row| (row.entry.name.as_str(), &row.entry)).collect()
}
