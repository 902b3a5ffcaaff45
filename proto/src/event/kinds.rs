//! What the types of events say beyond what all of them do.

use super::field::{Fields, put};
use crate::{DecodeError, Map, TaskId, Value};

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            fn read(fields: &mut Fields) -> Result<Self, DecodeError> {
                Ok(Self { $($field: fields.take(stringify!($field))?,)* })
            }
            fn write(&self, map: &mut Map) {
                $(put(map, stringify!($field), &self.$field);)*
            }
        }
    )*};
}

fields! {
    /// `worker-online`, `worker-heartbeat` and `worker-offline`.
    WorkerState {
        /// Seconds between heartbeats; a node silent for twice as long is taken for dead.
        freq: f64,
        /// Tasks running now.
        active: i64,
        /// Tasks run since it started.
        processed: i64,
        /// Load averages of 1, 5 and 15 minutes.
        loadavg: Vec<f64>,
        /// The name of the software: `py-celery`.
        sw_ident: String,
        /// Its version.
        sw_ver: String,
        /// The operating system.
        sw_sys: String,
    }
    /// `worker-elect`: who shall do something that one node must do.
    WorkerElect {
        /// The id of the election.
        id: String,
        /// What it is about.
        topic: String,
        /// A signature for the winner to apply.
        action: Value,
        /// The version of the procedure: 1.
        cver: i64,
    }
    /// `worker-elect-ack`.
    WorkerElectAck {
        /// The id of the election.
        id: String,
    }
    /// `task-sent`, by clients that are told to.
    TaskSent {
        /// The task.
        uuid: TaskId,
        /// The first task of the workflow.
        root_id: Option<TaskId>,
        /// The task that sent it.
        parent_id: Option<TaskId>,
        /// The name of the task.
        name: String,
        /// `repr` of the positional arguments.
        args: Option<String>,
        /// `repr` of the keyword arguments.
        kwargs: Option<String>,
        /// Attempts already made.
        retries: i64,
        /// Not before, ISO 8601.
        eta: Option<String>,
        /// Not after, ISO 8601.
        expires: Option<String>,
        /// The queue.
        queue: Option<String>,
        /// The exchange.
        exchange: Option<String>,
        /// The routing key.
        routing_key: Option<String>,
    }
    /// `task-received`.
    TaskReceived {
        /// The task.
        uuid: TaskId,
        /// The name of the task.
        name: String,
        /// `repr` of the positional arguments.
        args: Option<String>,
        /// `repr` of the keyword arguments.
        kwargs: Option<String>,
        /// The first task of the workflow.
        root_id: Option<TaskId>,
        /// The task that sent it.
        parent_id: Option<TaskId>,
        /// Attempts already made.
        retries: i64,
        /// Not before, ISO 8601.
        eta: Option<String>,
        /// Not after, ISO 8601.
        expires: Option<String>,
    }
    /// `task-started` and `task-cancelled`.
    TaskUuid {
        /// The task.
        uuid: TaskId,
    }
    /// `task-succeeded`.
    TaskSucceeded {
        /// The task.
        uuid: TaskId,
        /// `repr` of what it returned, at most 1024 characters.
        result: Option<String>,
        /// Seconds it ran; none when its process died after the result was stored.
        runtime: Option<f64>,
    }
    /// `task-failed`.
    TaskFailed {
        /// The task.
        uuid: TaskId,
        /// `repr` of the exception.
        exception: Option<String>,
        /// The traceback; none for tasks that nobody knows.
        traceback: Option<String>,
    }
    /// `task-retried`.
    TaskRetried {
        /// The task.
        uuid: TaskId,
        /// `repr` of the exception, `None` (as text) when there is none.
        exception: Option<String>,
        /// The traceback.
        traceback: Option<String>,
    }
    /// `task-rejected`.
    TaskRejected {
        /// The task.
        uuid: TaskId,
        /// Whether the message went back to its queue.
        requeue: bool,
    }
    /// `task-revoked`.
    TaskRevoked {
        /// The task.
        uuid: TaskId,
        /// Whether it was running and was ended by force.
        terminated: bool,
        /// The signal used, by number (some senders: by name).
        signum: Value,
        /// Whether it expired.
        expired: bool,
    }
}

macro_rules! action {
    ($($(#[$doc:meta])* $name:ident($fields:ident) = $kind:literal,)*) => {
        /// What an event says.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Action {
            $($(#[$doc])* $name($fields),)*
            /// A type of the user's own; all of it is in the event's `extra`.
            Other(String),
        }

        impl Action {
            /// The type on the wire: `task-succeeded`.
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$name(_) => $kind,)*
                    Self::Other(kind) => kind,
                }
            }

            pub(super) fn read(kind: String, fields: &mut Fields) -> Result<Self, DecodeError> {
                Ok(match kind.as_str() {
                    $($kind => Self::$name($fields::read(fields)?),)*
                    _ => Self::Other(kind),
                })
            }

            pub(super) fn write(&self, map: &mut Map) {
                match self {
                    $(Self::$name(fields) => fields.write(map),)*
                    Self::Other(_) => {}
                }
            }
        }
    };
}

action! {
    /// A worker has started.
    WorkerOnline(WorkerState) = "worker-online",
    /// A worker is alive.
    WorkerHeartbeat(WorkerState) = "worker-heartbeat",
    /// A worker has stopped.
    WorkerOffline(WorkerState) = "worker-offline",
    /// A worker calls an election.
    WorkerElect(WorkerElect) = "worker-elect",
    /// A worker has heard of an election.
    WorkerElectAck(WorkerElectAck) = "worker-elect-ack",
    /// A client has sent a task.
    TaskSent(TaskSent) = "task-sent",
    /// A worker has got a task.
    TaskReceived(TaskReceived) = "task-received",
    /// A task runs.
    TaskStarted(TaskUuid) = "task-started",
    /// A task has returned.
    TaskSucceeded(TaskSucceeded) = "task-succeeded",
    /// A task has raised.
    TaskFailed(TaskFailed) = "task-failed",
    /// A task will run again.
    TaskRetried(TaskRetried) = "task-retried",
    /// A task has refused its message.
    TaskRejected(TaskRejected) = "task-rejected",
    /// A task was revoked or has expired.
    TaskRevoked(TaskRevoked) = "task-revoked",
    /// A task was ended because its worker lost its connection or was told to stop at once.
    TaskCancelled(TaskUuid) = "task-cancelled",
}
