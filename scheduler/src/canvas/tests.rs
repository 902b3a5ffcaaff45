//! The canvas rules, each as a test, run in the [model](crate::model).

mod captured;
mod evaluator;
mod failures;
mod property;
mod rules;
mod wrong;

use umbel_proto::{Invocation, Map, Outcome, Retry, Signature, TaskError, Value};

use super::{CanvasError, Launch, launch};
use crate::model::Model;

/// What a task is told to do, in its keyword arguments.
fn behave(invocation: &Invocation) -> Outcome {
    let (args, kwargs) = invocation.arguments().unwrap();
    let name = invocation.headers.task.as_str();
    if name == super::node::ACCUMULATE {
        return Outcome::Success { value: args[0].clone(), children: Vec::new() };
    }
    if i64::from(invocation.headers.retries) < kwargs.get("retry").and_then(Value::as_i64).unwrap_or(0) {
        return Outcome::Retry(Retry { countdown_secs: Some(1.0), ..Retry::default() });
    }
    if kwargs.contains_key("fail") {
        return Outcome::Failure(raised(name));
    }
    if let Some(replacement) = kwargs.get("replace") {
        return Outcome::Replace(Box::new(Signature::from_value(replacement).unwrap()));
    }
    Outcome::Success { value: called(name, &args).into(), children: Vec::new() }
}

/// What a failing task raises.
fn raised(name: &str) -> TaskError {
    TaskError::new("builtins", "ValueError", name)
}

/// `name(arguments)`: what a task returns, so that a value tells where it came from.
fn called(name: &str, args: &[Value]) -> String {
    format!("{name}({})", args.iter().map(show).collect::<Vec<_>>().join(","))
}

fn show(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        Value::List(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(",")),
        other => format!("{other:?}"),
    }
}

fn task(name: &str) -> Signature {
    Signature::new(name)
}

fn failing(name: &str) -> Signature {
    task(name).kwarg("fail", true)
}

/// Runs a workflow in the order of its messages.
fn run(signature: &Signature) -> (Model, super::Launched) {
    run_with(signature, &[], &Map::new())
}

fn run_with(signature: &Signature, args: &[Value], kwargs: &Map) -> (Model, super::Launched) {
    let mut model = Model::default();
    let launched = model.submit_with(signature, args, kwargs).unwrap();
    model.run_in_order(&mut behave);
    (model, launched)
}
