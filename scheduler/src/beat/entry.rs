//! An entry of a schedule, and how far it has come.

use std::fmt;

use jiff::tz::TimeZone;
use thiserror::Error;
use umbel_proto::{Map, Millis, Value};

use crate::schedule::{Schedule, ScheduleError, When};

/// What to send, and when (`celery/beat.py`, class `ScheduleEntry`).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Its name, by which it is known in the whole cluster.
    pub name: String,
    /// The task.
    pub task: String,
    /// When.
    pub when: When,
    /// The time zone of its wall clock; `None` is that of the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Positional arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Value>,
    /// Keyword arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub kwargs: Map,
    /// Options of `apply_async`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map,
    /// What becomes of due times that nobody was there for.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Up to how many milliseconds after its due time it is sent; how many is drawn from entry and due time, so that every node
    /// draws the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jitter_ms: Millis,
    /// Not due before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Millis>,
    /// Not due after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Millis>,
    /// Whether it is over once it has been sent.
    #[serde(default, skip_serializing_if = "is_false")]
    pub one_off: bool,
    /// Whether it is sent at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Where it comes from.
    pub source: Source,
}

// The form of serde's attributes.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &Millis) -> bool {
    *number == 0
}

// Likewise.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn yes() -> bool {
    true
}

/// What becomes of due times that nobody was there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// Nothing: they are missed.
    Skip,
    /// The last of them is sent. Celery does so.
    #[default]
    One,
    /// All of them are sent that are at most so old.
    All {
        /// In milliseconds.
        window_ms: Millis,
    },
}

impl CatchUp {
    /// How far back `all` goes where nothing is said: an hour.
    pub const WINDOW_MS: Millis = 3_600_000;
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip => "skip",
            Self::One => "one",
            Self::All { .. } => "all",
        })
    }
}

/// Where an entry comes from, and therefore who may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `[schedules.*]` of the configuration.
    Config,
    /// The Python application's `beat_schedule`.
    App,
    /// The tables of django-celery-beat.
    Django,
    /// Added at run time.
    Api,
}

impl Source {
    /// The name in tables, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::App => "app",
            Self::Django => "django",
            Self::Api => "api",
        }
    }
}

/// How far an entry has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The due time up to which everything is decided; of a new entry, when it was first seen.
    pub due: Millis,
    /// When it was last sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Millis>,
    /// How often it was sent (Celery's `total_run_count`).
    #[serde(default)]
    pub runs: u64,
    /// Whether it is paused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
}

impl Mark {
    /// That of a new entry.
    pub fn new(now: Millis) -> Self {
        Self { due: now, ..Self::default() }
    }

    /// It is wanted again: what was due while it was not is not made up for. A mark ahead of now stays.
    pub fn go_on(&mut self, now: Millis) {
        self.due = self.due.max(now);
    }

    /// Pauses or resumes.
    pub fn pause(&mut self, paused: bool, now: Millis) {
        if self.paused && !paused {
            self.go_on(now);
        }
        self.paused = paused;
    }
}

/// Why something is no entry.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EntryError {
    /// It has no schedule that can be understood.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// It has no name, or a very long one.
    #[error("the name {0:?} is empty or longer than {NAME_MAX} bytes")]
    Name(String),
    /// It has no task.
    #[error("it names no task")]
    NoTask,
}

/// The longest name of an entry, in bytes.
const NAME_MAX: usize = 400;

impl Entry {
    /// An entry of nothing but what is needed.
    pub fn new(name: impl Into<String>, task: impl Into<String>, when: When) -> Self {
        Self {
            name: name.into(),
            task: task.into(),
            when,
            timezone: None,
            args: Vec::new(),
            kwargs: Map::new(),
            options: Map::new(),
            catch_up: CatchUp::default(),
            jitter_ms: 0,
            starts: None,
            ends: None,
            one_off: false,
            enabled: true,
            source: Source::Api,
        }
    }

    /// Understands its schedule, whose wall clock shows the time of `zone`.
    ///
    /// # Errors
    /// When it is no entry.
    pub fn schedule(&self, zone: TimeZone) -> Result<Schedule, EntryError> {
        if self.name.is_empty() || self.name.len() > NAME_MAX {
            return Err(EntryError::Name(self.name.chars().take(100).collect()));
        }
        if self.task.is_empty() {
            return Err(EntryError::NoTask);
        }
        Ok(Schedule::new(&self.when, zone)?)
    }
}
