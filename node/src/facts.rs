//! Task facts: everything worth telling about a task, in one place, so that log line, metric and event cannot disagree.
//!
//! The pipeline tells [`Facts`] what happened to a task; here, and nowhere else, that becomes a line in Celery's words
//! ([`mod@line`]), counters ([`Counters`]) and an [`Event`] for whoever subscribed. Endings are told when they are durable.
//!
//! What bounds it: counters are made at the start, one set for each known task and one for all unknown ones; events wait in
//! a ring of [`EVENTS_MAX`], and a subscriber that lags behind loses the oldest and is told how many.

mod counters;
pub mod line;

use std::{sync::Arc, time::Duration};

use tokio::sync::broadcast;
use umbel_proto::{Invocation, Millis, TaskError, TaskName, Value, repr};
use umbel_scheduler::{DeadReason, settlement::Ending};

pub use counters::{Counters, Histogram, Kind, TaskCounters};

use crate::brokers::Held;

/// Events kept for slow subscribers.
pub const EVENTS_MAX: usize = 4_096;

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// It was taken from its queue.
    Received,
    /// It began to run.
    Started,
    /// It returned.
    Succeeded {
        /// What.
        value: Value,
        /// Whether that is the text it is shown as, of a value that only its process knows.
        shown: bool,
        /// How long it ran.
        runtime: Duration,
    },
    /// It failed for good.
    Failed {
        /// The exception.
        error: TaskError,
        /// How long it ran.
        runtime: Duration,
    },
    /// Another attempt is on its way.
    Retried {
        /// Why.
        error: Option<TaskError>,
        /// How long until then, in milliseconds.
        delay: Millis,
    },
    /// It does not run, or was ended, because it was revoked or has expired.
    Revoked {
        /// Because it expired.
        expired: bool,
        /// Because it was ended by force.
        terminated: bool,
    },
    /// It refused its message.
    Rejected {
        /// Whether the message went back.
        requeued: bool,
    },
    /// Its message went back to its queue.
    Requeued {
        /// Why.
        detail: String,
    },
    /// Its message became a dead letter.
    DeadLettered {
        /// Why.
        reason: DeadReason,
        /// The reason in words.
        detail: String,
    },
    /// It asked for silence.
    Ignored,
    /// Another signature took its place.
    Replaced,
    /// It ended here after its message had been given to somebody else; its ending was discarded.
    Zombie,
}

impl Fact {
    /// What a task returned, as Python shows it.
    pub(crate) fn show(value: &Value, shown: bool) -> String {
        match value {
            Value::Str(text) if shown => text.clone(),
            value => repr::repr(value),
        }
    }

    /// The fact of an ending, `runtime` after its start.
    pub(crate) fn of_ending(ending: Ending, runtime: Duration, now: Millis) -> Self {
        match ending {
            Ending::Succeeded { value, shown } => Self::Succeeded { value, shown, runtime },
            Ending::Failed { error } => Self::Failed { error, runtime },
            Ending::Retried { error, due } => Self::Retried { error, delay: (due - now).max(0) },
            Ending::Revoked { expired, terminated, .. } => Self::Revoked { expired, terminated },
            Ending::Ignored => Self::Ignored,
            Ending::Replaced => Self::Replaced,
            Ending::Rejected { requeued, .. } => Self::Rejected { requeued },
            Ending::Requeued { detail } => Self::Requeued { detail },
        }
    }

    /// Which counter it moves.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Received => Kind::Received,
            Self::Started => Kind::Started,
            Self::Succeeded { .. } => Kind::Succeeded,
            Self::Failed { .. } => Kind::Failed,
            Self::Retried { .. } => Kind::Retried,
            Self::Revoked { .. } => Kind::Revoked,
            Self::Rejected { .. } => Kind::Rejected,
            Self::Requeued { .. } => Kind::Requeued,
            Self::DeadLettered { .. } => Kind::DeadLettered,
            Self::Ignored => Kind::Ignored,
            Self::Replaced => Kind::Replaced,
            Self::Zombie => Kind::Zombie,
        }
    }

    fn runtime(&self) -> Option<Duration> {
        match self {
            Self::Succeeded { runtime, .. } | Self::Failed { runtime, .. } => Some(*runtime),
            _ => None,
        }
    }
}

/// A fact and what it is about.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Millis,
    /// The task; `None` for a message that could not be understood.
    pub invocation: Option<Arc<Invocation>>,
    /// The delivery.
    pub held: Held,
    /// What happened.
    pub fact: Fact,
}

/// Where facts are told.
#[derive(Debug)]
pub struct Facts {
    counters: Counters,
    events: broadcast::Sender<Arc<Event>>,
}

impl Facts {
    /// Facts about `tasks` (and any others, counted together).
    pub fn new(tasks: impl IntoIterator<Item = TaskName>) -> Self {
        Self { counters: Counters::new(tasks), events: broadcast::Sender::new(EVENTS_MAX) }
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Events from now on. A receiver that lags is told so and goes on with the oldest that is still kept.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Tells a fact. Cheap when nobody listens: a few atomic additions.
    pub(crate) fn tell(&self, invocation: Option<&Arc<Invocation>>, held: &Held, fact: Fact) {
        self.counters.count(invocation.map(|invocation| &invocation.headers.task), fact.kind(), fact.runtime());
        line::log(invocation, held, &fact);
        if self.events.receiver_count() > 0 {
            let event = Event { at: crate::clock::now(), invocation: invocation.cloned(), held: held.clone(), fact };
            // An error means that the last receiver has just gone.
            let _ = self.events.send(Arc::new(event));
        }
    }
}
