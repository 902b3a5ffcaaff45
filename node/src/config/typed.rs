//! The configuration with types.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use indexmap::IndexMap;
use umbel_proto::Value;

use super::{
    Cluster, ConfigError, ConfigErrors, Origin, Sourced,
    kind::{Concurrency, Setting},
    merge::{Inputs, Resolved, merge},
    raw::Name,
    role::expand_name,
    secret::Secret,
    task::{TaskConfig, tasks},
    url::{Url, UrlKind},
};

/// Everything configured, each value with its origin.
#[derive(Debug, Clone)]
pub struct Config {
    /// `app`.
    pub app: Option<Sourced<String>>,
    /// `python`.
    pub python: Option<Sourced<String>>,
    /// `role`.
    pub role: Sourced<String>,
    /// `broker.url`; `None` when nobody said anything, which only `node dev` has an answer for.
    pub broker: Option<Sourced<Url>>,
    /// `broker.*` that only RabbitMQ has.
    pub amqp: Amqp,
    /// `results.url`; without one the broker's, if that can keep results.
    pub results: Option<Sourced<Url>>,
    /// `results.expires`; zero is for ever.
    pub results_expire: Sourced<Duration>,
    /// `broker.visibility_timeout`, `broker.global_keyprefix`, `results.global_keyprefix`.
    pub transport: Transport,
    /// `queues.default`.
    pub default_queue: Sourced<String>,
    /// `beat.queue`.
    pub beat_queue: Option<Sourced<String>>,
    /// `beat.scheduler`.
    pub beat_scheduler: Option<Sourced<String>>,
    /// `beat.enabled`.
    pub beat_enabled: Option<Sourced<bool>>,
    /// `worker.*`.
    pub worker: Worker,
    /// `roles.*`: those that are declared.
    pub roles: Vec<Role>,
    /// `routes`: pattern and target, in order.
    pub routes: Vec<(String, Sourced<Value>)>,
    /// `limits.*`, by task.
    pub limits: Vec<Limit>,
    /// `tasks.*`.
    pub tasks: Vec<TaskConfig>,
    /// `schedules.*`: each entry's name and keys, checked one by one; what they mean together is the scheduler's affair.
    pub schedules: IndexMap<String, IndexMap<String, Sourced<Setting>>>,
    /// `timezone`.
    pub timezone: Sourced<String>,
    /// `cluster.*` and `gossip.*`.
    pub cluster: Cluster,
    /// `http.*` and `dashboard.*`.
    pub http: Http,
    /// `data.dir`.
    pub data_dir: Sourced<PathBuf>,
    /// `drain.timeout`.
    pub drain_timeout: Sourced<Duration>,
    /// `log.*`.
    pub log: Log,
    /// `events.tasks`.
    pub task_events: Sourced<bool>,
    /// `events.sent`.
    pub sent_events: Sourced<bool>,
    /// `control.*`.
    pub control: Control,
    /// `[celery]`: settings for the Python application.
    pub celery: Vec<(String, Sourced<Value>)>,
    /// All values as they were found, for `config show` and [`super::diff`].
    pub resolved: Resolved,
}

/// What Celery calls transport options.
#[derive(Debug, Clone)]
pub struct Transport {
    /// How long Celery workers leave a message to the worker that took it.
    pub visibility_timeout: Sourced<Duration>,
    /// What stands before the broker's keys.
    pub broker_prefix: Option<Sourced<String>>,
    /// The steps of priority.
    pub priority_steps: Option<Sourced<Vec<String>>>,
    /// What stands between a queue's name and a step.
    pub separator: Option<Sourced<String>>,
    /// What stands before the keys of results.
    pub results_prefix: Option<Sourced<String>>,
}

/// `broker.*` that only RabbitMQ has.
#[derive(Debug, Clone)]
pub struct Amqp {
    /// The type of queues that are not there yet.
    pub queue_type: Sourced<String>,
    /// Their highest priority.
    pub queue_max_priority: Option<Sourced<i64>>,
    /// The type of the queues that delay messages.
    pub delayed_queue_type: Sourced<String>,
    /// How often both sides say that they are there.
    pub heartbeat: Sourced<Duration>,
}

/// `worker.*`.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The node's name, expanded.
    pub name: Sourced<String>,
    /// `-Q`.
    pub queues: Option<Sourced<Vec<String>>>,
    /// `-c`.
    pub concurrency: Sourced<Concurrency>,
    /// Messages taken ahead per slot.
    pub prefetch_multiplier: Sourced<i64>,
    /// The hard limit of tasks without one.
    pub time_limit: Option<Sourced<Duration>>,
    /// The soft limit of tasks without one.
    pub soft_time_limit: Option<Sourced<Duration>>,
    /// Whether tasks that do not say otherwise run again when their node dies.
    pub acks_late: Sourced<bool>,
    /// Deliveries without an ending before a message becomes a dead letter.
    pub max_deliveries: Sourced<i64>,
}

/// A declared role.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its queues.
    pub queues: Option<Sourced<Vec<String>>>,
    /// Its slots.
    pub concurrency: Option<Sourced<Concurrency>>,
    /// The devices of its slots.
    pub devices: Option<Sourced<Vec<String>>>,
    /// The executor whose tasks it runs: `prefork`, `threads` or `command`.
    pub executor: Option<Sourced<String>>,
    /// How many bytes a Python process may have.
    pub memory: Option<Sourced<u64>>,
    /// How much it gives way to other programs, 0 to 19.
    pub nice: Option<Sourced<i64>>,
}

/// How a task is limited.
#[derive(Debug, Clone)]
pub struct Limit {
    /// The task.
    pub task: String,
    /// The rate, such as `100/m`.
    pub rate: Option<Sourced<String>>,
    /// Counts calls with different keys apart.
    pub key: Option<Sourced<String>>,
    /// How many run at a time.
    pub concurrency: Option<u32>,
    /// For how long one keeps others of its key away.
    pub unique: Option<Duration>,
    /// Whether the rate is counted on each node.
    pub per_node: bool,
}

/// `http.*` and `dashboard.*`.
#[derive(Debug, Clone)]
pub struct Http {
    /// Where the node answers.
    pub listen: Sourced<SocketAddr>,
    /// Its token.
    pub token: Option<Sourced<Secret<String>>>,
    /// Where the dashboard answers, if elsewhere.
    pub dashboard_listen: Option<Sourced<SocketAddr>>,
    /// The dashboard's token, if another.
    pub dashboard_token: Option<Sourced<Secret<String>>>,
}

/// `control.*`.
#[derive(Debug, Clone)]
pub struct Control {
    /// Whether remote control is answered.
    pub enabled: Sourced<bool>,
    /// Which commands may change something; `None` is all of them.
    pub allow: Option<Sourced<Vec<String>>>,
}

/// `log.*`.
#[derive(Debug, Clone)]
pub struct Log {
    /// `error` to `trace`.
    pub level: Sourced<String>,
    /// `text` or `json`.
    pub format: Sourced<String>,
}

impl Config {
    /// The configuration that `inputs` make on a machine called `host`, and warnings to print once.
    ///
    /// # Errors
    /// All mistakes that were found.
    pub fn build(inputs: &Inputs<'_>, host: &str) -> Result<(Self, Vec<String>), ConfigErrors> {
        let (resolved, warnings) = merge(inputs)?;
        let mut errors = Vec::new();
        let config = Self::typed(resolved, inputs, host, &mut errors);
        config.check(&mut errors);
        if errors.is_empty() { Ok((config, warnings)) } else { Err(ConfigErrors(errors)) }
    }

    fn typed(resolved: Resolved, inputs: &Inputs<'_>, host: &str, errors: &mut Vec<ConfigError>) -> Self {
        let broker: Option<Sourced<Url>> = resolved.get(&Name::plain("broker.url"));
        let results = resolved.get(&Name::plain("results.url")).or_else(|| {
            let keeps = broker.as_ref().filter(|url| matches!(url.kind, UrlKind::Embedded | UrlKind::Redis));
            keeps.map(|url| Sourced::new(url.value.clone(), Origin::Derived("broker.url")))
        });
        Self {
            app: resolved.get(&Name::plain("app")),
            python: resolved.get(&Name::plain("python")),
            role: resolved.must("role"),
            broker,
            amqp: Amqp {
                queue_type: resolved.must("broker.queue_type"),
                queue_max_priority: resolved.get(&Name::plain("broker.queue_max_priority")),
                delayed_queue_type: resolved.must("broker.delayed_queue_type"),
                heartbeat: resolved.must("broker.heartbeat"),
            },
            results,
            results_expire: resolved.must("results.expires"),
            transport: Transport {
                visibility_timeout: resolved.must("broker.visibility_timeout"),
                broker_prefix: resolved.get(&Name::plain("broker.global_keyprefix")),
                priority_steps: resolved.get(&Name::plain("broker.priority_steps")),
                separator: resolved.get(&Name::plain("broker.separator")),
                results_prefix: resolved.get(&Name::plain("results.global_keyprefix")),
            },
            default_queue: resolved.must("queues.default"),
            beat_queue: resolved.get(&Name::plain("beat.queue")),
            beat_scheduler: resolved.get(&Name::plain("beat.scheduler")),
            beat_enabled: resolved.get(&Name::plain("beat.enabled")),
            worker: worker(&resolved, host, errors),
            roles: below(&resolved, "roles", |name, at| Role {
                queues: resolved.get(&at("queues")),
                concurrency: resolved.get(&at("concurrency")),
                devices: resolved.get(&at("devices")),
                executor: resolved.get(&at("executor")),
                memory: resolved.get(&at("memory")),
                nice: resolved.get(&at("nice")),
                name,
            }),
            routes: flat(&resolved, "routes"),
            limits: below(&resolved, "limits", |task, at| Limit {
                rate: resolved.get(&at("rate")),
                key: resolved.get(&at("key")),
                concurrency: resolved.get::<i64>(&at("concurrency")).and_then(|found| u32::try_from(found.value).ok()),
                unique: resolved.get::<Duration>(&at("unique")).map(|found| found.value),
                per_node: resolved.get(&at("per_node")).is_some_and(|found| found.value),
                task,
            }),
            tasks: tasks(&resolved, errors),
            schedules: schedules(&resolved),
            timezone: resolved.must("timezone"),
            cluster: Cluster::of(&resolved),
            http: Http {
                listen: resolved.must("http.listen"),
                token: resolved.get(&Name::plain("http.token")),
                dashboard_listen: resolved.get(&Name::plain("dashboard.listen")),
                dashboard_token: resolved.get(&Name::plain("dashboard.token")),
            },
            data_dir: resolved.get(&Name::plain("data.dir")).unwrap_or_else(|| data_dir(inputs)),
            drain_timeout: resolved.must("drain.timeout"),
            log: Log { level: resolved.must("log.level"), format: resolved.must("log.format") },
            task_events: resolved.must("events.tasks"),
            sent_events: resolved.must("events.sent"),
            control: Control { enabled: resolved.must("control.enabled"), allow: resolved.get(&Name::plain("control.allow")) },
            celery: flat(&resolved, "celery"),
            resolved,
        }
    }

    /// What no key can tell by itself.
    fn check(&self, errors: &mut Vec<ConfigError>) {
        if let Err(error) = super::role::plan(self) {
            errors.push(error);
        }
        self.cluster.check(errors);
        if let Err(wrong) = crate::schedules::configured::configured(&self.schedules, &self.timezone) {
            errors.extend(wrong);
        }
        let http = &self.http;
        let dashboard = http.dashboard_listen.as_ref().map(|listen| ("dashboard", listen, http.dashboard_token.is_some()));
        for (table, listen, own_token) in [Some(("http", &http.listen, false)), dashboard].into_iter().flatten() {
            if !listen.ip().is_loopback() && !own_token && http.token.is_none() {
                let error = ConfigError::new(format!("{table}.listen"), listen.origin.clone(), "is open to the network without a token");
                let variable = format!("UMBEL_{}_TOKEN", table.to_uppercase());
                errors.push(
                    error.value(format!("\"{}\"", listen.value)).hint(format!("set {table}.token (or {variable}), or listen on 127.0.0.1")),
                );
            }
        }
        if let (Some(hard), Some(soft)) = (&self.worker.time_limit, &self.worker.soft_time_limit)
            && soft.value >= hard.value
        {
            let problem = "is not shorter than worker.time_limit, so it would never be used";
            errors.push(ConfigError::new("worker.soft_time_limit", soft.origin.clone(), problem));
        }
    }

    /// The directory of an embedded store: the address's path, else one in the data directory.
    pub fn embedded_dir(&self, url: &Url) -> PathBuf {
        match url.path.as_str() {
            "" | "/" => self.data_dir.join("store"),
            path => PathBuf::from(path),
        }
    }
}

fn worker(resolved: &Resolved, host: &str, errors: &mut Vec<ConfigError>) -> Worker {
    let pattern: Sourced<String> = resolved.must("worker.name");
    let name = match expand_name(&pattern, host) {
        Ok(name) => Sourced::new(name, pattern.origin),
        Err(problem) => {
            let error = ConfigError::new("worker.name", pattern.origin.clone(), problem).value(format!("{:?}", pattern.value));
            errors.push(error.hint("allowed: %h (host name), %n (its first part), %d (the rest), %%"));
            pattern
        }
    };
    Worker {
        name,
        queues: resolved.get(&Name::plain("worker.queues")),
        concurrency: resolved.must("worker.concurrency"),
        prefetch_multiplier: resolved.must("worker.prefetch_multiplier"),
        time_limit: resolved.get(&Name::plain("worker.time_limit")),
        soft_time_limit: resolved.get(&Name::plain("worker.soft_time_limit")),
        acks_late: resolved.must("worker.acks_late"),
        max_deliveries: resolved.must("worker.max_deliveries"),
    }
}

fn below<T>(resolved: &Resolved, table: &str, make: impl Fn(String, &dyn Fn(&str) -> Name) -> T) -> Vec<T> {
    let own = resolved.below(table).into_iter();
    own.map(|name| make(name.clone(), &|key| Name::new([table, &name, key]))).collect()
}

fn flat(resolved: &Resolved, table: &str) -> Vec<(String, Sourced<Value>)> {
    let own = resolved.below(table).into_iter();
    own.filter_map(|name| Some((name.clone(), resolved.get(&Name::new([table, &name]))?))).collect()
}

fn schedules(resolved: &Resolved) -> IndexMap<String, IndexMap<String, Sourced<Setting>>> {
    let mut schedules: IndexMap<String, IndexMap<String, Sourced<Setting>>> = IndexMap::new();
    for name in resolved.names() {
        if let [table, entry, key] = name.segments()
            && table == "schedules"
            && let Some(setting) = resolved.get(name)
        {
            schedules.entry(entry.clone()).or_default().insert(key.clone(), setting);
        }
    }
    schedules
}

/// systemd's state directory, the XDG data directory, or the one below the home directory; without a home, `/var/lib/umbel`.
fn data_dir(inputs: &Inputs<'_>) -> Sourced<PathBuf> {
    let env = |name: &str| inputs.env.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd may name several, separated by colons; the first is ours.
    let state = inputs.env.get("STATE_DIRECTORY").and_then(|dirs| dirs.split(':').next()).map(PathBuf::from);
    let (path, from) = if let Some(state) = state {
        (state, "STATE_DIRECTORY")
    } else if let Some(data) = env("XDG_DATA_HOME") {
        (data.join("umbel"), "XDG_DATA_HOME")
    } else if let Some(home) = env("HOME") {
        (home.join(".local/share/umbel"), "HOME")
    } else {
        return Sourced::new(PathBuf::from("/var/lib/umbel"), Origin::BuiltIn);
    };
    Sourced::new(path, Origin::Derived(from))
}
