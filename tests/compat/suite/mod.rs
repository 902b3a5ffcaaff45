//! Celery's own integration suite, run against a program as its worker.
//!
//! The suite comes from Celery's source distribution, which `tests/setup` unpacks under `target/`. Its tests expect a worker in their
//! own process; `suite_plugin.py` gives them one outside. `plan.toml` says which tests count and why the others do not.
//!
//! The tests here run a part of it in each configuration. `make celery-suite` runs all of it: the same code with UMBEL_SUITE=whole.

mod plan;
mod session;

use std::{env, fmt::Write as _, path::PathBuf, sync::Arc};

use plan::{Configuration, Plan};
use session::{Outcome, Ran, Session};
use umbel_tests::servers::redis::RedisServer;

/// What the test command runs of it: workflows of every kind, replacements, errors that reach chords,
/// rejections, and what asks by remote control. Not those that race with their own client (`tests/README.md`), which a busy machine loses.
const PART: [&str; 9] = [
    "test_canvas.py::test_chain::test_chain_child_replaced*",
    "test_canvas.py::test_chain::test_chain_of_*",
    "test_canvas.py::test_chord::test_chain_chord_chain_chord",
    "test_canvas.py::test_chord::test_error_propagates_to_chord_from_*",
    "test_canvas.py::test_group::test_nested_group_*",
    "test_canvas.py::test_result_set::*",
    "test_group_chains.py::test_group_chains::test_pending_chord_keeps_header_errback*",
    "test_inspect.py::test_Inspect::test_scheduled",
    "test_tasks.py::test_tasks::test_reject_*",
];

/// The version whose suite is run unless another is asked for.
const NEWEST: &str = "5.7.0";

/// Settings of a run, from the environment.
struct Wish {
    /// UMBEL_SUITE=whole
    whole: bool,
    /// UMBEL_SUITE_SELECT=words: only tests whose id contains one of them.
    select: Vec<String>,
    /// UMBEL_SUITE_SHARDS=n: so many workers, brokers and pytest processes side by side.
    shards: usize,
    /// UMBEL_SUITE_WORKER=celery: Celery's own worker, as a yardstick.
    worker: String,
    /// UMBEL_SUITE_CELERY=version
    celery: String,
}

impl Wish {
    fn read() -> Self {
        let read = |name: &str| env::var(format!("UMBEL_SUITE{name}")).unwrap_or_default();
        let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        let select: Vec<String> = read("_SELECT").split_whitespace().map(str::to_owned).collect();
        Self {
            whole: read("") == "whole" || !select.is_empty(),
            select,
            shards: or(read("_SHARDS"), "2").parse().unwrap(),
            worker: or(read("_WORKER"), "node"),
            celery: or(read("_CELERY"), NEWEST),
        }
    }

    fn wants(&self, id: &str) -> bool {
        let selected = self.select.is_empty() || self.select.iter().any(|word| id.contains(word.as_str()));
        selected && (self.whole || PART.iter().any(|pattern| plan::means(pattern, id)))
    }
}

/// Where results and logs of a run go.
fn folder(wish: &Wish, configuration: Configuration) -> PathBuf {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let part = if wish.whole { "whole" } else { "part" };
    top.join(format!("target/celery-suite/{}-{}-{}-{part}", wish.worker, configuration.name(), wish.celery))
}

/// Runs what is wished for and fails with every test that did not pass.
fn run(configuration: Configuration) {
    let wish = Wish::read();
    let plan = Plan::read();
    let folder = folder(&wish, configuration);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let suite = session::Suite::installed(&wish.celery, plan.ignored().collect());
    let all = suite.collect(&folder);
    // The plan is written for this one; older ones have not all of its tests.
    if wish.celery == NEWEST {
        plan.check(&all);
    }
    let ids: Vec<String> = all.iter().filter(|id| plan.counts(id, configuration) && wish.wants(id)).cloned().collect();
    assert!(!ids.is_empty(), "no test was chosen");
    let suite = Arc::new(suite);
    let shards: Vec<_> = (0..wish.shards.min(ids.len()))
        .map(|shard| {
            let ids: Vec<String> = ids.iter().skip(shard).step_by(wish.shards).cloned().collect();
            let (suite, folder, worker) = (Arc::clone(&suite), folder.join(format!("shard-{shard}")), wish.worker.clone());
            std::thread::spawn(move || {
                std::fs::create_dir_all(&folder).unwrap();
                let redis = RedisServer::default();
                let vhost = configuration.vhost();
                let (broker, backend) = configuration.urls(&redis, vhost.as_ref());
                Session { suite: &suite, folder: &folder, worker: &worker, broker, backend, redis: redis.port() }.run(ids)
            })
        })
        .collect();
    let mut ran: Vec<Ran> = shards.into_iter().flat_map(|shard| shard.join().unwrap()).collect();
    ran.sort_by_key(|ran| all.iter().position(|id| *id == ran.id));
    verdict(&plan, configuration, &ran, &folder);
}

/// Writes a table, prints a line, and fails when a test has not passed.
fn verdict(plan: &Plan, configuration: Configuration, ran: &[Ran], folder: &std::path::Path) {
    let (mut passed, mut counted, mut table, mut missed) = (0, 0, String::new(), String::new());
    for ran in ran {
        let skipped = ran.outcome == Outcome::NotRun && plan.may_skip(&ran.why, configuration);
        counted += usize::from(!skipped);
        passed += usize::from(ran.outcome == Outcome::Passed);
        let row = format!("{}\t{:.1}\t{}\t{}\n", if skipped { "skipped" } else { ran.outcome.name() }, ran.seconds, ran.id, ran.why);
        table.push_str(&row);
        if !skipped && ran.outcome != Outcome::Passed {
            missed.push_str(&row);
        }
    }
    std::fs::write(folder.join("results.tsv"), table).unwrap();
    let mut line = String::new();
    write!(line, "celery's suite, {}: {passed} of {counted} passed, {} skipped by itself", configuration.name(), ran.len() - counted)
        .unwrap();
    println!("{line}");
    assert!(missed.is_empty(), "{line}\n{missed}see {}", folder.display());
}

/// Messages and results in Redis.
#[test]
fn redis_and_redis() {
    run(Configuration::Redis);
}

/// Messages in RabbitMQ, results in Redis.
#[test]
fn rabbitmq_and_redis() {
    run(Configuration::Amqp);
}

/// Messages in RabbitMQ, results as messages.
#[test]
fn rabbitmq_and_rpc() {
    run(Configuration::Rpc);
}
