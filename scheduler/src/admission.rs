//! May this message run now?

use umbel_proto::{Invocation, Millis, ResultRecord};

use crate::{TaskSpec, revocation::Revoked, settlement::is_scheduled};

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
    /// Not before this time (a message that reached us early). One that will not be held that long goes into the durable
    /// schedule: [`crate::settlement::later`].
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
    /// Another task of its key is there, and there may be one only.
    Duplicate {
        /// Which.
        of: String,
    },
    /// There is nothing left to run.
    Ended(Ended),
}

/// Why there is nothing left to run of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It came again although its SUCCESS is stored.
    Stored(Box<ResultRecord>),
    /// It came again although everything that follows from its ending is there, or it is a copy of a message that was taken
    /// before.
    Whole,
}

/// Decides. `spec` is `None` where nobody here knows the task.
///
/// The first reason in this order counts: lost, revoked, expired, unknown, crashed, early. Revocation and expiry come before
/// what is wrong with the message, so that a backlog that nobody wants any more does not fill the dead letters. A message
/// whose `expires` is exactly now still runs (`celery/worker/request.py::maybe_expire`).
pub fn admit(invocation: &Invocation, spec: Option<&TaskSpec>, arrival: Arrival, revoked: &Revoked, now: Millis) -> Verdict {
    if arrival.lost {
        return Verdict::Refuse(Refusal::Lost);
    }
    if revoked.covers(invocation) {
        return Verdict::Refuse(Refusal::Revoked);
    }
    let headers = &invocation.headers;
    if headers.expires.as_ref().is_some_and(|expires| now > expires.millis()) {
        return Verdict::Refuse(Refusal::Expired);
    }
    let Some(spec) = spec else {
        return Verdict::Refuse(Refusal::UnknownTask);
    };
    if let Some(detail) = poisonous(spec, arrival) {
        return Verdict::Refuse(Refusal::Crashed { detail });
    }
    // What has run before, or was in the schedule until its time by the broker's clock, is not early by anybody's.
    let judged = arrival.crashes > 0 || is_scheduled(invocation);
    match &headers.eta {
        Some(eta) if eta.millis() > now && !judged => Verdict::Hold { until: eta.millis() },
        _ => Verdict::Run,
    }
}

/// Why a message counts as poison, if it does.
fn poisonous(spec: &TaskSpec, arrival: Arrival) -> Option<String> {
    if arrival.crashes >= spec.max_crashes.max(1) {
        return Some(format!("{} executors died under it", arrival.crashes));
    }
    if arrival.attempt > arrival.max_deliveries.max(1) {
        return Some(format!("taken {} times without an ending", arrival.attempt - 1));
    }
    None
}

#[cfg(test)]
mod tests;
