//! What the node is and how it is doing: `stats`, `conf`, `report`, `registered`, `memsample`.

use std::time::Duration;

use ractor::rpc::CallResult;
use umbel_proto::{Map, Value, repr};
use umbel_scheduler::{Acknowledge, TaskSpec, autoscale::Bounds};

use super::{
    super::{
        report::{NodeReport, PoolReport},
        supervisor::SupervisorMsg,
    },
    Desk,
    values::{map, truth},
};
use crate::facts::Kind;

/// How long actors may take to report.
const PATIENCE: Duration = Duration::from_millis(950);
/// What `registered` shows of a task unless it is told otherwise.
const ITEMS: [&str; 3] = ["exchange", "routing_key", "rate_limit"];

impl Desk {
    pub(super) async fn node_report(&self) -> Option<NodeReport> {
        match self.supervisor.call(SupervisorMsg::Report, Some(PATIENCE)).await {
            Ok(CallResult::Success(report)) => Some(report),
            _ => None,
        }
    }

    pub(super) async fn stats(&self) -> Value {
        let shared = &self.shared;
        let report = self.node_report().await;
        let totals = shared.facts.counters().tasks().filter_map(|(name, counters)| {
            let count = counters.get(Kind::Started);
            (count > 0).then(|| Some((name?.to_string(), Value::from(count)))).flatten()
        });
        let total: Map = totals.collect();
        let mut stats = map([
            ("total", Value::Map(total)),
            ("pid", std::process::id().into()),
            ("clock", shared.telling.clock.now().to_string().into()),
            // Begun seconds: monitors take 0 for a worker that is not there.
            ("uptime", shared.telling.started.elapsed().as_secs().saturating_add(1).into()),
            ("pool", pool(report.as_ref())),
            ("broker", Value::Map(shared.telling.description.broker.clone())),
            ("prefetch_count", shared.credits.total().into()),
            ("rusage", rusage()),
        ]);
        if let (Value::Map(stats), Some(bounds)) = (&mut stats, *shared.autoscale.borrow()) {
            stats.insert("autoscaler".to_owned(), autoscaler(bounds, report.as_ref()));
        }
        stats
    }

    pub(super) fn conf(&self) -> Value {
        let shared = &self.shared;
        let mut conf = shared.telling.description.conf.clone();
        conf.entry("task_default_queue".to_owned()).or_insert_with(|| shared.settings.default_queue.as_str().into());
        conf.insert("worker_send_task_events".to_owned(), Value::Bool(*shared.telling.tasks.borrow()));
        Value::Map(conf)
    }

    /// For a report of a fault: what runs here, with which settings. No secrets.
    pub(super) fn report(&self) -> String {
        let shared = &self.shared;
        let mut text = format!(
            "\nsoftware -> {}umbel:{} ({} {})\nplatform -> system:{} arch:{}\n",
            shared.telling.description.software,
            env!("CARGO_PKG_VERSION"),
            shared.broker.kind(),
            shared.backend.kind(),
            std::env::consts::OS,
            std::env::consts::ARCH
        );
        let executors: Vec<&str> = shared.registry.executors().iter().map(|executor| executor.kind()).collect();
        text.push_str(&format!("executors -> {}\nsettings -> transport:{}\n\n", executors.join(" "), shared.broker.kind()));
        if let Value::Map(conf) = self.conf() {
            for (name, value) in conf {
                text.push_str(&format!("{name}: {}\n", repr::repr(&value)));
            }
        }
        text
    }

    pub(super) fn registered(&self, arguments: &Map) -> Value {
        let asked = super::values::texts(arguments.get("taskinfoitems"));
        let items: Vec<&str> = match asked.is_empty() {
            true => ITEMS.into(),
            false => asked.iter().map(String::as_str).filter(|item| !item.starts_with('_')).collect(),
        };
        let builtins = truth(arguments.get("builtins"));
        let tasks = self.shared.registry.all();
        let shown = tasks.iter().filter(|spec| builtins || !spec.name.as_str().starts_with("celery."));
        Value::List(shown.map(|spec| line(spec, &items).into()).collect())
    }
}

/// A task and some of its options.
fn line(spec: &TaskSpec, items: &[&str]) -> String {
    let fields: Vec<String> = items.iter().filter_map(|item| Some(format!("{item}={}", option(spec, item)?))).collect();
    match fields.is_empty() {
        true => spec.name.to_string(),
        false => format!("{} [{}]", spec.name, fields.join(" ")),
    }
}

/// An option by the name of Celery's attribute, as Python's `str` shows it.
fn option(spec: &TaskSpec, name: &str) -> Option<String> {
    let truth = |truth: bool| if truth { "True" } else { "False" }.to_owned();
    // Python shows whole floats with a point, and Celery's users write whole numbers.
    let number = |number: f64| number.to_string();
    match name {
        "name" => Some(spec.name.to_string()),
        "queue" => spec.queue.as_ref().map(ToString::to_string),
        "rate_limit" => spec.rate_limit.map(|rate| rate.to_string()),
        "max_retries" => spec.max_retries.map(|count| count.to_string()),
        "default_retry_delay" => Some(number(spec.retry_delay_secs)),
        "acks_late" => Some(truth(spec.acknowledge == Acknowledge::Late)),
        "acks_on_failure_or_timeout" => Some(truth(spec.acks_on_failure)),
        "ignore_result" => Some(truth(spec.ignore_result)),
        "store_errors_even_if_ignored" => Some(truth(spec.store_errors_even_if_ignored)),
        "track_started" => Some(truth(spec.track_started)),
        "time_limit" => spec.time_limit.hard_secs.map(number),
        "soft_time_limit" => spec.time_limit.soft_secs.map(number),
        _ => None,
    }
}

/// The pool that stands for all: the largest, as those that are asked about have the size that was asked for; Python's above all.
fn main_pool(report: Option<&NodeReport>) -> Option<&PoolReport> {
    let pools = report.into_iter().flat_map(|report| report.pools.iter().flatten());
    pools.rev().max_by_key(|pool| (pool.executor == "python", pool.slots))
}

/// The pools as Celery's `BasePool.info` has one.
fn pool(report: Option<&NodeReport>) -> Value {
    let pools: Vec<_> = report.into_iter().flat_map(|report| report.pools.iter().flatten()).collect();
    let main = main_pool(report);
    let kinds: Vec<&str> = pools.iter().map(|pool| pool.executor).collect();
    let processes = main.map(|pool| pool.processes.iter().map(|process| Value::from(*process)).collect()).unwrap_or_default();
    let slots = main.map_or(0, |pool| pool.slots);
    let waiting: usize = pools.iter().map(|pool| pool.waiting).sum();
    let running: usize = pools.iter().map(|pool| pool.running.len()).sum();
    let mut pool = map([
        ("implementation", format!("umbel:{}", kinds.join("+")).into()),
        ("max-concurrency", Value::Int(i64::try_from(slots).unwrap_or(i64::MAX))),
        ("processes", Value::List(processes)),
        ("max-tasks-per-child", "N/A".into()),
        ("put-guarded-by-semaphore", false.into()),
        ("timeouts", Value::List(vec![Value::Int(0), Value::Int(0)])),
        (
            "writes",
            map([
                ("total", Value::Int(i64::try_from(running + waiting).unwrap_or(i64::MAX))),
                ("avg", "0.00".into()),
                ("all", "".into()),
                ("raw", "".into()),
                ("strategy", "fair".into()),
                ("inqueues", map([("total", Value::Int(i64::try_from(waiting).unwrap_or(i64::MAX))), ("active", Value::Int(0))])),
            ]),
        ),
    ]);
    // Celery has no word for it: said only where there is something to say.
    let devices = pools.iter().map(|pool| &pool.devices).find(|devices| !devices.is_empty());
    if let (Value::Map(pool), Some(devices)) = (&mut pool, devices) {
        let of = |pool: &PoolReport| !pool.devices.is_empty();
        let devices = main.filter(|main| of(main)).map_or(devices, |main| &main.devices);
        pool.insert("devices".to_owned(), Value::List(devices.iter().map(|device| device.as_str().into()).collect()));
    }
    pool
}

/// As Celery's `Autoscaler.info`.
fn autoscaler(bounds: Bounds, report: Option<&NodeReport>) -> Value {
    let (slots, tasks) = main_pool(report).map_or((0, 0), |pool| (pool.slots, pool.running.len() + pool.waiting));
    let numbers = [("max", bounds.max), ("min", bounds.min), ("current", slots), ("qty", tasks)];
    map(numbers.map(|(name, number)| (name, Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))))
}

/// A file of `/proc/self`; empty where there is none.
fn proc(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default()
}

/// The number behind a name in `/proc/self/status`.
fn status(text: &str, name: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_start_matches(':').split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What the process has used, as Python's `getrusage`.
fn rusage() -> Value {
    let (stat, text) = (proc("stat"), proc("status"));
    // The name of the program may hold spaces and stands in parentheses; what follows it is numbered from 3.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<i64>().ok()).unwrap_or(0);
    // Linux counts in hundredths of a second wherever it is told to programs.
    let secs = |ticks: i64| Value::Float(ticks as f64 / 100.0);
    map([
        ("utime", secs(field(14))),
        ("stime", secs(field(15))),
        ("maxrss", status(&text, "VmHWM").into()),
        ("ixrss", 0.into()),
        ("idrss", 0.into()),
        ("isrss", 0.into()),
        ("minflt", field(10).into()),
        ("majflt", field(12).into()),
        ("nswap", 0.into()),
        ("inblock", 0.into()),
        ("oublock", 0.into()),
        ("msgsnd", 0.into()),
        ("msgrcv", 0.into()),
        ("nsignals", 0.into()),
        ("nvcsw", status(&text, "voluntary_ctxt_switches").into()),
        ("nivcsw", status(&text, "nonvoluntary_ctxt_switches").into()),
    ])
}

/// The memory of the process, for people.
pub(super) fn memory() -> Option<String> {
    let kilobytes = status(&proc("status"), "VmRSS");
    (kilobytes > 0).then(|| format!("{:.1}MB", kilobytes as f64 / 1024.0))
}

#[cfg(test)]
mod tests {
    use umbel_scheduler::rate_limit::Rate;

    use super::*;

    #[test]
    fn tasks_are_shown_with_the_options_asked_for() {
        let mut spec = TaskSpec::new("proj.add");
        assert_eq!(line(&spec, &ITEMS), "proj.add");
        spec.rate_limit = Rate::parse("10/m").unwrap();
        assert_eq!(line(&spec, &ITEMS), "proj.add [rate_limit=10/m]");
        let items = ["max_retries", "rate_limit", "acks_late", "no_such"];
        assert_eq!(line(&spec, &items), "proj.add [max_retries=3 rate_limit=10/m acks_late=True]");
    }

    #[test]
    fn the_process_is_measured() {
        assert!(memory().is_some());
        let Value::Map(usage) = rusage() else { panic!("a map") };
        assert!(usage["maxrss"].as_i64().is_some_and(|kilobytes| kilobytes > 1_000), "{usage:?}");
    }
}
