//! From a call's arguments to a function's parameters, as Python binds them, with Python's own words where they do not fit.

use serde::de::DeserializeOwned;
use umbel_proto::{Map, TaskError, Value};

use super::TaskFailure;

/// A parameter of a task.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name, for keyword arguments.
    pub name: &'static str,
    /// Whether a call must give it.
    pub required: bool,
}

/// The arguments of one call, in the order of the task's parameters.
#[derive(Debug)]
pub struct Arguments {
    task: &'static str,
    parameters: &'static [Parameter],
    values: Vec<Option<Value>>,
}

impl Arguments {
    /// Binds the arguments of a call of `task`.
    ///
    /// # Errors
    /// Python's `TypeError` for too many, unknown, doubled or missing arguments.
    pub fn bind(task: &'static str, parameters: &'static [Parameter], args: Vec<Value>, kwargs: Map) -> Result<Self, TaskFailure> {
        if args.len() > parameters.len() {
            return Err(type_error(too_many(task, parameters, args.len())));
        }
        let mut values: Vec<Option<Value>> = args.into_iter().map(Some).collect();
        values.resize_with(parameters.len(), || None);
        for (name, value) in kwargs {
            match parameters.iter().position(|parameter| parameter.name == name) {
                None => return Err(type_error(format!("{task}() got an unexpected keyword argument '{name}'"))),
                Some(index) if values[index].is_some() => {
                    return Err(type_error(format!("{task}() got multiple values for argument '{name}'")));
                }
                Some(index) => values[index] = Some(value),
            }
        }
        let missing: Vec<&str> = parameters
            .iter()
            .zip(&values)
            .filter(|(parameter, value)| parameter.required && value.is_none())
            .map(|(parameter, _)| parameter.name)
            .collect();
        if missing.is_empty() { Ok(Self { task, parameters, values }) } else { Err(type_error(missing_text(task, &missing))) }
    }

    /// The value of the required parameter at `index`.
    ///
    /// # Errors
    /// A `TypeError` when it is not a `T`.
    pub fn take<T: DeserializeOwned>(&mut self, index: usize) -> Result<T, TaskFailure> {
        self.read(index)
    }

    /// The value of the parameter at `index`, or `default()` when the call gives none.
    ///
    /// # Errors
    /// As [`Arguments::take`].
    pub fn take_or<T: DeserializeOwned>(&mut self, index: usize, default: impl FnOnce() -> T) -> Result<T, TaskFailure> {
        if self.values[index].is_none() { Ok(default()) } else { self.read(index) }
    }

    /// The value of the parameter at `index` as it came; null when the call gives none.
    pub(super) fn value(&mut self, index: usize) -> Value {
        self.values[index].take().unwrap_or_default()
    }

    fn read<T: DeserializeOwned>(&mut self, index: usize) -> Result<T, TaskFailure> {
        self.value(index).deserialize().map_err(|error| {
            let path = match error.field.as_str() {
                "" => String::new(),
                field => format!(" at {field}"),
            };
            let name = self.parameters[index].name;
            type_error(format!("{}() argument '{name}'{path}: {}", self.task, error.reason))
        })
    }
}

fn type_error(message: String) -> TaskFailure {
    TaskFailure::BadArguments(TaskError::new("builtins", "TypeError", message))
}

fn too_many(task: &str, parameters: &[Parameter], given: usize) -> String {
    let most = parameters.len();
    let least = parameters.iter().filter(|parameter| parameter.required).count();
    let range = if least == most { most.to_string() } else { format!("from {least} to {most}") };
    let plural = if most == 1 { "" } else { "s" };
    let verb = if given == 1 { "was" } else { "were" };
    format!("{task}() takes {range} positional argument{plural} but {given} {verb} given")
}

fn missing_text(task: &str, names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let list = match quoted.as_slice() {
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        [rest @ .., last] => format!("{}, and {last}", rest.join(", ")),
        [] => String::new(),
    };
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{task}() missing {} required positional argument{plural}: {list}", names.len())
}

#[cfg(test)]
mod tests;
