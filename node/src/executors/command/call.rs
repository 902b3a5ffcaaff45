//! One call of a command: its words, its environment and what it reads.

use std::collections::BTreeMap;

use bytes::Bytes;
use umbel_proto::{Map, TaskError, Timestamp, Value, codec::Serializer};
use umbel_scheduler::devices::Device;

use super::{find::find, keeper::Request, task::CommandTask, template::Arguments};
use crate::executors::Job;

/// A call that can be run.
pub(super) struct Call {
    pub(super) request: Request,
    /// What the command reads from stdin.
    pub(super) stdin: Bytes,
}

impl Call {
    /// Everything that `job` makes of `task`, with the slot's device.
    ///
    /// # Errors
    /// The task's failure: arguments that cannot be read or are missing, a program that is not there.
    pub(super) fn new(task: &CommandTask, job: &Job, device: Option<&Device>) -> Result<Self, Box<TaskError>> {
        let headers = &job.invocation.headers;
        let (args, kwargs) = job
            .invocation
            .arguments()
            .map_err(|error| TaskError::new("builtins", "TypeError", format!("{} cannot be called: {error}", headers.task)))?;
        let root_id = headers.root_id.as_ref().unwrap_or(&headers.id).to_string();
        let known = [
            ("task_id", headers.id.to_string()),
            ("task_name", headers.task.to_string()),
            ("root_id", root_id.clone()),
            ("queue", job.queue.to_string()),
            ("attempt", job.attempt.to_string()),
            ("retries", headers.retries.to_string()),
        ];
        let from = Arguments { args: &args, kwargs: &kwargs, known: &known };
        let words: Vec<String> = task.templates.iter().map(|template| template.fill(&from)).collect::<Result<_, _>>()?;
        let deadline = job.deadline.map(|at| Timestamp::from_millis(at).as_str().to_owned());
        let env = environment(task, &known, deadline.as_deref(), device);
        let path = env.get("PATH").map_or("", String::as_str);
        let program = find(&words[0], path, task.cwd.as_deref()).map_err(|not_found| {
            let text = format!("the command {:?} {}", words[0], not_found.reason);
            TaskError::new("builtins", "FileNotFoundError", text)
        })?;
        let about = Map::from_iter([
            ("id".to_owned(), Value::from(headers.id.as_str())),
            ("name".to_owned(), Value::from(headers.task.as_str())),
            ("root_id".to_owned(), Value::from(root_id)),
            ("attempt".to_owned(), Value::from(job.attempt)),
            ("retries".to_owned(), Value::from(headers.retries)),
            ("queue".to_owned(), Value::from(job.queue.as_str())),
            ("deadline".to_owned(), Value::from(deadline)),
        ]);
        let call = Value::Map(Map::from_iter([
            ("args".to_owned(), Value::List(args)),
            ("kwargs".to_owned(), Value::Map(kwargs)),
            ("task".to_owned(), Value::Map(about)),
        ]));
        // As it is: what a Python program sent may hold types of its own.
        let stdin = Serializer::Json.encode_as_is(&call);
        let stdin = stdin.map_err(|error| TaskError::new("builtins", "TypeError", error.to_string()))?;
        let cwd = task.cwd.clone();
        Ok(Self { request: Request { program, words, env: env.into_iter().collect(), cwd }, stdin })
    }
}

/// The allowed part of the node's environment, and what is known of the call.
fn environment(
    task: &CommandTask,
    known: &[(&'static str, String)],
    deadline: Option<&str>,
    device: Option<&Device>,
) -> BTreeMap<String, String> {
    let mut env = task.env.clone();
    for (name, value) in known {
        // A task name may hold anything; a variable holds anything but NUL.
        env.insert(format!("UMBEL_{}", name.to_uppercase()), value.replace('\0', ""));
    }
    if let Some(deadline) = deadline {
        env.insert("UMBEL_DEADLINE".to_owned(), deadline.to_owned());
    }
    for (name, value) in device.iter().flat_map(|device| device.env()) {
        env.insert(name.to_owned(), value.to_owned());
    }
    env
}
