//! Time limits of Python tasks on a node with one slot: how late they come, and what a process that is killed costs its slot.
//!
//! Tasks write down where they are, each millisecond, into a file; the last line of one that is killed is the time of its death.

use std::{fs, process::Command};

use serde_json::{Value, json};
use umbel_tests::{servers::redis::RedisServer, wait::until};

use crate::{
    print,
    python::{Worker, fill, results},
};

/// The limit of all tasks here, in milliseconds, as `python_bench.py` has it.
const LIMIT_MS: f64 = 200.0;

/// How many processes are killed.
fn kills() -> usize {
    std::env::var("UMBEL_BENCH_KILLS").map_or(500, |text| text.parse().expect("UMBEL_BENCH_KILLS is a number"))
}

/// Beginnings and last signs of life of each run, in milliseconds of one clock.
fn runs(path: &std::path::Path) -> Vec<(f64, f64)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let times = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(times).collect()
}

fn spread(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied();
    json!({ "p50": at(0.5), "p99": at(0.99), "max": values.last() })
}

/// Both kinds.
pub(crate) async fn run() {
    let count = kills();
    for (task, what) in [("tests.soft", "python soft limits"), ("tests.hard", "python hard limits")] {
        let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
        let path = home.path().join("runs");
        let worker = Worker::node_with(&server, 1, &[("RUNS", path.as_os_str())]);
        // The first ones start what stays: a process in reserve.
        fill(&server, task, 3).await;
        until("the first have ended", || (results(&server) >= 3).then_some(()));
        let before = (worker.family().len(), descriptors(worker.id()));
        fill(&server, task, count).await;
        // The first three have the ids of three of these, which run again.
        while results(&server) < count || runs(&path).len() < count + 3 {
            std::thread::sleep(std::time::Duration::from_millis(20)); // workload: looking more often would take the time that is measured
        }
        let settled = || (worker.family().len(), descriptors(worker.id()));
        until("the last killed one is replaced", || (settled().0 <= before.0).then_some(()));
        let after = settled();
        let runs = &runs(&path)[3..];
        let late = runs.iter().map(|(begun, last)| last - begun - LIMIT_MS).collect();
        let lost = runs.windows(2).map(|pair| pair[1].0 - pair[0].0 - LIMIT_MS).collect();
        print(
            what,
            json!({
                "runs": runs.len(), "late_ms": spread(late), "slot_ms_each_beyond_the_limit": spread(lost),
                "processes_before_and_after": [before.0, after.0], "descriptors_before_and_after": [before.1, after.1],
                "zombies": zombies(),
            }),
        );
    }
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Processes that nobody has waited for, on the whole machine.
fn zombies() -> usize {
    let output = Command::new("ps").args(["-eo", "stat="]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with('Z')).count()
}
