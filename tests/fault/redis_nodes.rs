//! Nodes of a fleet that are killed while they hold tasks: on Redis here, on RabbitMQ in `amqp_nodes`.
//!
//! Each node is a process (`redis-node`) whose tasks write down when they start and end, one line with one system call. Judged
//! are that file and the results. `UMBEL_KILLS` sets how often (1 by default): each time one of three nodes is killed with
//! SIGKILL while all of them are busy, and another takes its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use umbel::{
    Signature,
    brokers::Backbone,
    client::{Client, KnownTasks},
    embedded::StoreOptions,
    redis::RedisOptions,
};
use umbel_tests::{
    servers::{endings::Endings, redis::RedisServer},
    wait::{until, until_async},
};

/// How long each task runs: long enough that a kill always hits some.
const NAP_MS: u64 = 400;

/// A node; killed with the test.
struct Process {
    child: Child,
    name: String,
}

impl Process {
    fn start(folder: &Path, urls: &[String; 2], number: usize) -> Self {
        let name = format!("node{number}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-node"));
        command.arg(folder).arg(&name).args(urls).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::options().create(true).append(true).open(folder.join("errors")).unwrap());
        Self { child: command.spawn().unwrap(), name }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the tasks wrote: for each id its starts, as node and time, and its ends.
#[derive(Default)]
struct Story {
    starts: BTreeMap<String, Vec<(String, u64)>>,
    ends: BTreeMap<String, usize>,
}

impl Story {
    fn read(folder: &Path) -> Self {
        let mut story = Self::default();
        for line in fs::read_to_string(folder.join("ledger")).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["start", node, id, at] => {
                    story.starts.entry(id.to_owned()).or_default().push((node.to_owned(), at.parse().unwrap()));
                }
                ["end", _, id, _] => *story.ends.entry(id.to_owned()).or_default() += 1,
                _ => panic!("no such line: {line}"),
            }
        }
        story
    }

    /// What `node` has started and not ended.
    fn running(&self, node: &str) -> BTreeSet<String> {
        let open = self.starts.iter().filter(|(id, starts)| {
            starts.last().is_some_and(|(by, _)| by == node) && self.ends.get(*id).copied().unwrap_or(0) < starts.len()
        });
        open.map(|(id, _)| id.clone()).collect()
    }
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Goal: what a killed node ran runs elsewhere within seconds, nothing is lost, and nothing is finished twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_nodes_tasks_run_elsewhere() {
    let server = RedisServer::default();
    kill_nodes([server.url(0), server.url(1)], &Endings::of(&server)).await;
    until("everything is acknowledged", || (server.ask::<String>(&["TYPE", "unacked"]) == "none").then_some(()));
}

/// Kills nodes that take from the first address and store at the second.
pub(super) async fn kill_nodes(urls: [String; 2], endings: &Endings) {
    let kills: usize = std::env::var("UMBEL_KILLS").map_or(1, |text| text.parse().expect("UMBEL_KILLS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let mut nodes: Vec<Process> = (0..3).map(|number| Process::start(folder.path(), &urls, number)).collect();
    let Backbone { broker, backend, ledger } =
        Backbone::open_with(&urls[0], Some(&urls[1]), StoreOptions::default(), RedisOptions::default()).unwrap();
    until_async("all nodes are there", || async { (broker.nodes().await.ok()??.len() == 3).then_some(()) }).await;
    let client = Client::new(broker.clone(), backend, ledger, std::sync::Arc::default(), KnownTasks::default());
    let mut ids = Vec::new();
    let mut waits = Vec::new();
    for round in 0..kills {
        let victim = round % 3;
        let name = nodes[victim].name.clone();
        // A machine that is busy with other things may be done with them before it looks.
        let mut busy = false;
        while !busy {
            let nap = Signature::new("nap").arg(NAP_MS as i64);
            let submit = || until_async("it is accepted", || async { client.submit(nap.clone()).await.ok() });
            let submitted = futures::future::join_all((0..60).map(|_| submit())).await;
            ids.extend(submitted.iter().map(|result| result.id().to_owned()));
            busy = until("the victim is busy", || {
                let story = Story::read(folder.path());
                let running = story.running(&name).len();
                (running > 1 || story.ends.len() == ids.len()).then_some(running > 1)
            });
        }
        nodes[victim].child.kill().unwrap();
        nodes[victim].child.wait().unwrap();
        let killed = now();
        let lost = Story::read(folder.path()).running(&name);
        nodes[victim] = Process::start(folder.path(), &urls, 3 + round);
        let starts = until("what it ran runs elsewhere", || {
            let story = Story::read(folder.path());
            let again = |id: &String| story.starts[id].iter().find(|(node, _)| *node != name).map(|(_, at)| *at);
            lost.iter().map(again).collect::<Option<Vec<u64>>>()
        });
        waits.extend(starts.into_iter().map(|at| at.saturating_sub(killed)));
        until_async("all nodes are there", || async { (broker.nodes().await.ok()??.len() == 3).then_some(()) }).await;
    }
    for id in &ids {
        let value = until_async("a task has ended", || async { client.result(id.as_str()).get::<i64>(Duration::from_secs(5)).await.ok() });
        assert_eq!(value.await, NAP_MS as i64, "{}", fs::read_to_string(folder.path().join("errors")).unwrap_or_default());
    }
    until_async("nothing is left", || async {
        broker.queues().await.ok()?.iter().all(|queue| queue.ready + queue.held + queue.scheduled == 0).then_some(())
    })
    .await;
    waits.sort_unstable();
    let again = Story::read(folder.path()).starts.values().filter(|starts| starts.len() > 1).count();
    println!(
        "{kills} kills, {} tasks, {} of them run by the killed: started elsewhere {} ms (median), {} ms (p99) after the kill; {again} ran twice",
        ids.len(),
        waits.len(),
        waits[waits.len() / 2],
        waits[(waits.len() - 1) * 99 / 100]
    );
    // A task may have run twice; that it ended is told once, by the run that still held its message.
    let never = ids.iter().filter(|id| endings.of_task(id) == 0).count();
    assert_eq!((never, endings.doubled()), (0, Vec::new()), "lost, or finished twice");
}
