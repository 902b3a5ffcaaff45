//! How a native task ends other than by returning: a failure, or one of the wishes Celery expresses by exceptions.

use std::{any::type_name, error::Error, fmt, io};

use umbel_proto::{Retry, Signature, TaskError, Value};

/// Why a task did not return a value.
///
/// Made by `?` from any `std::error::Error`, by [`TaskFailure::new`] with an exception type of your choosing, by
/// [`TaskFailure::from_display`] from errors that are only text (`anyhow`), and by the wishes of
/// [`Context`](crate::context::Context): retry, ignore, reject, replace.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskFailure {
    /// The task failed.
    Error(TaskError),
    /// The call does not fit the task. Never retried automatically: the same arguments never fit.
    BadArguments(TaskError),
    /// The task wants to run again.
    Retry(Box<Retry>),
    /// The task wants nothing to be stored.
    Ignore,
    /// The task refuses its message.
    Reject {
        /// Whether the message goes back to its queue.
        requeue: bool,
        /// Why.
        reason: String,
    },
    /// Another signature takes the task's place.
    Replace(Box<Signature>),
}

/// What tasks with a failure of their own return.
pub type TaskResult<T> = Result<T, TaskFailure>;

impl TaskFailure {
    /// A failure by an exception of this type. A name that Python knows (`"ValueError"`) is that exception for Python
    /// clients; for any other, Celery makes up a class.
    pub fn new(exc_type: &str, message: impl Into<String>) -> Self {
        Self::Error(TaskError::new("builtins", &safe(exc_type), message))
    }

    /// A failure by an error that is only text. Its type's name becomes the exception's, where it says more than "text".
    pub fn from_display<E: fmt::Display>(error: E) -> Self {
        Self::Error(TaskError::new("builtins", &exception_name(type_name::<E>()), error.to_string()))
    }

    /// The exception, where there is one.
    pub fn error(&self) -> Option<&TaskError> {
        match self {
            Self::Error(error) | Self::BadArguments(error) => Some(error),
            Self::Retry(retry) => retry.error.as_ref(),
            _ => None,
        }
    }
}

// `TaskFailure` is no `Error` itself; that is what makes this possible.
impl<E: Error> From<E> for TaskFailure {
    fn from(error: E) -> Self {
        let exc_type = exception_name(type_name::<E>());
        let message = error.to_string();
        let mut traceback = format!("{exc_type}: {message}");
        let mut source = error.source();
        // A cycle of sources would be a bug of the error's; the bound keeps it from being ours.
        for _ in 0..64 {
            let Some(cause) = source else { break };
            traceback.push_str(&format!("\n  caused by: {cause}"));
            source = cause.source();
        }
        let traceback = traceback.contains('\n').then_some(traceback);
        Self::Error(TaskError { traceback, ..TaskError::new("builtins", &exc_type, message) })
    }
}

/// A Python exception name for a Rust type: its last path segment, as far as that is safe and says anything.
fn exception_name(rust: &str) -> String {
    if rust == type_name::<io::Error>() {
        return "OSError".to_owned();
    }
    let path = rust.split('<').next().unwrap_or(rust);
    let path = path.trim_start_matches('&');
    let first = path.split("::").next().unwrap_or_default();
    match path.rsplit("::").next().unwrap_or_default() {
        "String" | "str" | "Box" | "Cow" => "RuntimeError".to_owned(),
        "Error" if matches!(first, "anyhow" | "std" | "core" | "alloc" | "Error") => "RuntimeError".to_owned(),
        "Error" => format!("{}Error", first.split('_').map(capitalised).collect::<String>()),
        name => safe(name),
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Celery looks the name up in Python's `builtins`; what it finds there must be an exception or nothing (wire contract
/// §4.1: anything else is a `SecurityError` in the reader). Builtins that are no exceptions begin with a small letter or an
/// underscore, except these four.
fn safe(name: &str) -> String {
    let capital = name.starts_with(|first: char| first.is_ascii_uppercase());
    let word = name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'));
    let taken = matches!(name, "True" | "False" | "None" | "Ellipsis" | "NotImplemented");
    if capital && word && !taken { name.to_owned() } else { "RuntimeError".to_owned() }
}

/// The exception of a soft time limit that nobody heard, in the form of wire contract §4.1.
pub(crate) fn soft_time_limit() -> TaskError {
    TaskError {
        exc_type: "SoftTimeLimitExceeded".to_owned(),
        exc_message: Vec::<Value>::new(),
        exc_module: Some("billiard.exceptions".to_owned()),
        traceback: None,
        expected: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod tool {
        #[derive(Debug)]
        pub(super) struct Broken;
        impl std::fmt::Display for Broken {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("broken")
            }
        }
        impl std::error::Error for Broken {}
    }

    fn name(failure: impl Into<TaskFailure>) -> String {
        failure.into().error().unwrap().exc_type.clone()
    }

    #[test]
    fn exceptions_are_named_after_error_types() {
        assert_eq!(name(tool::Broken), "Broken");
        assert_eq!(name("x".parse::<i64>().unwrap_err()), "ParseIntError");
        assert_eq!(name(io::Error::other("gone")), "OSError");
        assert_eq!(name(serde_json::from_str::<i64>("x").unwrap_err()), "SerdeJsonError");
        assert_eq!(name(fmt::Error), "RuntimeError");
        assert_eq!(name(TaskFailure::from_display("text")), "RuntimeError");
        assert_eq!(name(TaskFailure::from_display(anyhow::anyhow!("text"))), "RuntimeError");
    }

    #[test]
    fn no_name_is_a_builtin_that_is_no_exception() {
        for taken in ["Ellipsis", "None", "print", "__import__", "a b", ""] {
            assert_eq!(name(TaskFailure::new(taken, "x")), "RuntimeError", "{taken}");
        }
        assert_eq!(name(TaskFailure::new("ValueError", "x")), "ValueError");
    }
}
