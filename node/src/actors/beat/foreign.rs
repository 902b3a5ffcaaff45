//! A `celery beat` that runs beside: its messages come by like all others.
//!
//! From 5.7 on Celery marks the messages of its beat by a header, and so do nodes; what tells them apart is the id, which nodes
//! derive (UUID version 5) and Celery draws (version 4). Beats of 5.6 and older leave no mark and are not noticed.

use std::sync::Arc;

use ractor::ActorRef;
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Invocation, Millis, Value};

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
}

/// Watches what this node receives; ends with its handle.
pub(super) fn look_out(mut events: Receiver<Arc<Event>>, beat: ActorRef<BeatMsg>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(crate::task::spawn(async move {
        loop {
            match events.recv().await {
                Ok(event) if event.fact == Fact::Received => {
                    if let Some(foreign) = event.invocation.as_deref().and_then(|invocation| foreign(invocation, event.at)) {
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

fn foreign(invocation: &Invocation, at: Millis) -> Option<Foreign> {
    let headers = &invocation.headers;
    let is_of_beat = headers.other.get("celery_beat_task").and_then(Value::as_bool) == Some(true);
    let is_derived = uuid::Uuid::parse_str(headers.id.as_str()).is_ok_and(|id| id.get_version_num() == 5);
    // A retry is not another tick.
    let is_new = is_of_beat && !is_derived && headers.retries == 0;
    is_new.then(|| Foreign { at, task: headers.task.to_string(), origin: headers.origin.clone() })
}
