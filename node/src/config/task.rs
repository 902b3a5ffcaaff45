//! `[tasks."video.thumbnail"]`: commands that are tasks.

use std::{path::PathBuf, time::Duration};

use super::{
    ConfigError, Origin, Sourced,
    merge::{FromSetting, Resolved},
    raw::{Name, Raw},
};

/// A command that is a task, as configured: what is not said is `None` or empty, and the executor's default.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    /// The task's name.
    pub name: String,
    /// Where its command is written: what errors about it point at.
    pub origin: Origin,
    /// Program and arguments, placeholders and all.
    pub command: Vec<String>,
    /// `auto`, `json` or `text`.
    pub output: Option<String>,
    /// The most bytes of stdout.
    pub output_max: Option<u64>,
    /// The directory it runs in.
    pub cwd: Option<PathBuf>,
    /// Variables passed on.
    pub env: Vec<String>,
    /// Variables set.
    pub set_env: Vec<(String, String)>,
    /// Exit codes that ask for another attempt.
    pub retry_codes: Option<Vec<i32>>,
    /// The time between SIGTERM and SIGKILL.
    pub kill_grace: Option<Duration>,
    /// The queue of calls that name none.
    pub queue: Option<String>,
    /// Attempts after the first.
    pub max_retries: Option<u32>,
    /// The delay before another attempt.
    pub retry_delay: Option<Duration>,
    /// Whether every failure is retried.
    pub retry_on_failure: bool,
    /// The first of doubling delays.
    pub backoff: Option<Duration>,
    /// The longest of them.
    pub backoff_max: Option<Duration>,
    /// Whether they are drawn at random up to their length.
    pub backoff_jitter: bool,
    /// Starts per second, minute or hour on one node.
    pub rate: Option<String>,
    /// The hard limit.
    pub time_limit: Option<Duration>,
    /// The soft limit.
    pub soft_time_limit: Option<Duration>,
    /// Whether it runs again when its node dies.
    pub acks_late: Option<bool>,
    /// Whether its result is thrown away.
    pub ignore_result: bool,
    /// How many of it run at a time on one node.
    pub concurrency: Option<usize>,
}

/// The tasks of a configuration, in the order they are written in.
pub(super) fn tasks(resolved: &Resolved, errors: &mut Vec<ConfigError>) -> Vec<TaskConfig> {
    resolved.below("tasks").into_iter().filter_map(|name| task(resolved, name, errors)).collect()
}

fn task(resolved: &Resolved, task: String, errors: &mut Vec<ConfigError>) -> Option<TaskConfig> {
    let table = Table { resolved, task: &task };
    let Some(command) = resolved.get::<Vec<String>>(&table.name("command")) else {
        let origin = table.any_origin();
        let error = ConfigError::new(table.name("command").to_string(), origin, "is missing, so there is nothing to run");
        errors.push(error.hint(format!("add: command = {}", Raw::List(vec![Raw::Text("/path/to/program".to_owned())]))));
        return None;
    };
    let retry_codes = table.retry_codes(errors);
    let (time_limit, soft_time_limit) = (table.take("time_limit"), table.take("soft_time_limit"));
    if let (Some(hard), Some(soft)) = (time_limit, soft_time_limit)
        && soft >= hard
    {
        let name = table.name("soft_time_limit");
        let origin = resolved.origin(&name).cloned().unwrap_or(Origin::BuiltIn);
        errors.push(ConfigError::new(name.to_string(), origin, "is not shorter than time_limit, so it would never be used"));
    }
    Some(TaskConfig {
        origin: command.origin,
        command: command.value,
        output: table.take("output"),
        output_max: table.take("output_max"),
        cwd: table.take("cwd"),
        env: table.take("env").unwrap_or_default(),
        set_env: table.take("set_env").unwrap_or_default(),
        retry_codes,
        kill_grace: table.take("kill_grace"),
        queue: table.take("queue"),
        max_retries: table.take::<i64>("max_retries").and_then(|retries| u32::try_from(retries).ok()),
        retry_delay: table.take("retry_delay"),
        retry_on_failure: table.take("retry_on_failure").unwrap_or(false),
        backoff: table.take("backoff"),
        backoff_max: table.take("backoff_max"),
        backoff_jitter: table.take("backoff_jitter").unwrap_or(true),
        rate: table.take("rate"),
        time_limit,
        soft_time_limit,
        acks_late: table.take::<String>("acks").map(|acks| acks == "late"),
        ignore_result: table.take("ignore_result").unwrap_or(false),
        concurrency: table.take::<i64>("concurrency").and_then(|slots| usize::try_from(slots).ok()),
        name: task,
    })
}

/// The values below one task's name.
struct Table<'a> {
    resolved: &'a Resolved,
    task: &'a str,
}

impl Table<'_> {
    fn name(&self, key: &str) -> Name {
        Name::new(["tasks", self.task, key])
    }

    fn take<T: FromSetting>(&self, key: &str) -> Option<T> {
        self.resolved.get(&self.name(key)).map(|found| found.value)
    }

    /// Where any of it is written: all that is known of a task without a command.
    fn any_origin(&self) -> Origin {
        let below = |name: &&Name| name.segments().starts_with(&["tasks".to_owned(), self.task.to_owned()]);
        let first = self.resolved.names().find(below);
        first.and_then(|name| self.resolved.origin(name)).cloned().unwrap_or(Origin::BuiltIn)
    }

    fn retry_codes(&self, errors: &mut Vec<ConfigError>) -> Option<Vec<i32>> {
        let name = self.name("retry_codes");
        let written: Sourced<Vec<String>> = self.resolved.get(&name)?;
        let mut codes = Vec::new();
        for text in &written.value {
            match text.parse() {
                Ok(code @ 1..=255) => codes.push(code),
                _ => {
                    let error = ConfigError::new(name.to_string(), written.origin.clone(), "is not an exit code of a failure");
                    errors.push(error.value(text).hint("allowed: 1 to 255"));
                }
            }
        }
        Some(codes)
    }
}
