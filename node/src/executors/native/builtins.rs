//! The tasks every worker owns: `celery/app/builtins.py`, wire contract §5.2.
//!
//! `celery.map` and `celery.starmap` call another task in place, so they must be on the executor that has it; a node with
//! Python tasks finds them there as well. The composites (`celery.group`, `celery.chord`, `celery.chunks`) as tasks of their
//! own come from canvases that a client sent as a message instead of taking them apart: the task replaces itself by what it
//! stands for, so that its own id gets the value. (Celery's `chunks` task returns the ids of its results there, of which
//! nobody can make anything; canvas rules, case 20.)

use std::sync::Arc;

use umbel_proto::{DecodeError, Map, Signature, TaskError, TaskName, Value};
use umbel_scheduler::TaskSpec;

use super::{
    Builder, NativeExecutor, TaskFailure,
    arguments::{Arguments, Parameter},
    slot::SharedTask,
    task::{Call, Returned, Run, Task},
};
use crate::context::Context;

mod unlock;

const MAP: &str = "celery.map";
const STARMAP: &str = "celery.starmap";

/// A built-in task: a name and what it does.
struct Builtin {
    name: &'static str,
    run: fn(Call) -> Run,
}

impl Task for Builtin {
    fn spec(&self) -> TaskSpec {
        let mut spec = TaskSpec::new(self.name);
        if self.name == unlock::NAME {
            spec.max_retries = None;
            spec.ignore_result = true;
        }
        spec
    }

    fn start(&self, call: Call) -> Run {
        (self.run)(call)
    }
}

/// Adds them all.
pub(super) fn register(builder: Builder) -> Builder {
    let now = |run: fn(Call) -> Returned| run;
    [
        ("celery.accumulate", now(accumulate)),
        ("celery.backend_cleanup", now(|_| Ok(Value::Null))),
        ("celery.chain", now(chain)),
        ("celery.chord", now(chord)),
        ("celery.chunks", now(chunks)),
        ("celery.group", now(group)),
    ]
    .into_iter()
    .fold(builder, |builder, (name, run)| builder.task(Immediate { name, run }))
    .task(Builtin { name: MAP, run: |_| Run::future(async { Err(unreached()) }) })
    .task(Builtin { name: STARMAP, run: |_| Run::future(async { Err(unreached()) }) })
    .task(Builtin { name: unlock::NAME, run: unlock::run })
}

/// A built-in task that only rearranges its arguments.
struct Immediate {
    name: &'static str,
    run: fn(Call) -> Returned,
}

impl Task for Immediate {
    fn spec(&self) -> TaskSpec {
        TaskSpec::new(self.name)
    }

    fn start(&self, call: Call) -> Run {
        let run = self.run;
        Run::future(async move { run(call) })
    }
}

fn unreached() -> TaskFailure {
    TaskFailure::new("RuntimeError", "the slot runs maps itself")
}

/// `args[index]` if there is an index, else all of them: what makes one value of the results of a group that took a task's
/// place.
fn accumulate(call: Call) -> Returned {
    match call.kwargs.get("index").and_then(Value::as_i64) {
        None => Ok(Value::List(call.args)),
        Some(index) => {
            let found = usize::try_from(index).ok().and_then(|index| call.args.into_iter().nth(index));
            found.ok_or_else(|| TaskFailure::new("IndexError", format!("celery.accumulate was given no argument {index}")))
        }
    }
}

fn chain(_: Call) -> Returned {
    Err(TaskFailure::new("NotImplementedError", "chain is not a real task"))
}

fn group(call: Call) -> Returned {
    const PARAMETERS: &[Parameter] =
        &[required("tasks"), optional("result"), optional("group_id"), optional("partial_args"), optional("add_to_parent")];
    let mut arguments = Arguments::bind("group", PARAMETERS, call.args, call.kwargs)?;
    let tasks = signatures(arguments.value(0), "tasks")?;
    let before = list(arguments.value(3), "partial_args")?;
    Err(TaskFailure::Replace(Box::new(Signature::group(tasks.into_iter().map(|task| with_args_before(task, &before))))))
}

fn chord(call: Call) -> Returned {
    const PARAMETERS: &[Parameter] = &[
        required("header"),
        required("body"),
        optional("partial_args"),
        optional("interval"),
        optional("countdown"),
        optional("max_retries"),
        optional("eager"),
        optional("kwargs"),
    ];
    let mut arguments = Arguments::bind("chord", PARAMETERS, call.args, call.kwargs)?;
    let header = match arguments.value(0) {
        Value::List(tasks) => signatures(Value::List(tasks), "header")?,
        other => signature(&other, "header")?.tasks().map_err(bad)?,
    };
    let body = signature(&arguments.value(1), "body")?;
    let before = list(arguments.value(2), "partial_args")?;
    let header = header.into_iter().map(|task| with_args_before(task, &before));
    Err(TaskFailure::Replace(Box::new(Signature::chord(header, body))))
}

fn chunks(call: Call) -> Returned {
    const PARAMETERS: &[Parameter] = &[required("task"), required("it"), required("n")];
    let mut arguments = Arguments::bind("chunks", PARAMETERS, call.args, call.kwargs)?;
    let task = signature(&arguments.value(0), "task")?;
    let items = list(arguments.value(1), "it")?;
    let size: usize = arguments.take(2)?;
    if size == 0 {
        return Err(TaskFailure::new("ValueError", "chunks of size 0"));
    }
    let starmaps = items.chunks(size).map(|chunk| Signature::starmap(task.clone(), chunk.to_vec()));
    Err(TaskFailure::Replace(Box::new(Signature::group(starmaps))))
}

const fn required(name: &'static str) -> Parameter {
    Parameter { name, required: true }
}

const fn optional(name: &'static str) -> Parameter {
    Parameter { name, required: false }
}

fn bad(error: DecodeError) -> TaskFailure {
    TaskFailure::BadArguments(TaskError::new("builtins", "TypeError", error.to_string()))
}

fn signature(value: &Value, name: &str) -> Result<Signature, TaskFailure> {
    Signature::from_value(value).map_err(|error| bad(error.within(name)))
}

fn signatures(value: Value, name: &str) -> Result<Vec<Signature>, TaskFailure> {
    let values = list(value, name)?;
    values.iter().enumerate().map(|(index, value)| signature(value, &format!("{name}[{index}]"))).collect()
}

fn list(value: Value, name: &str) -> Result<Vec<Value>, TaskFailure> {
    match value {
        Value::List(values) => Ok(values),
        Value::Null => Ok(Vec::new()),
        _ => Err(bad(DecodeError::new(name, "not a list"))),
    }
}

fn with_args_before(mut signature: Signature, before: &[Value]) -> Signature {
    if !signature.immutable {
        signature.args.splice(0..0, before.iter().cloned());
    }
    signature
}

/// How the slot runs a call.
pub(super) enum Inline {
    /// As any other.
    Run(Call),
    /// Item by item.
    Items(Items),
    /// Not at all.
    Fails(TaskFailure),
}

/// The calls a map is made of.
pub(super) struct Items {
    task: SharedTask,
    items: std::vec::IntoIter<Value>,
    star: bool,
}

impl Items {
    pub(super) fn next(&mut self, context: &Context) -> Option<(SharedTask, Call)> {
        let item = self.items.next()?;
        let args = match (self.star, item) {
            (true, Value::List(args)) => args,
            (_, item) => vec![item],
        };
        Some((Arc::clone(&self.task), Call { args, kwargs: Map::new(), context: context.clone() }))
    }
}

impl NativeExecutor {
    /// Whether `call` of `name` is a map, and over what.
    pub(super) fn inline(&self, name: &TaskName, call: Call) -> Inline {
        let star = match name.as_str() {
            MAP => false,
            STARMAP => true,
            _ => return Inline::Run(call),
        };
        match self.items(name.as_str(), call, star) {
            Ok(items) => Inline::Items(items),
            Err(failure) => Inline::Fails(failure),
        }
    }

    fn items(&self, name: &str, call: Call, star: bool) -> Result<Items, TaskFailure> {
        const PARAMETERS: &[Parameter] = &[required("task"), required("it")];
        let mut arguments = Arguments::bind(if star { "xstarmap" } else { "xmap" }, PARAMETERS, call.args, call.kwargs)?;
        let signature = signature(&arguments.value(0), "task")?;
        let items = list(arguments.value(1), "it")?;
        if star && let Some(index) = items.iter().position(|item| item.as_list().is_none()) {
            return Err(bad(DecodeError::new(format!("it[{index}]"), "not a list of arguments")));
        }
        // Only the task of the signature counts, as in Celery: its arguments and options are not looked at.
        let task = match signature.task.as_str() {
            MAP | STARMAP => Err(TaskFailure::new("NotImplementedError", format!("{name} cannot call {}", signature.task))),
            _ => self.task(&signature.task).ok_or_else(|| {
                let error = TaskError::new("celery.exceptions", "NotRegistered", signature.task.as_str());
                TaskFailure::Error(error)
            }),
        }?;
        Ok(Items { task, items: items.into_iter(), star })
    }
}

/// What the failure of an item is for the whole map. A wish to retry is the error behind it, as in Celery where a task
/// that is called directly cannot be retried; a wish to be replaced cannot be met.
pub(super) fn called_directly(failure: TaskFailure) -> TaskFailure {
    match failure {
        TaskFailure::Retry(retry) => {
            let error = retry.error.unwrap_or_else(|| TaskError::new("celery.exceptions", "Retry", "Task can be retried"));
            TaskFailure::Error(error)
        }
        TaskFailure::Replace(_) => TaskFailure::new("RuntimeError", "a task called by a map cannot be replaced"),
        other => other,
    }
}
