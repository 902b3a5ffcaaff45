//! Benches: one JSON line for each figure, on stdout.
//!
//! `bench` runs all measures, `bench <name> …` the named ones. Only ratios within one run mean anything, so every measure runs
//! the limit it is compared with in the same run. `UMBEL_BENCH_TASKS` sets how many tasks (default 50,000),
//! `UMBEL_BENCH_SLOTS` and `UMBEL_BENCH_PREFETCH` what the node of `redis` may hold.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod amqp;
mod beat;
mod cluster;
mod control;
mod latency;
mod limits;
mod native;
mod peers;
mod process;
mod python;
mod redis;
mod store;

use serde_json::{Map, Value, json};
use umbel::{
    proto::{self, Invocation, TaskId, TaskName},
    scheduler::{Publish, Route},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The names of the measures.
const MEASURES: [&str; 17] = [
    "control",
    "events",
    "store",
    "native",
    "backlog",
    "latency",
    "workflows",
    "process",
    "million",
    "redis",
    "redis-latency",
    "redis-peers",
    "python",
    "python-limits",
    "amqp",
    "beat",
    "cluster",
];

/// The number that is set as `UMBEL_BENCH_<NAME>`.
fn number<N: std::str::FromStr>(name: &str, default: N) -> N {
    let name = format!("UMBEL_BENCH_{name}");
    std::env::var(&name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

/// How many tasks a measure runs.
fn tasks() -> usize {
    number("TASKS", 50_000)
}

/// The same number is always the same task: an id as long as those that clients make, and 300 bytes of arguments, as the peers are sent.
fn call(queue: &str, task: &str, number: usize) -> Publish {
    let id = TaskId::derive("bench", &number.to_string());
    let args = [proto::Value::from("x".repeat(300)), proto::Value::Int(number as i64)];
    let invocation = Invocation::new(TaskName::from(task), id, &args, &proto::Map::new()).unwrap();
    Publish { invocation, route: Route { queue: queue.into(), exchange: String::new(), routing_key: queue.to_owned() }, due: None }
}

/// One line.
fn print(measure: &str, figures: Value) {
    let mut line = Map::from_iter([("measure".to_owned(), json!(measure))]);
    if let Value::Object(figures) = figures {
        line.extend(figures);
    }
    println!("{}", Value::Object(line));
}

#[tokio::main]
async fn main() {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted = MEASURES.map(str::to_owned).to_vec();
    }
    for name in wanted {
        match name.as_str() {
            "control" => control::busy().await,
            "events" => control::events().await,
            "store" => store::run().await,
            "native" => native::run().await,
            "backlog" => store::backlog().await,
            "redis" => redis::run(false).await,
            // The same, with what others drain in the same run.
            "redis-peers" => redis::run(true).await,
            "beat" => beat::run().await,
            "cluster" => cluster::run_all(),
            "redis-latency" => latency::redis().await,
            "amqp" => amqp::run().await,
            "latency" => latency::run().await,
            "workflows" => latency::workflows().await,
            "process" => process::run(),
            "python" => python::run().await,
            "python-limits" => limits::run().await,
            "million" => process::million().await,
            other => panic!("there is no measure {other}; there are {MEASURES:?}"),
        }
    }
}
