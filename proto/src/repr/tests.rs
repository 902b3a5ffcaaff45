//! What CPython 3.11 and Celery 5.7.0 printed for the same values, kept as data.
//!
//! `testdata/vectors.jsonl` has one value a line: `json` as kombu wrote it, `repr` as `repr()` printed it, `safe` as
//! `saferepr(value, 1024)` did, and `args` likewise for the value (a list: its elements) as a tuple.

use super::*;
use crate::{Limits, TaskError, codec::json};

#[test]
fn values_look_as_in_python() {
    let mut count = 0;
    for line in include_str!("testdata/vectors.jsonl").lines() {
        let vector = json::parse(line.as_bytes(), Limits::default()).unwrap();
        let vector = vector.as_map().unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let value = json::parse(text("json").as_bytes(), Limits::default()).unwrap();
        assert_eq!(repr(&value), text("repr"), "repr of {}", text("json"));
        assert_eq!(safe_repr(&value), text("safe"), "saferepr of {}", text("json"));
        let args = match &value {
            Value::List(items) => items.clone(),
            single => vec![single.clone()],
        };
        assert_eq!(args_repr(&args), text("args"), "saferepr of the arguments {}", text("json"));
        if let Value::Map(map) = &value
            && value.special().is_none()
        {
            assert_eq!(kwargs_repr(map), text("safe"));
        }
        count += 1;
    }
    assert_eq!(count, 298);
}

#[test]
fn exceptions_look_as_in_python() {
    let mut error = TaskError::new("builtins", "ValueError", "bad");
    assert_eq!(error_repr(&error), "ValueError('bad')");
    error.exc_message.push(Value::Int(1));
    assert_eq!(error_repr(&error), "ValueError('bad', 1)");
    error.exc_message.clear();
    error.exc_type = "Outer.Inner".to_owned();
    assert_eq!(error_repr(&error), "Inner()");
}
