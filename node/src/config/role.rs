//! From a role to queues and slots.

use umbel_proto::QueueName;
use umbel_scheduler::autoscale::Bounds;

use super::{Config, ConfigError, Origin, Sourced, kind::Concurrency, raw::Name, suggest::closest};

/// What a node does.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The queues it takes from; empty when it runs no tasks.
    pub queues: Vec<QueueName>,
    /// How many tasks run at a time.
    pub concurrency: Sourced<Concurrency>,
    /// In its place: as many as there is work for, within bounds.
    pub autoscale: Option<Bounds>,
    /// The devices that its slots get, by name; `auto` stands for those that are found.
    pub devices: Option<Sourced<Vec<String>>>,
    /// The one executor whose tasks it runs; `None` is for all of them.
    pub executor: Option<Sourced<Runs>>,
    /// How large a Python process may grow before it is replaced, in bytes.
    pub memory: Option<Sourced<u64>>,
    /// How much the process gives way to others, 0 to 19.
    pub nice: Option<Sourced<i64>>,
    /// Whether it may send scheduled tasks.
    pub beat: bool,
    /// Whether it answers for the whole cluster: dashboard, cluster-wide metrics.
    pub dashboard: bool,
}

/// The executor of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// The application's tasks, in processes of their own.
    Prefork,
    /// The application's tasks, on threads of one process.
    Threads,
    /// Configured commands.
    Command,
}

impl Plan {
    /// Has it take from these queues as well, each once.
    pub fn take_from(&mut self, queues: &[String]) {
        for queue in queues.iter().map(QueueName::from) {
            if !self.queues.contains(&queue) {
                self.queues.push(queue);
            }
        }
    }

    /// Whether the role runs tasks of a Python application.
    pub fn runs_python(&self) -> bool {
        self.executor.as_ref().is_none_or(|executor| executor.value != Runs::Command)
    }

    /// Whether it runs configured commands.
    pub fn runs_commands(&self) -> bool {
        self.executor.as_ref().is_none_or(|executor| executor.value == Runs::Command)
    }
}

/// The roles that need no declaration.
pub const ROLES: &[&str] = &["all", "cpu", "io", "gpu", "beat", "dashboard"];

/// In the place of devices: those that are found.
pub const AUTO: &str = "auto";

/// In the place of devices: none.
pub const NONE: &str = "none";

/// What the configured role means.
///
/// * `worker.queues` (`-Q`) names the queues whatever the role, as in Celery.
/// * `all` takes from the default queue and those of cpu, io and beat, as far as somebody declared them: a queue that
///   nobody asked for would show up in every `inspect active_queues` of a plain Celery shop. Queues of roles of the user's
///   own are left to those roles: work for a machine with a GPU is of no use elsewhere.
/// * `cpu`, `io` and `gpu` take from their declared queues, else from the default queue's name with `.cpu`, `.io` or `.gpu` behind it.
/// * A role with an `executor` runs the tasks of that one alone; what Umbel itself defines runs everywhere.
/// * `gpu` gives each slot one of the devices that are found, and another role of those it names.
/// * A role's own concurrency is stronger than the worker's unless that was given at a stronger level: `-c 2` on the
///   command line beats `roles.io.concurrency = 32` in the file.
///
/// # Errors
/// When the role is not declared, or declares no queues.
pub fn plan(config: &Config) -> Result<Plan, ConfigError> {
    let role = config.role.value.as_str();
    let declared = config.roles.iter().find(|declared| declared.name == role);
    let default = &config.default_queue.value;
    let queues = match role {
        "all" => {
            let own = |name: &str| config.roles.iter().find(|role| role.name == name).and_then(|role| role.queues.clone());
            let declared = [own("cpu"), own("io")].into_iter().flatten().flat_map(|queues| queues.value);
            let beat = config.beat_queue.iter().map(|queue| queue.value.clone());
            [default.clone()].into_iter().chain(declared).chain(beat).collect()
        }
        "beat" | "dashboard" => Vec::new(),
        _ => match declared.and_then(|declared| declared.queues.clone()) {
            Some(queues) => queues.value,
            None if matches!(role, "cpu" | "io" | "gpu") => vec![format!("{default}.{role}")],
            None if declared.is_some() => {
                let name = Name::new(["roles", role, "queues"]).to_string();
                let error = ConfigError::new(name, config.role.origin.clone(), "is missing, so the role has nothing to take");
                return Err(error.hint(format!("add: queues = [\"{role}\"]")));
            }
            None => return Err(unknown(config)),
        },
    };
    let queues = match &config.worker.queues {
        Some(named) if !matches!(role, "beat" | "dashboard") => named.value.clone(),
        _ => queues,
    };
    let mut plan = Plan {
        queues: Vec::new(),
        concurrency: config.worker.concurrency.clone(),
        autoscale: None,
        devices: declared.and_then(|declared| declared.devices.clone()).or_else(|| (role == "gpu").then(found)),
        executor: declared.and_then(|declared| declared.executor.as_ref()).map(executor),
        memory: declared.and_then(|declared| declared.memory.clone()),
        nice: declared.and_then(|declared| declared.nice.clone()),
        beat: config.beat_enabled.as_ref().map_or(matches!(role, "all" | "beat"), |enabled| enabled.value),
        dashboard: matches!(role, "all" | "dashboard"),
    };
    plan.take_from(&queues);
    if let Some(own) = declared.and_then(|declared| declared.concurrency.clone())
        && own.origin.level() <= plan.concurrency.origin.level()
    {
        plan.concurrency = own;
    }
    Ok(plan)
}

fn executor(word: &Sourced<String>) -> Sourced<Runs> {
    let runs = match word.value.as_str() {
        "threads" => Runs::Threads,
        "command" => Runs::Command,
        _ => Runs::Prefork,
    };
    Sourced { value: runs, origin: word.origin.clone() }
}

fn found() -> Sourced<Vec<String>> {
    Sourced { value: vec![AUTO.to_owned()], origin: Origin::BuiltIn }
}

fn unknown(config: &Config) -> ConfigError {
    let names: Vec<&str> = ROLES.iter().copied().chain(config.roles.iter().map(|role| role.name.as_str())).collect();
    let near = closest(&config.role, names.iter().copied()).map(|near| format!("did you mean {near}? "));
    let (near, names, role) = (near.unwrap_or_default(), names.join(", "), &config.role.value);
    let hint = format!("{near}roles are {names}; declare your own under [roles.{role}]");
    ConfigError::new("role", config.role.origin.clone(), "is not a role").value(format!("{:?}", config.role.value)).hint(hint)
}

/// A node's name from its pattern: `%h` host name, `%n` its first part, `%d` the rest, `%%` a percent sign.
///
/// Without an `@` the text is the host part, as in `celery worker -n w1` (`celery/utils/nodenames.py`).
///
/// # Errors
/// The end of a sentence, when there is another letter behind a percent sign.
pub fn expand_name(pattern: &str, host: &str) -> Result<String, String> {
    let (first, domain) = host.split_once('.').unwrap_or((host, ""));
    let mut name = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            name.push(c);
            continue;
        }
        match chars.next() {
            Some('h') => name.push_str(host),
            Some('n') => name.push_str(first),
            Some('d') => name.push_str(domain),
            Some('%') => name.push('%'),
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(format!("has %{shown} in it, which stands for nothing"));
            }
        }
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("has a space or control character in it".to_owned());
    }
    Ok(match name.split_once('@') {
        None => format!("celery@{name}"),
        Some(("", host)) => format!("celery@{host}"),
        Some((own, "")) => format!("{own}@{host}"),
        Some(_) => name,
    })
}
