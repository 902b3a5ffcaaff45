//! The tasks this node has seen lately, so that they can be listed.
//!
//! Owns a bounded table: at most [`TASKS_MAX`] tasks, and of those the ended ones that changed longest ago are forgotten
//! first. It is a convenience for people: the truth about a task is its result in the backend. Fed by the facts of the
//! pipeline through one task; when that lags behind, some changes are missing until the task's next one.

mod heard;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use umbel_proto::{Body, Invocation, Millis, TaskId, repr};

use crate::facts::{Event, Fact};

/// Tasks kept.
pub const TASKS_MAX: usize = 10_000;
/// The largest body kept to send a failed task again, in bytes; larger ones can be sent again by their sender only.
const AGAIN_BYTES_MAX: usize = 16 << 10;

/// One task as this node knows it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct TaskRow {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// PENDING (sent, not taken), RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED, REJECTED, IGNORED or REPLACED.
    pub state: &'static str,
    /// The queue it came from; empty where it is not known.
    pub queue: String,
    /// The node or Celery worker that has it, by its own telling; `None` is this node.
    pub node: Option<String>,
    /// The root of its workflow.
    pub root_id: Option<TaskId>,
    /// Who sent it.
    pub parent_id: Option<TaskId>,
    /// The group it was sent with.
    pub group_id: Option<String>,
    /// Which taking of its message this is.
    pub attempt: u32,
    /// Retries before this run.
    pub retries: u32,
    /// `repr` of its arguments, as the sender gave it.
    pub args: Option<String>,
    /// `repr` of its keyword arguments, as the sender gave it.
    pub kwargs: Option<String>,
    /// When it was taken, in milliseconds since 1970.
    pub received: Millis,
    /// When it began.
    pub started: Option<Millis>,
    /// When it ended.
    pub ended: Option<Millis>,
    /// How long it ran, in seconds.
    pub runtime_secs: Option<f64>,
    /// `repr` of its result or exception.
    pub result: Option<String>,
}

#[derive(Debug)]
struct Entry {
    /// The number of its last change.
    change: u64,
    row: TaskRow,
    /// The message, of a failed or revoked task that is small enough to be kept for another try.
    again: Option<Arc<Invocation>>,
}

#[derive(Debug, Default)]
struct Table {
    rows: HashMap<TaskId, Entry>,
    /// Newest change last.
    order: BTreeMap<u64, TaskId>,
    changes: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct TaskIndex {
    // Readers are HTTP handlers and the writer is one task; nobody holds the lock across an await.
    table: Arc<RwLock<Table>>,
}

impl TaskIndex {
    /// Follows `events` until they end.
    pub async fn follow(self, mut events: broadcast::Receiver<Arc<Event>>) {
        loop {
            match events.recv().await {
                Ok(event) => self.apply(&event),
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "the list of tasks lags behind"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Records one event.
    pub fn apply(&self, event: &Event) {
        let Some(invocation) = &event.invocation else { return };
        let headers = &invocation.headers;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.changes += 1;
        let change = table.changes;
        let entry = table.rows.entry(headers.id.clone()).or_insert_with(|| Entry { change: 0, row: row(event), again: None });
        let before = std::mem::replace(&mut entry.change, change);
        entry.row.attempt = event.held.attempt;
        entry.row.retries = headers.retries;
        update(&mut entry.row, event);
        let kept = matches!(event.fact, Fact::Failed { .. } | Fact::Revoked { .. }) && size(invocation) <= AGAIN_BYTES_MAX;
        entry.again = kept.then(|| Arc::clone(invocation));
        table.order.remove(&before);
        table.order.insert(change, headers.id.clone());
        table.shrink();
    }

    /// Follows what others tell of their tasks (Celery's events) until it ends.
    pub async fn hear(self, mut events: broadcast::Receiver<Arc<umbel_proto::Event>>) {
        loop {
            match events.recv().await {
                Ok(event) => self.apply_heard(&event),
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "the list of others' tasks lags behind"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Records what another node, worker or client told of a task.
    fn apply_heard(&self, event: &umbel_proto::Event) {
        let Some(id) = heard::id(event) else { return };
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.changes += 1;
        let change = table.changes;
        let entry = table.rows.entry(id.clone()).or_insert_with(|| Entry { change: 0, row: heard::row(id.clone(), event), again: None });
        let before = std::mem::replace(&mut entry.change, change);
        heard::update(&mut entry.row, event);
        table.order.remove(&before);
        table.order.insert(change, id);
        table.shrink();
    }

    /// The task, if it is known here.
    pub fn get(&self, id: &str) -> Option<TaskRow> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.rows.get(id).map(|entry| entry.row.clone())
    }

    /// The message of a task that failed or was revoked.
    pub fn again(&self, id: &str) -> Option<Arc<Invocation>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.rows.get(id)?.again.clone()
    }

    /// Up to `limit` tasks that `wanted` likes, the last changed first, after the change numbered `before`; and the number to
    /// go on with, if there are more.
    pub fn page(&self, before: Option<u64>, limit: usize, wanted: impl Fn(&TaskRow) -> bool) -> (Vec<TaskRow>, Option<u64>) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for (change, id) in table.order.range(..before.unwrap_or(u64::MAX)).rev() {
            let Some(Entry { row, .. }) = table.rows.get(id) else { continue };
            if !wanted(row) {
                continue;
            }
            if rows.len() == limit {
                return (rows, Some(change + 1));
            }
            rows.push(row.clone());
        }
        (rows, None)
    }
}

impl Table {
    fn shrink(&mut self) {
        while self.rows.len() > TASKS_MAX {
            let ended = self.order.iter().find(|(_, id)| self.rows.get(*id).is_some_and(|entry| entry.row.ended.is_some()));
            let Some((&change, id)) = ended.or_else(|| self.order.iter().next()) else { return };
            self.rows.remove(id);
            self.order.remove(&change);
        }
    }
}

fn row(event: &Event) -> TaskRow {
    let headers = event.invocation.as_ref().map(|invocation| &invocation.headers);
    TaskRow {
        id: headers.map_or_else(|| "".into(), |headers| headers.id.clone()),
        name: headers.map_or_else(String::new, |headers| headers.task.to_string()),
        state: "RECEIVED",
        queue: event.held.queue.to_string(),
        node: None,
        root_id: headers.and_then(|headers| headers.root_id.clone()),
        parent_id: headers.and_then(|headers| headers.parent_id.clone()),
        group_id: headers.and_then(|headers| headers.group.as_ref().map(ToString::to_string)),
        attempt: event.held.attempt,
        retries: 0,
        args: headers.and_then(|headers| headers.argsrepr.clone()),
        kwargs: headers.and_then(|headers| headers.kwargsrepr.clone()),
        received: event.at,
        started: None,
        ended: None,
        runtime_secs: None,
        result: None,
    }
}

fn update(row: &mut TaskRow, event: &Event) {
    let mut end = |state, result| {
        row.state = state;
        row.ended = Some(event.at);
        row.result = result;
    };
    match &event.fact {
        Fact::Received => row.state = "RECEIVED",
        Fact::Started => {
            row.state = "STARTED";
            row.started = Some(event.at);
            row.ended = None;
        }
        Fact::Succeeded { value, shown, runtime } => {
            end("SUCCESS", Some(cut(Fact::show(value, *shown))));
            row.runtime_secs = Some(runtime.as_secs_f64());
        }
        Fact::Failed { error, runtime } => {
            end("FAILURE", Some(cut(repr::error_repr(error))));
            row.runtime_secs = Some(runtime.as_secs_f64());
        }
        Fact::Retried { error, .. } => {
            row.state = "RETRY";
            row.result = error.as_ref().map(|error| cut(repr::error_repr(error)));
        }
        Fact::Revoked { .. } => end("REVOKED", None),
        Fact::Rejected { .. } => end("REJECTED", None),
        Fact::Requeued { detail } => {
            row.state = "RECEIVED";
            row.result = Some(cut(detail.clone()));
        }
        Fact::DeadLettered { detail, .. } => {
            row.ended = Some(event.at);
            row.result.get_or_insert_with(|| cut(detail.clone()));
        }
        Fact::Ignored => end("IGNORED", None),
        Fact::Replaced => end("REPLACED", None),
        Fact::Zombie => {}
    }
}

fn size(invocation: &Invocation) -> usize {
    match &invocation.body {
        Body::Parts { args, kwargs, .. } => args.bytes.len() + kwargs.bytes.len(),
        Body::Opaque { bytes, .. } => bytes.len(),
    }
}

/// Celery cuts what it shows of results at 1024 characters.
fn cut(text: String) -> String {
    const CHARS_MAX: usize = 1024;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
