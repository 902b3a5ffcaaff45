//! The Python application of a node: found, loaded, and what it says made part of the configuration.

mod tls;

use std::{ffi::OsString, path::Path, process::Command, time::Duration};

use umbel_proto::TimeLimit;
use umbel_scheduler::autoscale::Bounds;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, note, program},
};
use crate::{
    config::{self, Config, Level, Raw, Runs, Sourced, Url, UrlKind},
    executors::python::{AppReport, PythonExecutor, PythonOptions, StartError, THREADS, interpreter::Search},
};

pub(super) use tls::secure;

/// What to say about a pool that was asked for `by` these words, where it does not do what its name says.
pub(super) fn remark(by: &str, pool: &str, app: bool) -> Option<String> {
    Some(match pool {
        _ if !app => format!("{by} {pool} changes nothing: Rust tasks run in this process, commands in their own"),
        "prefork" | "processes" | "threads" => return None,
        "gevent" | "eventlet" => format!("{by} {pool}: tasks run on threads; write async def for those that wait much"),
        "solo" => format!("{by} solo: tasks run in a process of their own all the same, as many as -c says"),
        _ => format!("{by} {pool} is not known here: tasks run in processes"),
    })
}

/// Flags of `celery worker` about its processes.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Python")]
pub(super) struct Flags {
    /// The interpreter the application is installed for; by default the active environment, .venv, uv, poetry, PATH
    #[arg(long, value_name = "PROGRAM")]
    python: Option<String>,
    /// Have as many processes as there is work for, within bounds, in the place of -c
    #[arg(long, value_name = "MAX,MIN")]
    pub(super) autoscale: Option<Bounds>,
    /// How many tasks a Python process runs before it is replaced
    #[arg(long, value_name = "N")]
    max_tasks_per_child: Option<u64>,
    /// How large a Python process may grow before it is replaced, in KiB
    #[arg(long, value_name = "KIB")]
    max_memory_per_child: Option<u64>,
}

impl Flags {
    /// The flags that are keys of the configuration.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static str, &Option<String>)> {
        [("--python", &self.python)].into_iter()
    }
}

/// An application that is loaded.
pub(super) struct Application {
    pub(super) executor: PythonExecutor,
    pub(super) report: AppReport,
    pub(super) interpreter: String,
}

/// Loads the application that `config` names.
pub(super) async fn load(
    config: &Config,
    app: &Sourced<String>,
    flags: &Flags,
    pool: Option<&str>,
    screen: &Screen,
) -> Result<Application, Failure> {
    let failed = |error: StartError| {
        let (mut lines, mut hint) = (Vec::new(), format!("{} doctor", program()));
        if let StartError::Load { traceback, .. } = &error {
            lines = traceback.trim_end().lines().map(str::to_owned).collect();
        }
        if matches!(error, StartError::NoInterpreter(_)) {
            "name one with --python".clone_into(&mut hint);
        }
        Failure::new(Exit::Usage, "cannot run the application", &error)
            .value_from(app.value.clone(), app.origin.to_string())
            .lines(lines)
            .hint(hint)
    };
    let search = Search {
        wanted: config.python.as_ref().map(|python| python.value.as_str()),
        env: &|name| std::env::var(name).ok(),
        directory: Path::new("."),
        ask: &ask,
    };
    let interpreter = search.find().map_err(|error| failed(error.into()))?;
    note(screen, &format!("python {interpreter}"));
    let shown = interpreter.to_string();
    let mut options = PythonOptions::new(app.value.clone(), interpreter);
    options.hostname.clone_from(&config.worker.name.value);
    // A plan that cannot be made is told of by the caller.
    let plan = config::plan(config).ok();
    let slots = plan.as_ref().map(|plan| super::devices::slots(plan, &super::devices::of(plan)));
    options.concurrency = slots.unwrap_or_else(|| config.worker.concurrency.resolve(config::cpus()));
    options.loglevel = level(&config.log.level);
    options.settings = config.celery.iter().filter_map(|(name, value)| Some((name.clone(), json(&value.value)?))).collect();
    options.env = env(config);
    // Where the application cannot reach the results by itself, states of its tasks' own go through the node.
    options.keeps_states = config.broker.as_ref().is_some_and(|url| url.kind == UrlKind::Embedded);
    let role = plan.as_ref().and_then(|plan| plan.executor.as_ref()).map(|executor| executor.value);
    options.threads = pool.map(|pool| THREADS.contains(&pool)).or(role.map(|role| role == Runs::Threads));
    let asks_itself = options.threads.is_none();
    let secs = |limit: &Option<Sourced<Duration>>| limit.as_ref().map(|limit| limit.value.as_secs_f64());
    options.time_limit = TimeLimit { hard_secs: secs(&config.worker.time_limit), soft_secs: secs(&config.worker.soft_time_limit) };
    options.max_tasks_per_child = flags.max_tasks_per_child;
    options.max_memory_per_child = flags.max_memory_per_child;
    if let (None, Some(bytes)) = (flags.max_memory_per_child, plan.as_ref().and_then(|plan| plan.memory.as_ref())) {
        // As a setting it is stronger than the application's own: what a role may take is the operator's affair.
        options.settings.push(("worker_max_memory_per_child".to_owned(), bytes.value.div_ceil(1024).into()));
    }
    let (executor, report) = PythonExecutor::start(options).await.map_err(failed)?;
    if let Some(remark) = Some(&report.pool).filter(|_| asks_itself).and_then(|pool| remark("worker_pool", pool, true)) {
        note(screen, &remark);
    }
    if !report.knows_backend {
        note(screen, "results are stored by the application's own backend, through its processes");
    }
    Ok(Application { executor, report, interpreter: shown })
}

/// Addresses that are stronger than the application's own, as Celery's own variables: so they reach its producer too, as they
/// do with `celery -b`.
fn env(config: &Config) -> Vec<(OsString, OsString)> {
    let known = |url: &Option<Sourced<Url>>| {
        let url = url.as_ref().filter(|url| url.origin.level() < Level::App)?;
        (url.kind != UrlKind::Embedded).then(|| OsString::from(url.expose()))
    };
    let pairs = [("CELERY_BROKER_URL", known(&config.broker)), ("CELERY_RESULT_BACKEND", known(&config.results))];
    pairs.into_iter().filter_map(|(name, url)| Some((name.into(), url?))).collect()
}

/// Python's number of a level.
fn level(name: &str) -> u8 {
    match name {
        "error" => 40,
        "warning" | "warn" => 30,
        "info" => 20,
        _ => 10,
    }
}

fn json(value: &umbel_proto::Value) -> Option<serde_json::Value> {
    serde_json::from_slice(&umbel_proto::codec::json::write(value)).ok()
}

/// What a program that manages environments answers.
fn ask(words: &[&str]) -> Option<String> {
    let (program, args) = words.split_first()?;
    let answer = Command::new(program).args(args).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// Transport options that are settings here.
const FLEET: [(&str, &str); 5] = [
    ("broker_transport_options", "visibility_timeout"),
    ("broker_transport_options", "global_keyprefix"),
    ("broker_transport_options", "priority_steps"),
    ("broker_transport_options", "sep"),
    ("result_backend_transport_options", "global_keyprefix"),
];

/// The application's settings as a level of the configuration: those that somebody has set.
pub(super) fn settings(report: &AppReport) -> Vec<(String, Raw)> {
    let mut settings: Vec<(String, Raw)> = report
        .configured
        .iter()
        .filter(|name| match name.as_str() {
            // Read task by task: what holds for Python's tasks is nothing to commands.
            "task_acks_late" | "task_time_limit" | "task_soft_time_limit" => false,
            "result_backend" => report.knows_backend,
            _ => true,
        })
        .filter_map(|name| Some((name.clone(), raw(report.setting(name)?))))
        .collect();
    // Celery's word for ever.
    if report.configured.iter().any(|name| name == "result_expires") && report.setting("result_expires").is_none() {
        settings.push(("result_expires".to_owned(), Raw::Int(0)));
    }
    let queues = report.setting("task_queues").and_then(serde_json::Value::as_array);
    let queues: Vec<Raw> =
        queues.into_iter().flatten().filter_map(|queue| Some(Raw::Text(queue.get("name")?.as_str()?.to_owned()))).collect();
    // What the whole fleet has to agree on.
    for (options, option) in FLEET {
        if let Some(value) = report.setting(options).and_then(|options| options.get(option)) {
            let value = match value {
                serde_json::Value::Array(items) => Raw::List(items.iter().map(|item| Raw::Text(item.to_string())).collect()),
                value => raw(value),
            };
            settings.push((format!("{options}.{option}"), value));
        }
    }
    if !queues.is_empty() {
        settings.push(("worker_queues".to_owned(), Raw::List(queues)));
    }
    settings
}

fn raw(value: &serde_json::Value) -> Raw {
    match value {
        serde_json::Value::Null => Raw::Text(String::new()),
        serde_json::Value::Bool(bool) => Raw::Bool(*bool),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(int) => Raw::Int(int),
            None => number.as_f64().filter(|float| float.fract() != 0.0).map_or(Raw::Text(number.to_string()), Raw::Float),
        },
        serde_json::Value::String(text) => Raw::Text(text.clone()),
        serde_json::Value::Array(items) => Raw::List(items.iter().map(raw).collect()),
        serde_json::Value::Object(map) => Raw::Map(map.iter().map(|(key, value)| (key.clone(), raw(value))).collect()),
    }
}
