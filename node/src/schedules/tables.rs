//! Tables of an application's own as a source of entries: those of django-celery-beat.
//!
//! The rows are the application's and are changed by people, in Django's admin; the store has a copy of those that are on, which
//! whoever leads keeps the same. Ticks are sent from the store, so they go on while the database is away, and how far an entry has
//! come is the store's to know: the rows are told (`last_run_at`, `total_run_count`) and not asked, but when an entry is new.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use umbel_proto::Millis;
use umbel_scheduler::{
    beat::{Entry, Mark, Source},
    schedule::When,
};

use super::application;
pub use crate::executors::python::Ran;
use crate::executors::python::{AppRow, PythonTables};

/// How often the tables are asked whether they have changed, where nobody says: as often as django-celery-beat looks.
pub const EVERY: Duration = Duration::from_secs(5);

/// Tables that entries are read from.
#[async_trait]
pub trait Tables: fmt::Debug + Send + Sync + 'static {
    /// Writes down what was sent, and tells the rows if they have changed since `known` was told.
    ///
    /// # Errors
    /// Why they could not be asked, for a person to read.
    async fn look(&self, question: Question) -> Result<Seen, String>;
}

/// What the tables are asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question {
    /// Whether this is a leader's first question.
    pub first: bool,
    /// What they said last, if that is to be compared with.
    pub known: Option<String>,
    /// What was sent.
    pub ran: Vec<Ran>,
}

/// What they say.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// To be known the next time.
    pub change: String,
    /// All rows that are on, if any has changed.
    pub rows: Option<Vec<Row>>,
    /// What is wrong with rows that are left out.
    pub wrong: Vec<String>,
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it says.
    pub entry: Entry,
    /// `last_run_at`.
    pub last: Option<Millis>,
    /// `total_run_count`.
    pub runs: u64,
    /// `date_changed`.
    pub changed: Option<Millis>,
}

impl Row {
    /// The mark of a row that is new to the store: it goes on from where another beat left it, and one that never ran counts from when
    /// it was written down (`django_celery_beat/schedulers.py`, class `ModelEntry`). What was to begin in the past is due at once.
    pub fn mark(&self, now: Millis) -> Mark {
        let begins = match (self.last, self.entry.starts, &self.entry.when) {
            (Some(last), ..) => last,
            (None, Some(starts), _) => starts - 1,
            (None, None, When::Clocked { at }) => at - 1,
            (None, None, _) => self.changed.unwrap_or(now),
        };
        Mark { due: begins.min(now), sent: self.last, runs: self.runs, paused: false }
    }
}

/// Rows as the application's process tells them; `timezone` is the application's.
fn understand(rows: Vec<AppRow>, timezone: &str, wrong: &mut Vec<String>) -> Vec<Row> {
    let mut understood = Vec::with_capacity(rows.len());
    for row in rows {
        let AppRow { entry, timezone: own, one_off, starts, ends, last, runs, changed } = row;
        let name = entry.name.clone();
        match application::one(entry, own.as_deref().unwrap_or(timezone)) {
            Ok(entry) => {
                // What expires at a time is not due at it any more.
                let entry = Entry { source: Source::Django, one_off, starts, ends: ends.map(|ends| ends - 1), ..entry };
                understood.push(Row { entry, last, runs, changed });
            }
            Err(reason) => wrong.push(format!("the periodic task {name:?} is left out: {reason}")),
        }
    }
    understood
}

/// The tables of a Python application.
#[derive(Debug, Clone)]
pub struct DjangoTables {
    process: PythonTables,
    timezone: String,
}

impl DjangoTables {
    /// Those that `process` reads; `timezone` is that of rows that name none.
    pub fn new(process: PythonTables, timezone: impl Into<String>) -> Self {
        Self { process, timezone: timezone.into() }
    }
}

#[async_trait]
impl Tables for DjangoTables {
    async fn look(&self, question: Question) -> Result<Seen, String> {
        let Question { first, known, ran } = question;
        let looked = self.process.look(first, known, ran).await.map_err(|error| error.to_string())?;
        let (change, mut wrong) = (looked.change, looked.wrong);
        let Some(rows) = looked.rows else { return Ok(Seen { change, rows: None, wrong }) };
        let timezone = self.timezone.clone();
        // Zones may be read from disk.
        let understood = tokio::task::spawn_blocking(move || {
            let rows = understand(rows, &timezone, &mut wrong);
            (rows, wrong)
        });
        let (rows, wrong) = understood.await.map_err(|error| format!("rows cannot be understood: {error}"))?;
        Ok(Seen { change, rows: Some(rows), wrong })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(json: &str) -> (Vec<Row>, Vec<String>) {
        let mut wrong = Vec::new();
        let rows = understand(serde_json::from_str(json).unwrap(), "Europe/Berlin", &mut wrong);
        (rows, wrong)
    }

    fn row(rest: &str) -> Row {
        let text = format!(
            r#"[{{"name": "a", "task": "t", "args": [], "kwargs": {{}}, "options": {{"queue": "q"}}, "relative": false, "runs": 3, "changed": 5000, {rest}}}]"#
        );
        let (mut rows, wrong) = rows(&text);
        assert_eq!(wrong, Vec::<String>::new());
        rows.remove(0)
    }

    /// Goal: a row means what django-celery-beat takes it for, and a new one goes on from where another beat left it.
    #[test]
    fn rows_are_understood() {
        let every = r#""schedule": {"kind": "every", "seconds": 10.0, "relative": false}, "timezone": null"#;
        let ran = row(&format!(r#"{every}, "one_off": false, "starts": null, "ends": 9000, "last": 2000"#));
        assert_eq!((ran.entry.source, ran.entry.ends, ran.entry.timezone.as_deref()), (Source::Django, Some(8_999), Some("Europe/Berlin")));
        assert_eq!(ran.mark(6_000), Mark { due: 2_000, sent: Some(2_000), runs: 3, paused: false });
        let new = row(&format!(r#"{every}, "one_off": true, "starts": null, "ends": null, "last": null"#));
        assert_eq!((new.mark(6_000).due, new.entry.one_off), (5_000, true));
        assert_eq!(new.mark(4_000).due, 4_000, "a mark is never ahead of the clock");
        let begun = row(&format!(r#"{every}, "one_off": false, "starts": 1000, "ends": null, "last": null"#));
        assert_eq!((begun.mark(6_000).due, begun.entry.starts), (999, Some(1_000)));
        let clocked = row(
            r#""schedule": {"kind": "clocked", "at": 3000}, "timezone": null, "one_off": true, "starts": null, "ends": null, "last": null"#,
        );
        assert_eq!((clocked.mark(6_000).due, clocked.entry.when.clone()), (2_999, When::Clocked { at: 3_000 }));
        let cron = row(r#""schedule": {"kind": "crontab", "minute": "0", "hour": "4", "day_of_week": "*", "day_of_month": "*",
             "month_of_year": "*"}, "timezone": "Asia/Tokyo", "one_off": false, "starts": null, "ends": null, "last": null"#);
        assert_eq!(cron.entry.timezone.as_deref(), Some("Asia/Tokyo"));
    }

    /// Goal: a row that means nothing is named, and harms no other.
    #[test]
    fn a_wrong_row_is_named() {
        let (rows, wrong) = rows(
            r#"[{"name": "short", "task": "t", "schedule": {"kind": "every", "seconds": 0.000001, "relative": false}, "args": [],
            "kwargs": {}, "options": {}, "relative": false, "timezone": null, "one_off": false, "starts": null, "ends": null, "last": null,
            "runs": 0, "changed": null}]"#,
        );
        assert_eq!((rows.len(), wrong.len()), (0, 1));
        assert!(wrong[0].contains("short"), "{wrong:?}");
    }
}
