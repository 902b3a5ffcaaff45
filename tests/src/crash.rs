//! The work that is done while a node is killed again and again, and what must have come of it in the end.
//!
//! A unit of work is one submission. Its tasks are known by labels, `<unit>/<part>`, so that what ran can be told from what a
//! task writes down, whatever its id.

use std::{fmt, fs, path::Path, time::Duration};

use umbel::{
    amqp::{AmqpOptions, QueueType},
    brokers::Backbone,
    embedded::{Store, StoreOptions},
    redis::RedisOptions,
};

/// The name of the file in a run's folder that holds two addresses, of Redis or RabbitMQ for messages and of Redis for results;
/// without it, the run is on an embedded store in the folder.
pub const REDIS: &str = "redis";

/// What a run in `folder` stands on. Must be called within a runtime.
///
/// # Panics
/// When it cannot be opened.
pub fn backbone(folder: &Path) -> Backbone {
    let Ok(urls) = fs::read_to_string(folder.join(REDIS)) else {
        return Backbone::embedded(Store::open(folder.join("store"), StoreOptions::default()).unwrap()).unwrap();
    };
    let (broker, results) = urls.split_once('\n').unwrap();
    // Whoever was told of a complete chord is often dead: others should not wait for long.
    let options = RedisOptions { chord_grace: Duration::from_millis(700), ..RedisOptions::default() };
    if umbel::amqp::Target::is_amqp(broker) {
        let amqp = AmqpOptions { delayed_type: QueueType::Classic, ..AmqpOptions::default() };
        return Backbone::amqp(broker, Some(results), amqp, options).unwrap();
    }
    Backbone::open_with(broker, Some(results), StoreOptions::default(), options).unwrap()
}

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One task.
    Task,
    /// One task with a countdown.
    Scheduled,
    /// One task that asks to be run again.
    Retried,
    /// Three tasks, one after the other.
    Chain,
    /// Five tasks and a body.
    Chord,
    /// A chord with a chord and a retried task among its members.
    Nested,
    /// A chord with a member that fails, and an errback.
    FailedChord,
}

/// How a task ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this value.
    Value(String),
    /// With a failure.
    Failure,
}

/// What must be known of a task in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its label.
    pub label: String,
    /// How it has ended.
    pub ending: Ending,
    /// How often it asked to be run again: its last run has this number of retries.
    pub retries: u32,
}

impl Kind {
    /// What unit number `unit` is: of 9 units, with 24 tasks, 3 are chords and 2 are scheduled.
    pub fn of(unit: u64) -> Self {
        match unit % 9 {
            0 => Self::Chord,
            1 | 4 => Self::Scheduled,
            2 => Self::Chain,
            3 => Self::FailedChord,
            5 => Self::Retried,
            6 => Self::Nested,
            _ => Self::Task,
        }
    }

    /// The tasks of unit number `unit` that run.
    pub fn expected(self, unit: u64) -> Vec<Expected> {
        let label = |part: &str| label(unit, part);
        let plain = |part: &str| Expected { label: label(part), ending: Ending::Value(label(part)), retries: 0 };
        let value = |part: &str, value: String| Expected { label: label(part), ending: Ending::Value(value), retries: 0 };
        match self {
            Self::Task | Self::Scheduled => vec![plain("task")],
            Self::Retried => vec![Expected { retries: 1, ..plain("task") }],
            Self::Chain => {
                let (a, b, c) = (label("a"), label("b"), label("c"));
                vec![plain("a"), value("b", format!("{a}>{b}")), value("c", format!("{a}>{b}>{c}"))]
            }
            Self::Chord => {
                let members = ["h0", "h1", "h2", "h3", "h4"];
                let joined = members.map(label).join(",");
                let mut expected: Vec<Expected> = members.into_iter().map(plain).collect();
                expected.push(value("body", format!("{}({joined})", label("body"))));
                expected
            }
            Self::Nested => {
                let inner = format!("{}({},{})", label("inner"), label("i0"), label("i1"));
                let body = format!("{}({},{inner},{})", label("body"), label("h0"), label("h2"));
                let again = Expected { retries: 1, ..plain("h2") };
                vec![plain("h0"), plain("i0"), plain("i1"), value("inner", inner), again, value("body", body)]
            }
            Self::FailedChord => {
                let failed = Expected { ending: Ending::Failure, ..plain("h1") };
                vec![plain("h0"), failed, plain("h2"), plain("errback")]
            }
        }
    }

    /// The body or errback, which must have run as one task.
    pub fn conclusion(self) -> Option<&'static str> {
        match self {
            Self::Chord | Self::Nested => Some("body"),
            Self::FailedChord => Some("errback"),
            _ => None,
        }
    }
}

/// The label of a part of a unit.
pub fn label(unit: u64, part: impl fmt::Display) -> String {
    format!("{unit}/{part}")
}

/// The unit a label belongs to.
///
/// # Panics
/// When it is no label.
pub fn unit_of(label: &str) -> u64 {
    label.split_once('/').and_then(|(unit, _)| unit.parse().ok()).unwrap_or_else(|| panic!("{label:?} is no label"))
}
