//! A command as a task: what configuration says, checked and with its defaults.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use umbel_proto::{QueueName, TimeLimit};
use umbel_scheduler::{Acknowledge, Backoff, TaskSpec, rate_limit::Rate};

use super::template::Template;
use crate::config::{ConfigError, Name, TaskConfig};

/// Variables that every command gets, if the node has them: without them hardly a program runs.
const ENV_ALWAYS: &[&str] = &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// `EX_TEMPFAIL` of `sysexits.h`: a failure that is not one yet; mail programs have always meant "try again" by it.
const EX_TEMPFAIL: i32 = 75;

/// What stdout holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// JSON if it is JSON, else text.
    Auto,
    /// JSON; anything else is a failure.
    Json,
    /// Text.
    Text,
}

/// A command that is a task.
#[derive(Debug)]
pub(super) struct CommandTask {
    pub(super) spec: Arc<TaskSpec>,
    /// The words as written, for people.
    pub(super) words: Vec<String>,
    pub(super) templates: Vec<Template>,
    pub(super) output: Output,
    /// In bytes.
    pub(super) output_max: usize,
    pub(super) cwd: Option<PathBuf>,
    /// The environment, without what is known only of each call.
    pub(super) env: BTreeMap<String, String>,
    pub(super) retry_codes: Vec<i32>,
    pub(super) kill_grace: Duration,
    /// Runs at a time on this node.
    pub(super) room: Option<Arc<Semaphore>>,
}

impl CommandTask {
    /// Checks `config`; `env` is the node's environment, of which the command gets what is allowed.
    pub(super) fn new(config: &TaskConfig, env: &BTreeMap<String, String>, defaults: &Defaults) -> Result<Self, ConfigError> {
        let name = |key: &str| Name::new(["tasks", &config.name, key]).to_string();
        let templates = config.command.iter().map(|word| {
            let error = |problem| ConfigError::new(name("command"), config.origin.clone(), problem).value(format!("{word:?}"));
            Template::parse(word).map_err(error)
        });
        let templates = templates.collect::<Result<_, _>>()?;
        let passed = ENV_ALWAYS.iter().copied().chain(config.env.iter().map(String::as_str));
        let mut own: BTreeMap<String, String> = passed.filter_map(|name| Some((name.to_owned(), env.get(name)?.clone()))).collect();
        for (variable, value) in &config.set_env {
            if variable.is_empty() || variable.contains(['=', '\0']) || value.contains('\0') {
                let error = ConfigError::new(name("set_env"), config.origin.clone(), "is not a variable");
                return Err(error.value(format!("{variable:?}")));
            }
            own.insert(variable.clone(), value.clone());
        }
        Ok(Self {
            spec: Arc::new(
                spec(config, defaults)
                    .map_err(|text| ConfigError::new(name("rate"), config.origin.clone(), "is not a rate").value(format!("{text:?}")))?,
            ),
            words: config.command.clone(),
            templates,
            output: match config.output.as_deref() {
                Some("json") => Output::Json,
                Some("text") => Output::Text,
                _ => Output::Auto,
            },
            output_max: config.output_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(16 << 20),
            cwd: config.cwd.clone(),
            env: own,
            retry_codes: config.retry_codes.clone().unwrap_or_else(|| vec![EX_TEMPFAIL]),
            kill_grace: config.kill_grace.unwrap_or(Duration::from_secs(5)),
            room: config.concurrency.map(|slots| Arc::new(Semaphore::new(slots))),
        })
    }
}

/// What holds for commands that do not say otherwise: `worker.*` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// The hard limit.
    pub time_limit: Option<Duration>,
    /// The soft limit.
    pub soft_time_limit: Option<Duration>,
    /// Whether they run again when their node dies.
    pub acks_late: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { time_limit: None, soft_time_limit: None, acks_late: true }
    }
}

fn spec(config: &TaskConfig, defaults: &Defaults) -> Result<TaskSpec, String> {
    let mut spec = TaskSpec::new(config.name.as_str());
    spec.queue = config.queue.as_deref().map(QueueName::from);
    spec.max_retries = config.max_retries.or(spec.max_retries);
    if let Some(delay) = config.retry_delay {
        spec.retry_delay_secs = delay.as_secs_f64();
    }
    spec.retry_on_failure = config.retry_on_failure;
    spec.backoff = config.backoff.map(|first| Backoff {
        factor_secs: first.as_secs_f64(),
        max_secs: config.backoff_max.unwrap_or(Duration::from_secs(600)).as_secs_f64(),
        jitter: config.backoff_jitter,
    });
    spec.rate_limit = config.rate.as_deref().map(Rate::parse).transpose()?.flatten();
    // A soft limit of the node's own that the task's hard limit makes useless is left out rather than inverted.
    let hard = config.time_limit.or(defaults.time_limit);
    let soft = config.soft_time_limit.or(defaults.soft_time_limit).filter(|soft| hard.is_none_or(|hard| *soft < hard));
    spec.time_limit = TimeLimit { hard_secs: hard.map(|hard| hard.as_secs_f64()), soft_secs: soft.map(|soft| soft.as_secs_f64()) };
    let late = config.acks_late.unwrap_or(defaults.acks_late);
    spec.acknowledge = if late { Acknowledge::Late } else { Acknowledge::Early };
    spec.ignore_result = config.ignore_result;
    Ok(spec)
}
