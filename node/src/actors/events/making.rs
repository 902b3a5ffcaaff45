//! Facts as Celery's events: `celery/events/dispatcher.py`, `celery/worker/request.py`.

use std::time::Duration;

use jiff::tz::TimeZone;
use ractor::{ActorRef, rpc::CallResult};
use umbel_proto::{
    Event, Invocation, Map, Millis, Value,
    event::{Action, TaskFailed, TaskReceived, TaskRejected, TaskRetried, TaskRevoked, TaskSent, TaskSucceeded, TaskUuid, WorkerState},
    repr,
};
use umbel_scheduler::Publish;

use super::{
    super::{Shared, beat::Sent, supervisor::SupervisorMsg},
    BEAT,
};
use crate::{
    facts::{self, Fact, Kind},
    telling::timestamp,
};

/// Celery cuts results at so many characters.
const RESULT_MAX: usize = 1_024;
/// The signal of an end by force that names none.
const SIGTERM: i64 = 15;

/// An event of this node, at `at` or now.
pub(super) fn event(shared: &Shared, action: Action, at: Option<Millis>) -> Event {
    Event {
        hostname: shared.node.as_str().to_owned(),
        utcoffset: utcoffset(),
        pid: Some(i64::from(std::process::id())),
        clock: Some(shared.telling.clock.forward()),
        timestamp: Some(at.map_or_else(timestamp, |at| at as f64 / 1e3)),
        action,
        extra: Map::new(),
    }
}

/// Hours to UTC, negative to the east of it, as Celery counts them.
fn utcoffset() -> f64 {
    let offset = TimeZone::system().to_offset(jiff::Timestamp::now());
    0.0 - f64::from(offset.seconds()) / 3600.0
}

/// How many tasks run now.
pub(super) async fn active(supervisor: &ActorRef<SupervisorMsg>) -> i64 {
    match supervisor.call(SupervisorMsg::Report, Some(Duration::from_secs(1))).await {
        Ok(CallResult::Success(report)) => i64::try_from(report.running().count()).unwrap_or(i64::MAX),
        _ => 0,
    }
}

/// What a heartbeat says.
pub(super) fn state(shared: &Shared, active: i64) -> WorkerState {
    let loads = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut loadavg: Vec<f64> = loads.split_whitespace().take(3).filter_map(|load| load.parse().ok()).collect();
    loadavg.resize(3, 0.0);
    WorkerState {
        freq: BEAT.as_secs_f64(),
        active,
        processed: i64::try_from(shared.facts.counters().total(Kind::Started)).unwrap_or(i64::MAX),
        loadavg,
        sw_ident: "umbel".to_owned(),
        sw_ver: env!("CARGO_PKG_VERSION").to_owned(),
        sw_sys: "Linux".to_owned(),
    }
}

/// The event of a fact; `None` where Celery has none, and for a message that could not be understood.
pub(super) fn of_fact(shared: &Shared, fact: &facts::Event) -> Option<Event> {
    let invocation = fact.invocation.as_deref()?;
    let action = action(invocation, &fact.fact)?;
    Some(event(shared, action, Some(fact.at)))
}

/// The event of a scheduled task that was sent.
pub(super) fn of_sent(shared: &Shared, sent: &Sent) -> Event {
    let Publish { invocation, route, .. } = &*sent.message;
    let TaskReceived { uuid, name, args, kwargs, root_id, parent_id, retries, eta, expires } = received(invocation);
    let told = TaskSent {
        uuid,
        root_id,
        parent_id,
        name,
        args,
        kwargs,
        retries,
        eta,
        expires,
        queue: Some(route.queue.as_str().to_owned()),
        exchange: Some(route.exchange.clone()),
        routing_key: Some(route.routing_key.clone()),
    };
    event(shared, Action::TaskSent(told), Some(sent.at))
}

fn action(invocation: &Invocation, fact: &Fact) -> Option<Action> {
    let uuid = invocation.headers.id.clone();
    Some(match fact {
        Fact::Received => Action::TaskReceived(received(invocation)),
        Fact::Started => Action::TaskStarted(TaskUuid { uuid }),
        Fact::Succeeded { value, shown, runtime } => {
            let result = Some(cut(Fact::show(value, *shown)));
            Action::TaskSucceeded(TaskSucceeded { uuid, result, runtime: Some(runtime.as_secs_f64()) })
        }
        Fact::Failed { error, .. } => {
            let exception = Some(repr::error_repr(error));
            Action::TaskFailed(TaskFailed { uuid, exception, traceback: error.traceback.clone() })
        }
        Fact::Retried { error, .. } => {
            let exception = Some(error.as_ref().map_or_else(|| "None".to_owned(), repr::error_repr));
            let traceback = error.as_ref().and_then(|error| error.traceback.clone());
            Action::TaskRetried(TaskRetried { uuid, exception, traceback })
        }
        Fact::Revoked { expired, terminated } => {
            let signum = if *terminated { Value::Int(SIGTERM) } else { Value::Null };
            Action::TaskRevoked(TaskRevoked { uuid, terminated: *terminated, signum, expired: *expired })
        }
        Fact::Rejected { requeued } => Action::TaskRejected(TaskRejected { uuid, requeue: *requeued }),
        Fact::DeadLettered { .. } => Action::TaskRejected(TaskRejected { uuid, requeue: false }),
        Fact::Requeued { .. } => Action::TaskCancelled(TaskUuid { uuid }),
        Fact::Ignored | Fact::Replaced | Fact::Zombie => return None,
    })
}

fn received(invocation: &Invocation) -> TaskReceived {
    let headers = &invocation.headers;
    TaskReceived {
        uuid: headers.id.clone(),
        name: headers.shadow.clone().unwrap_or_else(|| headers.task.to_string()),
        args: Some(headers.argsrepr.clone().unwrap_or_else(|| "()".to_owned())),
        kwargs: Some(headers.kwargsrepr.clone().unwrap_or_else(|| "{}".to_owned())),
        root_id: headers.root_id.clone(),
        parent_id: headers.parent_id.clone(),
        retries: i64::from(headers.retries),
        eta: headers.eta.as_ref().map(|eta| eta.as_str().to_owned()),
        expires: headers.expires.as_ref().map(|expires| expires.as_str().to_owned()),
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(RESULT_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use umbel_proto::{TaskError, TaskId, TaskName};

    use super::*;

    /// Goal: every ending is told under Celery's name with Celery's fields.
    #[test]
    fn facts_become_celerys_events() {
        let invocation = Invocation::new(TaskName::from("proj.add"), TaskId::from("t"), &[Value::Int(1)], &Map::new()).unwrap();
        let told = |fact: Fact| action(&invocation, &fact).map(|action| action.kind().to_owned());
        let runtime = Duration::from_millis(5);
        let error = TaskError::new("builtins", "ValueError", "no");
        for (fact, kind) in [
            (Fact::Received, Some("task-received")),
            (Fact::Started, Some("task-started")),
            (Fact::Succeeded { value: Value::Int(2), shown: false, runtime }, Some("task-succeeded")),
            (Fact::Failed { error: error.clone(), runtime }, Some("task-failed")),
            (Fact::Retried { error: None, delay: 1 }, Some("task-retried")),
            (Fact::Revoked { expired: false, terminated: true }, Some("task-revoked")),
            (Fact::Rejected { requeued: true }, Some("task-rejected")),
            (Fact::Requeued { detail: String::new() }, Some("task-cancelled")),
            (Fact::Ignored, None),
        ] {
            assert_eq!(told(fact.clone()).as_deref(), kind, "{fact:?}");
        }
        let Some(Action::TaskFailed(failed)) = action(&invocation, &Fact::Failed { error, runtime }) else { panic!("a failure") };
        assert_eq!(failed.exception.as_deref(), Some("ValueError('no')"));
        let Some(Action::TaskRevoked(revoked)) = action(&invocation, &Fact::Revoked { expired: false, terminated: true }) else {
            panic!("a revocation")
        };
        assert_eq!(revoked.signum, Value::Int(15));
        assert_eq!(cut("x".repeat(2_000)).len(), RESULT_MAX + 3);
    }
}
