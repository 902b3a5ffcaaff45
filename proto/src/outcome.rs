//! How a run of a task ended, as its executor tells it.

use crate::{DecodeError, Map, Options, ResultTuple, Signature, Value};

/// How one run ended.
///
/// An executor knows nothing of brokers and backends: what follows from an outcome (results, successors, chord parts, the
/// acknowledgement) is decided by the scheduler's settlement.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The task returned.
    Success {
        /// What it returned.
        value: Value,
        /// Results of tasks it sent itself, to be listed among its children.
        children: Vec<ResultTuple>,
    },
    /// The task raised, panicked or could not be called.
    Failure(TaskError),
    /// As [`Outcome::Failure`], but the executor has had it stored, and has called those of the task's errbacks that are functions to be
    /// called where the task failed (`celery/backends/base.py::_call_task_errbacks`), or has died while it did.
    FailureTold {
        /// The exception.
        error: TaskError,
        /// The errbacks that are left to be sent as tasks.
        errbacks: Vec<ErrbackLeft>,
        /// Whether the failure is known to be stored.
        stored: bool,
    },
    /// As the outcome within, which the executor has told of before the run was over.
    Told {
        /// The outcome.
        outcome: Box<Outcome>,
        /// Whether its results are known to be stored.
        stored: bool,
    },
    /// The task asks to be run again (`Task.retry`, `autoretry_for`).
    Retry(Retry),
    /// The task asks that nothing be stored (`celery.exceptions.Ignore`).
    Ignore,
    /// The task refuses its message (`celery.exceptions.Reject`).
    Reject {
        /// Whether the message goes back to its queue.
        requeue: bool,
        /// Why.
        reason: String,
    },
    /// Another signature takes this task's place (`Task.replace`).
    Replace(Box<Signature>),
    /// The executor has done everything itself that follows from the outcome within, because only it can write what is to be
    /// written (a serializer or a result backend that only Python knows). What is left is the broker's due.
    Delegated(Box<Outcome>),
    /// The run was ended because the task was revoked.
    Revoked {
        /// Whether it was running and had to be ended by force.
        terminated: bool,
        /// The signal used, if it was.
        signal: Option<i32>,
    },
    /// The hard time limit ended the run.
    TimeLimitExceeded {
        /// The limit, in seconds.
        limit_secs: f64,
    },
    /// Whatever ran the task died under it.
    WorkerLost {
        /// How, for a person: `signal 9 (SIGKILL)`.
        detail: String,
    },
}

impl Outcome {
    /// The same, whenever it was told.
    pub fn plain(&self) -> &Self {
        match self {
            Self::Told { outcome, .. } => outcome.plain(),
            outcome => outcome,
        }
    }
}

/// An errback that its failed task's executor has not called.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrbackLeft {
    /// The errback.
    pub signature: Signature,
    /// Whether it is called with the request, the exception and the traceback, rather than with the failed task's id.
    pub new_style: bool,
}

/// What a task says when it asks to be run again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Retry {
    /// Why, if it says so; it becomes the failure when no attempts are left.
    pub error: Option<TaskError>,
    /// When to run again, in seconds from now; `None` lets the task's options decide.
    pub countdown_secs: Option<f64>,
    /// Other arguments for the next attempt; `None` keeps the ones of this one, byte for byte.
    pub args: Option<Vec<Value>>,
    /// Other keyword arguments for the next attempt.
    pub kwargs: Option<Map>,
    /// Another bound on retries: `Some(None)` is without bound.
    pub max_retries: Option<Option<u32>>,
    /// Whether the executor's automatic retry asks, rather than the task: then the task's own error is the failure when no
    /// attempts are left, and the task's back-off options set the delay.
    pub automatic: bool,
    /// What else the task says of the next attempt, as `apply_async` takes it (`queue`, `priority`, `expires`, `headers`, …).
    pub options: Options,
}

/// An exception in the form Celery stores: class name, arguments, module.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskError {
    /// The class's qualified name: `ValueError`.
    pub exc_type: String,
    /// The exception's arguments.
    pub exc_message: Vec<Value>,
    /// The module of the class; `builtins` for what Rust tasks raise.
    pub exc_module: Option<String>,
    /// The traceback, if there is one.
    pub traceback: Option<String>,
    /// Whether the task says that it may raise this (`throws`). Logs care, and nobody else: it is not stored.
    pub expected: bool,
}

impl TaskError {
    /// `exc_module.exc_type(message)`.
    pub fn new(exc_module: &str, exc_type: &str, message: impl Into<String>) -> Self {
        Self {
            exc_type: exc_type.to_owned(),
            exc_message: vec![Value::Str(message.into())],
            exc_module: Some(exc_module.to_owned()),
            traceback: None,
            expected: false,
        }
    }
}

impl TaskError {
    /// The exception object of a result: `{"exc_type", "exc_message", "exc_module"}`.
    pub fn to_value(&self) -> Value {
        Value::Map(Map::from_iter([
            ("exc_type".to_owned(), self.exc_type.as_str().into()),
            ("exc_message".to_owned(), Value::List(self.exc_message.clone())),
            ("exc_module".to_owned(), self.exc_module.as_deref().into()),
        ]))
    }
    /// Reads it; also takes Celery's plain-string `exc_message`.
    ///
    /// # Errors
    /// When it is not an exception object.
    pub fn from_value(value: &Value) -> Result<Self, DecodeError> {
        let wrong = |field: &str, what: &str, value: &Value| DecodeError::new(field, format!("must be {what}, is {}", value.kind()));
        let map = value.as_map().ok_or_else(|| wrong("", "an exception (a map)", value))?;
        let exc_type = match map.get("exc_type") {
            Some(Value::Str(name)) => name.clone(),
            Some(other) => return Err(wrong("exc_type", "text", other)),
            None => return Err(DecodeError::new("exc_type", "is missing")),
        };
        let exc_message = match map.get("exc_message") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::List(args)) => args.clone(),
            Some(single) => vec![single.clone()],
        };
        let exc_module = match map.get("exc_module") {
            None | Some(Value::Null) => None,
            Some(Value::Str(module)) => Some(module.clone()),
            Some(other) => return Err(wrong("exc_module", "text", other)),
        };
        Ok(Self { exc_type, exc_message, exc_module, traceback: None, expected: false })
    }
}
