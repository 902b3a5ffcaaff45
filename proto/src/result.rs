//! Results as `AsyncResult` reads them.

use crate::{GroupId, Map, TaskId, Value};

/// The state of a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// Unknown or waiting; never stored.
    Pending,
    /// Running (stored only with `track_started`).
    Started,
    /// Returned.
    Success,
    /// Raised.
    Failure,
    /// Waiting for another attempt.
    Retry,
    /// Refused before it ran, or ended by force.
    Revoked,
    /// A state of the task's own (`update_state`).
    Custom(String),
}

/// What is stored under `celery-task-meta-<id>`: wire contract §4.1.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRecord {
    /// The task.
    pub task_id: TaskId,
    /// Its state.
    pub status: State,
    /// The value, the exception object, or the meta of a custom state.
    pub result: Value,
    /// The traceback of a failure.
    pub traceback: Option<String>,
    /// What it sent; `None` when written by somebody who was not running it.
    pub children: Option<Vec<ResultTuple>>,
    /// When it ended, ISO 8601 in UTC; `None` while it has not.
    pub date_done: Option<String>,
    /// The group it is a member of.
    pub group_id: Option<GroupId>,
    /// Who sent it.
    pub parent_id: Option<TaskId>,
    /// `name`, `args`, `kwargs`, `worker`, `retries`, `queue` (`result_extended`), stamps, and keys not known here.
    pub extra: Map,
}

/// A result, its parent and its members, as a tree: Celery's `as_tuple()`, `[[id, parent], children or null]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultTuple {
    /// The id of the task or group.
    pub id: String,
    /// The result it follows from.
    pub parent: Option<Box<ResultTuple>>,
    /// The members, of a group; `None` of a task.
    pub children: Option<Vec<ResultTuple>>,
}

impl State {
    /// The name on the wire: `SUCCESS`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Started => "STARTED",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Retry => "RETRY",
            Self::Revoked => "REVOKED",
            Self::Custom(name) => name,
        }
    }
    /// By name; any unknown one is a custom state. Case matters, as for Celery.
    pub fn by_name(name: &str) -> Self {
        match name {
            "PENDING" => Self::Pending,
            "STARTED" => Self::Started,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "RETRY" => Self::Retry,
            "REVOKED" => Self::Revoked,
            _ => Self::Custom(name.to_owned()),
        }
    }
    /// Whether nothing follows: SUCCESS, FAILURE or REVOKED.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }
}

impl ResultRecord {
    /// Reads the map form.
    ///
    /// # Errors
    /// Names the key that is missing or of the wrong type.
    pub fn from_value(_value: &Value) -> Result<Self, crate::DecodeError> {
        todo!()
    }
    /// The map form, keys in Celery's order.
    pub fn to_value(&self) -> Value {
        todo!()
    }
    /// The exception, of a FAILURE, RETRY or REVOKED.
    pub fn error(&self) -> Option<crate::TaskError> {
        todo!()
    }
}
