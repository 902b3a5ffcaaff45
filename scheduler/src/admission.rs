//! May this message run now?

use umbel_proto::{Invocation, Millis};

use crate::{TaskSpec, revocation::Revoked};

/// What is known of a message besides its content.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Which taking of it this is; 1 is the first.
    pub attempt: u32,
    /// How many executors have died under it.
    pub crashes: u32,
    /// Whether it was acknowledged early by a node that died before the ending.
    pub lost: bool,
    /// How often it may be taken.
    pub max_deliveries: u32,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Yes.
    Run,
    /// Not before this time (a message that reached us early).
    Hold {
        /// When.
        until: Millis,
    },
    /// Never; [`crate::settlement::refuse`] says what follows.
    Refuse(Refusal),
}

/// Why a message never runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Its `expires` has passed.
    Expired,
    /// It, its group or its workflow was revoked.
    Revoked,
    /// No task of its name is registered here.
    UnknownTask,
    /// It was taken too often, or killed too many executors.
    Crashed {
        /// In words.
        detail: String,
    },
    /// It was acknowledged early and its node died.
    Lost,
}

/// Decides. `spec` is `None` where nobody here knows the task.
pub fn admit(_invocation: &Invocation, _spec: Option<&TaskSpec>, _arrival: Arrival, _revoked: &Revoked, _now: Millis) -> Verdict {
    todo!()
}
