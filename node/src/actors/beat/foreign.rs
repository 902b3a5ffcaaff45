//! A `celery beat` that runs beside: its messages come by like all others.
//!
//! From 5.7 on Celery marks the messages of its beat by a header, django-celery-beat has always done so, and so do nodes; what
//! tells them apart is the id, which nodes derive (UUID version 5) and Celery draws (version 4). A beat of 5.6 or older leaves no mark and
//! is told by its rhythm ([`Rhythms`]).

use std::sync::Arc;

use ractor::ActorRef;
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Invocation, Millis, Value};
use umbel_scheduler::beat::Rhythms;

use super::{super::cast, BeatMsg};
use crate::facts::{Event, Fact};

/// What was noticed of another beat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreign {
    /// When.
    pub at: Millis,
    /// The task it sent.
    pub task: String,
    /// The process it was sent by: `gen<pid>@<host>`.
    pub origin: Option<String>,
    /// Whether its message says so; otherwise it is told by its rhythm.
    pub marked: bool,
}

/// Watches what this node receives; ends with its handle.
pub(super) fn look_out(mut events: Receiver<Arc<Event>>, beat: ActorRef<BeatMsg>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(crate::task::spawn(async move {
        let mut rhythms = Rhythms::default();
        loop {
            match events.recv().await {
                Ok(event) if event.fact == Fact::Received => {
                    if let Some(foreign) = event.invocation.as_deref().and_then(|invocation| foreign(&mut rhythms, invocation, event.at)) {
                        cast(&beat, BeatMsg::Foreign(foreign));
                    }
                }
                // What was missed will come again: beats repeat themselves.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }))
}

fn foreign(rhythms: &mut Rhythms, invocation: &Invocation, at: Millis) -> Option<Foreign> {
    let headers = &invocation.headers;
    // A retry is not another tick, nor is what a task sends.
    if headers.retries > 0 || headers.parent_id.is_some() {
        return None;
    }
    let is_marked = headers.other.get("celery_beat_task").and_then(Value::as_bool) == Some(true)
        || headers.other.get("periodic_task_name").is_some_and(|name| name.as_str().is_some());
    let is_derived = uuid::Uuid::parse_str(headers.id.as_str()).is_ok_and(|id| id.get_version_num() == 5);
    let foreign = |marked| Foreign { at, task: headers.task.to_string(), origin: headers.origin.clone(), marked };
    if is_marked && !is_derived {
        return Some(foreign(true));
    }
    let (args, kwargs) = (headers.argsrepr.as_deref().unwrap_or_default(), headers.kwargsrepr.as_deref().unwrap_or_default());
    // Celery's beat shows arguments as a list, others as a tuple.
    let args = args.trim_matches(['(', ')', '[', ']', ',']);
    let call = format!("{} {args} {kwargs}", headers.task);
    if is_marked {
        rhythms.own(&call, at);
        return None;
    }
    let origin = headers.origin.as_deref()?;
    rhythms.other(&call, origin, at).then(|| foreign(false))
}
