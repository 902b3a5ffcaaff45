//! Facts as log lines in Celery's words (`celery/app/trace.py`, `celery/worker/strategy.py`), so that people's greps and
//! dashboards keep working: `Task proj.add[id] received`, `Task proj.add[id] succeeded in 0.0015s: 5`.
//!
//! All of them have target [`TARGET`] and carry their particulars as fields too; the text format prints the sentence alone.

use std::{fmt::Write, sync::Arc};

use tracing::{Level, enabled};
use umbel_proto::{Invocation, repr};

use super::Fact;
use crate::brokers::Held;

/// The target of task lines.
pub const TARGET: &str = "umbel::task";

macro_rules! task_line {
    ($level:ident, $invocation:expr, $held:expr, $fact:expr) => {
        if enabled!(target: TARGET, Level::$level) {
            let headers = $invocation.map(|invocation| &invocation.headers);
            let traceback = match $fact {
                Fact::Failed { error, .. } if !error.expected => error.traceback.as_deref(),
                _ => None,
            };
            tracing::event!(
                target: TARGET,
                Level::$level,
                task_id = headers.map(|headers| headers.id.as_str()),
                task_name = headers.map(|headers| headers.task.as_str()),
                root_id = headers.and_then(|headers| headers.root_id.as_ref()).map(|id| id.as_str()),
                queue = $held.queue.as_str(),
                attempt = $held.attempt,
                runtime = $fact.runtime().map(|runtime| runtime.as_secs_f64()),
                traceback,
                "{}",
                sentence($invocation, $held, $fact)
            );
        }
    };
}

pub(super) fn log(invocation: Option<&Arc<Invocation>>, held: &Held, fact: &Fact) {
    match fact {
        Fact::Started | Fact::Replaced => task_line!(DEBUG, invocation, held, fact),
        Fact::Received | Fact::Succeeded { .. } | Fact::Retried { .. } | Fact::Ignored => task_line!(INFO, invocation, held, fact),
        Fact::Revoked { .. } => task_line!(INFO, invocation, held, fact),
        Fact::Failed { error, .. } if error.expected => task_line!(INFO, invocation, held, fact),
        Fact::Rejected { .. } | Fact::Requeued { .. } | Fact::Zombie => task_line!(WARN, invocation, held, fact),
        Fact::Failed { .. } | Fact::DeadLettered { .. } => task_line!(ERROR, invocation, held, fact),
    }
}

/// What the log says.
pub fn sentence(invocation: Option<&Arc<Invocation>>, held: &Held, fact: &Fact) -> String {
    let task = match invocation {
        Some(invocation) => {
            let headers = &invocation.headers;
            format!("Task {}[{}]", headers.shadow.as_deref().unwrap_or(headers.task.as_str()), headers.id)
        }
        None => format!("Message {} of queue {}", held.tag, held.queue),
    };
    let mut line = task;
    // Writing to a String cannot fail.
    let _ = match fact {
        Fact::Received => write!(line, " received"),
        Fact::Started => write!(line, " accepted"),
        Fact::Succeeded { value, shown, runtime } => write!(line, " succeeded in {}s: {}", secs(*runtime), Fact::show(value, *shown)),
        Fact::Failed { error, .. } => {
            let foreseen = if error.expected { "expected" } else { "unexpected" };
            write!(line, " raised {foreseen}: {}", repr::error_repr(error))
        }
        Fact::Retried { error, delay } => {
            let _ = write!(line, " retry: Retry in {}s", *delay as f64 / 1e3);
            error.as_ref().map_or(Ok(()), |error| write!(line, ": {}", repr::error_repr(error)))
        }
        Fact::Revoked { expired: true, .. } => write!(line, " revoked: expired"),
        Fact::Revoked { terminated: true, .. } => write!(line, " revoked: terminated"),
        Fact::Revoked { .. } => write!(line, " revoked"),
        Fact::Rejected { requeued: true } => write!(line, " rejected: requeued"),
        Fact::Rejected { requeued: false } => write!(line, " rejected"),
        Fact::Requeued { detail } => write!(line, " requeued: {detail}"),
        Fact::DeadLettered { reason, detail } => write!(line, " is a dead letter ({}): {detail}", reason.as_str()),
        Fact::Ignored => write!(line, " ignored"),
        Fact::Replaced => write!(line, " replaced"),
        Fact::Zombie => write!(line, " discarded: its message (attempt {}) is not held by this node any more", held.attempt),
    };
    line
}

fn secs(runtime: std::time::Duration) -> f64 {
    // Whole microseconds print short: 0.0015.
    runtime.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held() -> Held {
        Held { queue: "celery".into(), tag: "7".into(), attempt: 2 }
    }

    /// Goal: a message without a task is named by its delivery, and durations print as Celery's do.
    #[test]
    fn sentences() {
        let dead = Fact::DeadLettered { reason: umbel_scheduler::DeadReason::Undecodable, detail: "headers.id is missing".into() };
        assert_eq!(sentence(None, &held(), &dead), "Message 7 of queue celery is a dead letter (undecodable): headers.id is missing");
        assert_eq!(secs(Duration::from_micros(1_500)).to_string(), "0.0015");
        assert_eq!(secs(Duration::from_secs(2)).to_string(), "2");
    }
}
