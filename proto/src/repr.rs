//! Python's `repr` of a value: part of the contract in `argsrepr`, events and `ChordError` texts (wire contract §11.17).

use crate::{Map, TaskError, Value};

/// `repr(value)`.
pub fn repr(_value: &Value) -> String {
    todo!()
}

/// `repr(tuple(args))`: `(2, 2)`, `(1,)`, `()`; cut at 1024 characters as Celery's `saferepr` does.
pub fn args_repr(_args: &[Value]) -> String {
    todo!()
}

/// `repr(kwargs)`, cut likewise.
pub fn kwargs_repr(_kwargs: &Map) -> String {
    todo!()
}

/// `repr(exception)`: `ValueError('bad', 1)`.
pub fn error_repr(_error: &TaskError) -> String {
    todo!()
}
