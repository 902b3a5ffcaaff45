//! Processes that are handed tasks ahead: those that have not begun are spared what happens to the one that has.

use std::{collections::BTreeMap, path::Path};

use umbel::{
    brokers::redis::RedisBroker,
    proto::{Invocation, Map, TaskId, TaskName, Value},
    redis::{RedisOptions, Target},
};
use umbel_tests::{
    conformance::making,
    servers::redis::RedisServer,
    wait::{until, until_async},
};

use super::python::{Logs, command, runs};

/// Publishes tasks by their names; the number of each is its argument and part of its id.
async fn publish(server: &RedisServer, tasks: &[&str]) {
    let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    until_async("the broker is ready", || async { broker.ready().await.ok() }).await;
    let message = |(number, task): (usize, &&str)| {
        let args = [Value::Int(i64::try_from(number).unwrap())];
        let mut message = making::message("celery", "");
        message.invocation =
            Invocation::new(TaskName::from(*task), TaskId::from(format!("t{number}").as_str()), &args, &Map::new()).unwrap();
        message
    };
    making::publish(&broker, tasks.iter().enumerate().map(message).collect()).await;
}

struct Node(std::process::Child);

impl Node {
    /// Room for many more tasks than it has processes.
    fn start(server: &RedisServer, home: &Path, acks: &str, all: usize) -> Self {
        let mut node = command(server, home, "only@test");
        Self(node.env("ACKS", acks).env("ALL", all.to_string()).args(["--prefetch-multiplier", "32"]).spawn().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(server: &RedisServer, number: usize) -> Option<String> {
    let stored: Option<String> = server.ask(&["GET", &format!("celery-task-meta-t{number}")]);
    let meta: serde_json::Value = serde_json::from_str(&stored?).unwrap();
    Some(meta["status"].as_str().unwrap().to_owned())
}

/// How often each task has run.
fn counts(home: &Path) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    runs(home).iter().for_each(|line| *counts.entry(line.parse().unwrap()).or_default() += 1);
    counts
}

/// Runs everything, and returns how each task ended and how often it ran.
async fn run(acks: &str, tasks: &[&str]) -> Vec<(String, usize)> {
    let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let _logs = Logs(home.path());
    publish(&server, tasks).await;
    let _node = Node::start(&server, home.path(), acks, tasks.len());
    let ended = (0..tasks.len()).map(|number| until("it has ended", || status(&server, number))).collect::<Vec<_>>();
    let runs = counts(home.path());
    ended.into_iter().enumerate().map(|(number, status)| (status, runs.get(&number).copied().unwrap_or(0))).collect()
}

/// Goal: a process that dies takes one task along, the one that had begun; what was handed to it behind that runs elsewhere, once.
/// Method: every thirtieth task kills its process.
#[tokio::test]
async fn a_process_that_dies_costs_one_task() {
    let tasks: Vec<&str> = (0..600).map(|number| if number % 30 == 29 { "deadly" } else { "short" }).collect();
    for (number, (status, runs)) in run("early", &tasks).await.into_iter().enumerate() {
        let expected = if tasks[number] == "deadly" { "FAILURE" } else { "SUCCESS" };
        assert_eq!((status.as_str(), runs), (expected, 1), "{number}");
    }
}

/// Goal: the same of tasks that are acknowledged late: those that have not begun are not counted as tried either. Method: a task that
/// dies each time is tried three times; one that had been behind it too often would end like it.
#[tokio::test]
async fn a_process_that_dies_counts_against_one_task() {
    let tasks: Vec<&str> = (0..300).map(|number| if number % 60 == 30 { "deadly" } else { "short" }).collect();
    let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let _logs = Logs(home.path());
    publish(&server, &tasks).await;
    let _node = Node::start(&server, home.path(), "late", tasks.len());
    for (number, task) in tasks.iter().enumerate().filter(|(_, task)| **task == "short") {
        assert_eq!(until("it has ended", || status(&server, number)), "SUCCESS", "{task} {number}");
    }
    until("the others have been given up", || {
        let runs = counts(home.path());
        (0..tasks.len()).filter(|number| tasks[*number] == "deadly").all(|number| runs.get(&number) == Some(&3)).then_some(())
    });
    for (number, count) in counts(home.path()) {
        assert_eq!(count, if tasks[number] == "deadly" { 3 } else { 1 }, "{number}");
    }
}

/// Goal: what a slot was handed behind a task that lasts does not wait for it. Method: that task ends only when all others have run.
#[tokio::test]
async fn nothing_waits_behind_a_long_task() {
    for acks in ["early", "late"] {
        let tasks: Vec<&str> = (0..400).map(|number| if number == 200 { "patient" } else { "short" }).collect();
        for (number, ended) in run(acks, &tasks).await.into_iter().enumerate() {
            assert_eq!(ended, ("SUCCESS".to_owned(), 1), "{number}, acknowledged {acks}");
        }
    }
}
