//! What the application says of itself once it is loaded: `bootstrap/report.py` is the other side.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use umbel_proto::{Millis, TaskName, TimeLimit};
use umbel_scheduler::{Acknowledge, TaskSpec, rate_limit::Rate};

/// A Celery application.
#[derive(Debug, Clone, Deserialize)]
pub struct AppReport {
    /// Python's version.
    pub python: String,
    /// Celery's version.
    pub celery: String,
    /// Whether results are the node's to store; otherwise the application's own backend has them.
    pub knows_backend: bool,
    /// Whether the application ends all of its tasks itself, for its backend's sake or its serializer's.
    pub ends_everything: bool,
    /// The tasks that it ends itself because they have a backend of their own.
    pub own_backends: Vec<TaskName>,
    /// Whether somebody listens to `task_revoked`.
    pub hears_revoked: bool,
    /// Queues that it has its workers take from whatever they are told (`worker_direct`, `celeryd_after_setup`).
    pub own_queues: Vec<String>,
    /// Celery's name of the pool that it asks for (`worker_pool`).
    pub pool: String,
    /// Whether something listens to `heartbeat_sent`.
    pub hears_heartbeats: bool,
    /// Whether it gets each of its processes ready (`worker_process_init`).
    pub prepares: bool,
    /// Whether it has the tables of django-celery-beat.
    pub tables: bool,
    /// Its tasks.
    pub tasks: Vec<AppTask>,
    /// The settings a node looks at, by Celery's names.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// Everything that is configured, for people; without secrets (`celery inspect conf`).
    pub conf: BTreeMap<String, serde_json::Value>,
    /// Those of the settings that are not Celery's built-in ones.
    pub configured: Vec<String>,
    /// `task_routes`: names, patterns between slashes, and where they lead.
    pub routes: Vec<(String, AppRoute)>,
    /// `beat_schedule`, with what `on_after_configure` and `on_after_finalize` have added.
    pub schedule: Vec<AppEntry>,
}

/// One task's options, after annotations.
#[derive(Debug, Clone, Deserialize)]
pub struct AppTask {
    /// Its name.
    pub name: String,
    /// The queue its calls go to, as the application routes them.
    pub queue: Option<String>,
    /// `priority`.
    pub priority: Option<u8>,
    /// Whether it is an `async def`.
    pub coroutine: bool,
    /// How many arguments it takes, if it may be an errback of the new style, which is called with `(request, exc, traceback)`.
    pub errback: Option<usize>,
    /// `expires`, in seconds.
    pub expires: Option<f64>,
    /// `max_retries`.
    pub max_retries: Option<u32>,
    /// `default_retry_delay`, in seconds.
    pub default_retry_delay: Option<f64>,
    /// `rate_limit`: `10/m`, or a number a second.
    pub rate_limit: Option<serde_json::Value>,
    /// `time_limit`, in seconds.
    pub time_limit: Option<f64>,
    /// `soft_time_limit`, in seconds.
    pub soft_time_limit: Option<f64>,
    /// `acks_late`.
    pub acks_late: Option<bool>,
    /// `acks_on_failure_or_timeout`.
    pub acks_on_failure_or_timeout: Option<bool>,
    /// `reject_on_worker_lost`.
    pub reject_on_worker_lost: Option<bool>,
    /// `ignore_result`.
    pub ignore_result: Option<bool>,
    /// `store_errors_even_if_ignored`.
    pub store_errors_even_if_ignored: Option<bool>,
    /// `track_started`.
    pub track_started: Option<bool>,
}

/// Where a rule of `task_routes` leads.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AppRoute {
    /// The queue.
    pub queue: Option<String>,
    /// The exchange.
    pub exchange: Option<String>,
    /// The routing key.
    pub routing_key: Option<String>,
    /// The priority.
    pub priority: Option<u8>,
}

/// One entry of the schedule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AppEntry {
    /// Its name.
    pub name: String,
    /// The task to send.
    pub task: String,
    /// When.
    pub schedule: AppSchedule,
    /// Positional arguments.
    pub args: Vec<serde_json::Value>,
    /// Keyword arguments.
    pub kwargs: serde_json::Map<String, serde_json::Value>,
    /// Options of `apply_async`.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// Whether intervals are counted from full minutes, hours, days.
    pub relative: bool,
}

/// A row of django-celery-beat that is on: `bootstrap/tables.py` is the other side.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AppRow {
    /// What an entry of `beat_schedule` says as well.
    #[serde(flatten)]
    pub entry: AppEntry,
    /// The time zone of its wall clock; `None` is the application's.
    pub timezone: Option<String>,
    /// Whether it is over once it has been sent.
    pub one_off: bool,
    /// `start_time`.
    pub starts: Option<Millis>,
    /// `expires`.
    pub ends: Option<Millis>,
    /// `last_run_at`.
    pub last: Option<Millis>,
    /// `total_run_count`.
    pub runs: u64,
    /// `date_changed`.
    pub changed: Option<Millis>,
}

/// When an entry is due.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AppSchedule {
    /// At a distance.
    Every {
        /// The distance.
        seconds: f64,
        /// Whether it is counted from full minutes, hours, days.
        relative: bool,
    },
    /// `crontab`, each field as it was written.
    Crontab {
        /// 0–59.
        minute: String,
        /// 0–23.
        hour: String,
        /// 0–6, Sunday is 0.
        day_of_week: String,
        /// 1–31.
        day_of_month: String,
        /// 1–12.
        month_of_year: String,
    },
    /// By the sun.
    Solar {
        /// Such as `sunrise`.
        event: String,
        /// Degrees north.
        lat: f64,
        /// Degrees east.
        lon: f64,
    },
    /// Once; of django-celery-beat.
    Clocked {
        /// When.
        at: Millis,
    },
    /// A class of the application's own.
    Other {
        /// Its `repr`.
        repr: String,
    },
}

/// Built-in tasks that the node runs itself: nothing of them is the application's.
const NATIVE: [&str; 6] = ["celery.accumulate", "celery.chain", "celery.chord", "celery.chord_unlock", "celery.chunks", "celery.group"];

/// Those of them that look at results, or make some: the application's where it ends everything.
const OF_RESULTS: [&str; 2] = ["celery.accumulate", "celery.chord_unlock"];

impl AppReport {
    /// The setting `name`, unless it is null.
    pub fn setting(&self, name: &str) -> Option<&serde_json::Value> {
        self.settings.get(name).filter(|value| !value.is_null())
    }

    /// The tasks that run in Python.
    pub fn specs(&self) -> impl Iterator<Item = (&AppTask, Arc<TaskSpec>)> {
        let runs = |name: &str| !NATIVE.contains(&name) || (self.ends_everything && OF_RESULTS.contains(&name));
        self.tasks.iter().filter(move |task| runs(&task.name)).map(|task| (task, Arc::new(task.spec())))
    }
}

impl AppTask {
    /// The options as decisions need them. Where Celery's default is to lose the task with its worker, so it is here: the
    /// application's word counts, and most say nothing because they rely on it.
    fn spec(&self) -> TaskSpec {
        let mut spec = TaskSpec::new(TaskName::from(&self.name));
        spec.queue = self.queue.as_ref().map(Into::into);
        spec.priority = self.priority;
        spec.expires_secs = self.expires;
        spec.own_types = true;
        spec.max_retries = self.max_retries;
        spec.retry_delay_secs = self.default_retry_delay.unwrap_or(spec.retry_delay_secs);
        spec.rate_limit = self.rate_limit.as_ref().and_then(rate);
        spec.time_limit = TimeLimit { hard_secs: self.time_limit, soft_secs: self.soft_time_limit };
        spec.acknowledge = if self.acks_late.unwrap_or(false) { Acknowledge::Late } else { Acknowledge::Early };
        spec.ignore_result = self.ignore_result.unwrap_or(false);
        spec.store_errors_even_if_ignored = self.store_errors_even_if_ignored.unwrap_or(false);
        spec.track_started = self.track_started.unwrap_or(false);
        spec.errback_arguments = self.errback;
        spec.acks_on_failure = self.acks_on_failure_or_timeout.unwrap_or(true);
        spec
    }
}

/// `"10/m"`, `"5"` or `5`.
fn rate(value: &serde_json::Value) -> Option<Rate> {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Rate::parse(&text).ok().flatten()
}
