//! What follows from how a task ended.

use umbel_proto::{DecodeError, Invocation, Millis, NodeId, Outcome, QueueName, TaskError, Value};

use crate::{Effect, Settings, TaskSpec, admission::Refusal, canvas::Specs};

/// Everything a settlement depends on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What is known of the task.
    pub spec: &'a TaskSpec,
    /// What is known of others.
    pub specs: &'a dyn Specs,
    /// The settings.
    pub settings: &'a Settings,
    /// Who ran it.
    pub node: &'a NodeId,
    /// The queue it came from.
    pub queue: &'a QueueName,
    /// How many executors had died under it before.
    pub crashes: u32,
    /// Whether its message was acknowledged before it began: then there is nothing to pay the broker.
    pub begun: bool,
    /// The time.
    pub now: Millis,
    /// A number drawn from `[0, 1)`.
    pub dice: f64,
}

/// What follows, and what to tell people.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// What to commit, in Celery's order: successors, result, chord parts, and last what the broker is owed.
    pub effects: Vec<Effect>,
    /// The ending.
    pub ending: Ending,
}

/// How the task ended, for logs, events and metrics.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// SUCCESS.
    Succeeded {
        /// The value.
        value: Value,
    },
    /// FAILURE, for good.
    Failed {
        /// The exception.
        error: TaskError,
    },
    /// Another attempt is on its way.
    Retried {
        /// Why.
        error: Option<TaskError>,
        /// When.
        due: Millis,
    },
    /// REVOKED.
    Revoked {
        /// Because it expired.
        expired: bool,
        /// Because it was ended by force.
        terminated: bool,
    },
    /// The task asked for silence.
    Ignored,
    /// Another signature took its place.
    Replaced,
    /// The task refused its message.
    Rejected {
        /// Whether it went back.
        requeued: bool,
    },
    /// Its executor died; the message goes back.
    Requeued {
        /// How.
        detail: String,
    },
}

/// A run ended with `outcome`.
pub fn settle(_invocation: &Invocation, _outcome: Outcome, _context: Context<'_>) -> Settlement {
    todo!()
}

/// A message was refused before it ran. (`context.spec` is a default one for unknown tasks.)
pub fn refuse(_invocation: &Invocation, _refusal: &Refusal, _context: Context<'_>) -> Settlement {
    todo!()
}

/// A message could not be understood: the dead letters get it, with the reason.
pub fn quarantine(_error: &DecodeError) -> Vec<Effect> {
    todo!()
}

/// What to store when a task with `track_started` begins; `None` for any other.
pub fn started(_invocation: &Invocation, _context: Context<'_>, _pid: u32) -> Option<Effect> {
    todo!()
}
