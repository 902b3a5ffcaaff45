//! Answers, as values.

use umbel_proto::{Map, TaskError, Value, repr};

/// A map.
pub(super) fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map>())
}

/// What a command says that has done what it should.
pub(super) fn ok(value: impl Into<Value>) -> Value {
    map([("ok", value.into())])
}

/// What a command says that could not.
pub(super) fn error(text: impl Into<Value>) -> Value {
    map([("error", text.into())])
}

/// What a command says that has raised, in Python's words.
pub(super) fn error_repr(kind: &str, message: &str) -> Value {
    error(repr::error_repr(&TaskError::new("builtins", kind, message)))
}

/// One text or a list of them, as Celery's `maybe_list`; what is no text is read as Python would print it.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    value.map(umbel_scheduler::revocation::texts).unwrap_or_default()
}

/// Whether a value counts as true in Python.
pub(super) fn truth(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(truth)) => *truth,
        Some(Value::Int(number)) => *number != 0,
        Some(Value::Float(number)) => *number != 0.0,
        Some(Value::Str(text)) => !text.is_empty(),
        Some(Value::List(items)) => !items.is_empty(),
        Some(Value::Map(map)) => !map.is_empty(),
        Some(_) => true,
    }
}
