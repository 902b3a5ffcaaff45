//! What follows from how a task ended: wire contract §5.3 and §8.1, and the canvas rules.

pub(crate) mod errbacks;
mod failure;
mod later;
mod options;
mod refusal;
mod replace;
mod retry;
mod run;
mod success;

use umbel_proto::{DecodeError, Invocation, Millis, NodeId, Outcome, QueueName, State, TaskError, Value};

use crate::{
    DeadReason, Effect, Release, Settings, TaskSpec,
    admission::Refusal,
    canvas::{CanvasError, Specs},
};
use run::Run;

pub(crate) use later::is_scheduled;
pub use later::{has_waited, later, postponed};
pub use run::route_back;

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
    /// Whether its message was acknowledged before it began ([`crate::Release::Begin`]): then it is never run again, and its
    /// ending's [`crate::Release`] takes the begun delivery off the books.
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

impl Settlement {
    /// Leaves out the results: they are stored.
    fn stored_before(&mut self) {
        if self.effects.extract_if(.., |effect| matches!(effect, Effect::Store(_))).count() > 0 {
            self.effects.insert(0, Effect::StoredBefore);
        }
    }

    /// Leaves all but what the broker is owed to somebody else, who writes it where the ledger cannot.
    pub fn leave(&mut self) {
        self.effects.retain(|effect| matches!(effect, Effect::Release(_)));
        if let Ending::Succeeded { value: Value::Str(_), shown } = &mut self.ending {
            *shown = true;
        }
    }
}

/// How the task ended, for logs, events and metrics.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// SUCCESS.
    Succeeded {
        /// The value.
        value: Value,
        /// Whether that is the text it is shown as: whoever has stored it keeps the value to itself.
        shown: bool,
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
        /// By this signal.
        signal: Option<i32>,
        /// In Celery's words: `revoked`, `expired`, `terminated`.
        reason: String,
    },
    /// The task asked for silence.
    Ignored,
    /// Another signature took its place.
    Replaced,
    /// The task refused its message.
    Rejected {
        /// Whether it went back.
        requeued: bool,
        /// What is stored of it, if it did not.
        error: Option<TaskError>,
    },
    /// Its executor died; the message goes back.
    Requeued {
        /// How.
        detail: String,
    },
}

/// A run ended with `outcome`.
///
/// A failure is final: where the task's options retry failures ([`TaskSpec::retry_on_failure`]), its executor has said so with
/// an automatic [`Outcome::Retry`], because only the executor can tell which failures another attempt may mend.
///
/// Effects come in Celery's order: successors, the result, chord parts, errbacks, and last what the broker is owed. That is the
/// same whether the delivery has begun ([`Context::begun`]) or not: a begun delivery stays on the books until its ending
/// releases it, so that a node that dies under it is noticed.
pub fn settle(invocation: &Invocation, outcome: Outcome, context: Context<'_>) -> Settlement {
    let run = Run { invocation, context };
    match outcome {
        Outcome::Success { value, children } => run.succeed(value, children),
        Outcome::Failure(error) => run.fail(error),
        Outcome::FailureTold { error, errbacks, stored } => run.fail_told(error, &errbacks, stored),
        Outcome::Told { outcome, stored } => {
            let mut settlement = settle(invocation, *outcome, context);
            if stored {
                settlement.stored_before();
            }
            settlement
        }
        Outcome::Retry(ask) => run.again(ask),
        Outcome::Ignore => run.silent(Release::Ack, Ending::Ignored),
        Outcome::Reject { requeue: true, .. } => run.requeue(),
        Outcome::Reject { requeue: false, reason } => run.reject(reason),
        Outcome::Replace(replacement) => run.replace(&replacement),
        Outcome::Delegated(outcome) => {
            let mut settlement = settle(invocation, *outcome, context);
            settlement.leave();
            settlement
        }
        Outcome::Revoked { terminated, signal } => run.revoke(if terminated { "terminated" } else { "revoked" }, signal),
        Outcome::TimeLimitExceeded { limit_secs } => run.fail(time_limit_exceeded(limit_secs)),
        Outcome::WorkerLost { detail } => run.worker_lost(&detail),
    }
}

/// A message was refused before it ran. (`context.spec` is a default one for unknown tasks.)
///
/// * Expired and revoked ones are REVOKED, and so is the rest of their chain; no errbacks (rule 18).
/// * An unknown task fails with `NotRegistered` and goes to the dead letters, from where it can be sent again once a node knows
///   it. Its chain and chord are told; its errbacks are not called, as by Celery. That is also what a Celery worker does with
///   a message it does not know: in a fleet whose nodes know different tasks, tasks go to queues that only the nodes take
///   from that know them (`task_routes`).
/// * One that was taken too often, or killed too many executors, fails with `WorkerLostError` and goes to the dead letters.
/// * One that was acknowledged early by a node that died fails with `WorkerLostError`.
/// * One whose SUCCESS is stored had sent its successors before (`worker_deduplicate_successful_tasks`): what may be missing is its
///   chord part, which counts once however often it comes.
/// * One whose ending is whole, and a copy of one that was taken before, is acknowledged.
pub fn refuse(invocation: &Invocation, refusal: &Refusal, context: Context<'_>) -> Settlement {
    let run = Run { invocation, context };
    match refusal {
        Refusal::Expired => run.revoke("expired", None),
        Refusal::Revoked => run.revoke("revoked", None),
        Refusal::UnknownTask => run.unknown(),
        Refusal::Crashed { detail } => run.crashed(detail),
        Refusal::Lost => run.lost(),
        Refusal::Duplicate { of } => run.revoke(&format!("duplicate of {of}"), None),
        Refusal::Ended(ended) => run.ended_before(ended),
    }
}

/// A message could not be understood: the dead letters get it, with the reason.
pub fn quarantine(error: &DecodeError) -> Vec<Effect> {
    vec![Effect::Release(Release::Dead { reason: DeadReason::Undecodable, detail: error.to_string() })]
}

/// What to store when a task with `track_started` begins; `None` for any other.
pub fn started(invocation: &Invocation, context: Context<'_>, pid: u32) -> Option<Effect> {
    let run = Run { invocation, context };
    if !context.spec.track_started || run.is_ignored() {
        return None;
    }
    let meta = [("pid".to_owned(), Value::from(pid)), ("hostname".to_owned(), context.node.as_str().into())];
    Some(run.store(State::Started, Value::Map(meta.into_iter().collect()), None, Some(Vec::new())))
}

/// The results of an ending that are stored while its run goes on, for handlers and errbacks that look at them: those of the task and, where
/// it failed, of what was to follow it. It is not the ending, which is [`Outcome::Told`] or [`Outcome::FailureTold`]; whoever dies in
/// between leaves the task to be run again, or lost.
///
/// `None` of a success that something follows, or would follow its failure. Everybody takes a SUCCESS that is stored for a task that has sent
/// its successors, a Celery worker with `worker_deduplicate_successful_tasks` and the phased ledger among them; and one that is lost
/// after that may have nobody called who is called for a failure.
pub fn early(invocation: &Invocation, outcome: Outcome, context: Context<'_>) -> Option<Vec<Effect>> {
    let Settlement { mut effects, ending } = settle(invocation, outcome, context);
    let is_followed = || {
        let follows = |effect: &Effect| !matches!(effect, Effect::Store(_) | Effect::Release(_));
        !invocation.embed().errbacks.is_empty() || effects.iter().any(follows)
    };
    if matches!(ending, Ending::Succeeded { .. }) && is_followed() {
        return None;
    }
    effects.retain(|effect| matches!(effect, Effect::Store(_)));
    Some(effects)
}

/// The exception that stands for a workflow that cannot be sent on.
pub(crate) fn canvas_error(error: &CanvasError) -> TaskError {
    match error {
        CanvasError::Encode(error) => TaskError::new("kombu.exceptions", "EncodeError", error.to_string()),
        CanvasError::Decode(error) => TaskError::new("builtins", "ValueError", error.to_string()),
        CanvasError::TooLarge => TaskError::new("builtins", "ValueError", error.to_string()),
    }
}

fn time_limit_exceeded(limit_secs: f64) -> TaskError {
    let limit = if limit_secs.fract() == 0.0 && limit_secs.abs() < 1e15 { Value::Int(limit_secs as i64) } else { Value::Float(limit_secs) };
    let mut error = TaskError::new("billiard.exceptions", "TimeLimitExceeded", "");
    error.exc_message = vec![limit];
    error
}

#[cfg(test)]
pub(crate) mod tests;
