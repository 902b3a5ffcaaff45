//! Fields of events: taken out of a map by name and type, and put back.

use crate::{DecodeError, Map, TaskId, Value};

/// The keys of an event that have not been looked at yet.
pub(super) struct Fields(pub(super) Map);

impl Fields {
    /// Takes the field `name`.
    pub(super) fn take<T: Field>(&mut self, name: &str) -> Result<T, DecodeError> {
        T::read(self.0.swap_remove(name)).map_err(|error| error.within(name))
    }
}

/// Puts a field into a map.
pub(super) fn put<T: Field>(map: &mut Map, name: &str, field: &T) {
    map.insert(name.to_owned(), field.write());
}

/// The type of a field.
pub(super) trait Field: Sized {
    /// Reads a field that is there or is not.
    fn read(value: Option<Value>) -> Result<Self, DecodeError>;
    /// Writes it.
    fn write(&self) -> Value;
}

fn required<T>(value: Option<Value>, what: &str, take: impl FnOnce(Value) -> Result<T, Value>) -> Result<T, DecodeError> {
    match value.map(take) {
        Some(Ok(field)) => Ok(field),
        Some(Err(other)) => Err(DecodeError::new("", format!("must be {what}, is {}", other.kind()))),
        None => Err(DecodeError::new("", "is missing")),
    }
}

impl Field for String {
    fn read(value: Option<Value>) -> Result<Self, DecodeError> {
        required(value, "text", |value| match value {
            Value::Str(text) => Ok(text),
            other => Err(other),
        })
    }
    fn write(&self) -> Value {
        self.as_str().into()
    }
}

impl Field for TaskId {
    fn read(value: Option<Value>) -> Result<Self, DecodeError> {
        String::read(value).map(Self::from)
    }
    fn write(&self) -> Value {
        self.as_str().into()
    }
}

impl Field for i64 {
    fn read(value: Option<Value>) -> Result<Self, DecodeError> {
        required(value, "an integer", |value| value.as_i64().ok_or(value))
    }
    fn write(&self) -> Value {
        (*self).into()
    }
}

impl Field for f64 {
    fn read(value: Option<Value>) -> Result<Self, DecodeError> {
        required(value, "a number", |value| value.as_f64().ok_or(value))
    }
    fn write(&self) -> Value {
        (*self).into()
    }
}

impl Field for bool {
    fn read(value: Option<Value>) -> Result<Self, DecodeError> {
        required(value, "a boolean", |value| value.as_bool().ok_or(value))
    }
    fn write(&self) -> Value {
        (*self).into()
    }
}

impl Field for Vec<f64> {
    fn read(value: Option<Value>) -> Result<Self, DecodeError> {
        required(value, "a list of numbers", |value| {
            let numbers = value.as_list().and_then(|items| items.iter().map(Value::as_f64).collect());
            numbers.ok_or(value)
        })
    }
    fn write(&self) -> Value {
        Value::List(self.iter().copied().map(Value::Float).collect())
    }
}

impl Field for Value {
    fn read(value: Option<Value>) -> Result<Self, DecodeError> {
        Ok(value.unwrap_or_default())
    }
    fn write(&self) -> Value {
        self.clone()
    }
}

impl<T: Field> Field for Option<T> {
    fn read(value: Option<Value>) -> Result<Self, DecodeError> {
        match value {
            None | Some(Value::Null) => Ok(None),
            some => T::read(some).map(Some),
        }
    }
    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::write)
    }
}
