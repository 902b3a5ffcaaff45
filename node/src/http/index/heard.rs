//! What others tell of their tasks, as rows: Celery's events.

use umbel_proto::{Event, Millis, TaskId, event::Action};

use super::{TaskRow, cut};
use crate::clock;

/// The task an event is about.
pub(super) fn id(event: &Event) -> Option<TaskId> {
    Some(match &event.action {
        Action::TaskSent(sent) => sent.uuid.clone(),
        Action::TaskReceived(received) => received.uuid.clone(),
        Action::TaskStarted(task) | Action::TaskCancelled(task) => task.uuid.clone(),
        Action::TaskSucceeded(task) => task.uuid.clone(),
        Action::TaskFailed(task) => task.uuid.clone(),
        Action::TaskRetried(task) => task.uuid.clone(),
        Action::TaskRejected(task) => task.uuid.clone(),
        Action::TaskRevoked(task) => task.uuid.clone(),
        _ => return None,
    })
}

/// A task that is heard of for the first time.
pub(super) fn row(id: TaskId, event: &Event) -> TaskRow {
    TaskRow {
        id,
        name: String::new(),
        state: "PENDING",
        queue: String::new(),
        node: None,
        root_id: None,
        parent_id: None,
        group_id: None,
        attempt: 1,
        retries: 0,
        args: None,
        kwargs: None,
        received: at(event),
        started: None,
        ended: None,
        runtime_secs: None,
        result: None,
    }
}

fn at(event: &Event) -> Millis {
    event.timestamp.map_or_else(clock::now, |seconds| (seconds * 1e3) as Millis)
}

/// Takes over what an event says. Events of one worker come in order; a client's own may come after those of the worker.
pub(super) fn update(row: &mut TaskRow, event: &Event) {
    let at = at(event);
    if !matches!(event.action, Action::TaskSent(_)) {
        row.node = Some(event.hostname.clone());
    }
    let mut end = |state, result: Option<String>| {
        row.state = state;
        row.ended = Some(at);
        row.result = result.map(cut);
    };
    match &event.action {
        Action::TaskSent(sent) => {
            sent.name.clone_into(&mut row.name);
            row.queue = sent.queue.clone().unwrap_or_default();
            (row.args, row.kwargs) = (sent.args.clone(), sent.kwargs.clone());
            (row.root_id, row.parent_id) = (sent.root_id.clone(), sent.parent_id.clone());
        }
        Action::TaskReceived(received) => {
            received.name.clone_into(&mut row.name);
            (row.args, row.kwargs) = (received.args.clone(), received.kwargs.clone());
            (row.root_id, row.parent_id) = (received.root_id.clone(), received.parent_id.clone());
            row.retries = u32::try_from(received.retries).unwrap_or(0);
            (row.state, row.received, row.ended) = ("RECEIVED", at, None);
        }
        Action::TaskStarted(_) => (row.state, row.started, row.ended) = ("STARTED", Some(at), None),
        Action::TaskSucceeded(succeeded) => {
            end("SUCCESS", succeeded.result.clone());
            row.runtime_secs = succeeded.runtime;
        }
        Action::TaskFailed(failed) => end("FAILURE", failed.exception.clone()),
        Action::TaskRetried(retried) => {
            row.state = "RETRY";
            row.result = retried.exception.clone().map(cut);
        }
        Action::TaskRejected(rejected) if rejected.requeue => row.state = "RECEIVED",
        Action::TaskRejected(_) => end("REJECTED", None),
        Action::TaskRevoked(_) => end("REVOKED", None),
        Action::TaskCancelled(_) => row.state = "RECEIVED",
        _ => {}
    }
}
