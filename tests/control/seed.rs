//! The section "Validating workers and queues" of the guide that the project was asked for from: its commands, word for word, with
//! processes in place of containers.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value as Json, json};
use umbel_tests::{
    program::{Call, Ran},
    servers::redis::RedisServer,
    wait::{soon, until, until_async},
};

use super::{VERSIONS, celery, python, variables};

/// A node as its users start it. Dropping it kills it.
pub(super) struct Worker(Child);

impl Worker {
    pub(super) fn start(server: &RedisServer, within: &Path, name: &str, queues: &str) -> Self {
        let call = Call::new(env!("CARGO_BIN_EXE_node-under-test"), "node").args(["worker", "-n", name, "-Q", queues, "-c", "2", "-E"]);
        let call = variables(server).into_iter().fold(call, |call, (variable, value)| call.env(variable, value));
        let mut command: Command = call.env("HOME", within).within(within).command();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Stops it in its tracks, and waits until it has stopped.
    fn stop(&self) {
        self.signal("STOP");
        until("it has stopped", || std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap().contains(") T ").then_some(()));
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program under the name `name`, on the fleet's broker.
async fn umbel(name: &str, server: &RedisServer, within: &Path, args: &[&str]) -> Ran {
    let call = Call::new(env!("CARGO_BIN_EXE_node-under-test"), name).args(args).within(within);
    let call = variables(server).into_iter().fold(call, |call, (variable, value)| call.env(variable, value)).env("HOME", within);
    soon("the program", tokio::task::spawn_blocking(|| call.run())).await.unwrap()
}

fn good(ran: &Ran, what: &str) {
    assert_eq!(ran.code, Some(0), "{what}: {}\n{}", ran.stdout, ran.stderr);
}

/// Two nodes with the queues of the guide, and the task that it sends.
struct Fleet {
    server: RedisServer,
    folder: tempfile::TempDir,
    workers: Vec<Worker>,
}

impl Fleet {
    async fn start() -> Self {
        let (server, folder) = (RedisServer::default(), tempfile::tempdir().unwrap());
        let tasks = "[tasks.\"proj.add\"]\ncommand = [\"echo\", \"3\"]\n\n[tasks.\"proj.wait\"]\ncommand = [\"sleep\", \"600\"]\n\n[http]\nlisten = \"127.0.0.1:0\"\n";
        std::fs::write(folder.path().join("umbel.toml"), tasks).unwrap();
        let workers = vec![
            Worker::start(&server, folder.path(), "platform@host1", "trinity.tasks,trinity.tasks.cpu,trinity.tasks.io"),
            Worker::start(&server, folder.path(), "atom@host1", "celery"),
        ];
        let fleet = Self { server, folder, workers };
        until_async("both listen", || async {
            let bound: Vec<String> = fleet.server.ask(&["SMEMBERS", "_kombu.binding.celery.pidbox"]);
            (bound.len() == 2).then_some(())
        })
        .await;
        fleet
    }
}

/// Goal: each command of the section succeeds with the real `celery` of each version, and shows what the guide says it shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guides_validation_works_with_the_real_celery() {
    let fleet = Fleet::start().await;
    let server = &fleet.server;
    for version in VERSIONS {
        let status = celery(version, server, &["status"]).await;
        good(&status, "status");
        assert!(status.stdout.contains("->  platform@host1: OK") && status.stdout.contains("->  atom@host1: OK"), "{}", status.stdout);
        assert!(status.stdout.contains("2 nodes online."), "{}", status.stdout);
        let queues = celery(version, server, &["inspect", "active_queues"]).await;
        good(&queues, "active_queues");
        for queue in ["trinity.tasks", "trinity.tasks.cpu", "trinity.tasks.io"] {
            assert!(queues.stdout.contains(&format!("'name': '{queue}'")), "{}", queues.stdout);
        }
        let id = python(version, server, "send.py", &json!(["proj.add", [1, 2]])).await.as_str().unwrap().to_owned();
        let result = celery(version, server, &["result", &id]).await;
        good(&result, "result");
        assert_eq!(result.stdout.trim(), "3");
        let query = celery(version, server, &["inspect", "query_task", &id]).await;
        good(&query, "query_task");
        assert!(query.stdout.contains("\"ready\"") && query.stdout.contains("\"SUCCESS\""), "{}", query.stdout);
        for command in ["reserved", "scheduled", "active", "registered", "stats", "report", "conf", "clock", "revoked", "ping", "memsample"]
        {
            let ran = celery(version, server, &["inspect", command]).await;
            good(&ran, command);
            assert!(ran.stdout.contains("2 nodes online."), "{command}: {}", ran.stdout);
        }
        let missing = celery(version, server, &["-b", &server.url(9), "status"]).await;
        assert_eq!(missing.code, Some(69), "{}", missing.stdout);
    }
}

/// Goal: the program itself speaks the same grammar, under its own name and as `celery`, to nodes and to Celery's workers, with
/// Celery's words and codes; its JSON is JSON; who should answer and does not is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_speaks_celerys_grammar() {
    let fleet = Fleet::start().await;
    let (server, within) = (&fleet.server, fleet.folder.path());
    for (name, app) in [("node", &[][..]), ("celery", &["-A", "config.celery"][..])] {
        let args = |rest: &[&'static str]| -> Vec<&str> { app.iter().copied().chain(rest.iter().copied()).collect() };
        let status = umbel(name, server, within, &args(&["status"])).await;
        good(&status, "status");
        assert!(status.stdout.contains("->  platform@host1: OK\n") && status.stdout.ends_with("\n2 nodes online.\n"), "{}", status.stdout);
        let queues = umbel(name, server, within, &args(&["inspect", "active_queues", "-d", "atom@host1"])).await;
        good(&queues, "active_queues");
        assert!(queues.stdout.starts_with("->  atom@host1: OK\n    * {'name': 'celery', 'exchange': {"), "{}", queues.stdout);
        assert!(queues.stdout.ends_with("\n1 node online.\n"), "{}", queues.stdout);
        for (command, json) in [("ping", json!({ "ok": "pong" })), ("reserved", json!([]))] {
            let ran = umbel(name, server, within, &args(&["inspect", command, "--json"])).await;
            good(&ran, command);
            let told: Json = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(told, json!({ "atom@host1": json, "platform@host1": json }));
        }
        let grown = umbel(name, server, within, &args(&["control", "pool_grow", "1", "-j", "-d", "atom@host1"])).await;
        good(&grown, "pool_grow");
        assert_eq!(serde_json::from_str::<Json>(&grown.stdout).unwrap(), json!([{ "atom@host1": { "ok": "pool will grow" } }]));
        let unknown = umbel(name, server, within, &args(&["inspect", "nonsense"])).await;
        assert_eq!(
            (unknown.code, unknown.stderr.contains("Command nonsense not recognized. Available inspect commands: active")),
            (Some(2), true)
        );
        let list = umbel(name, server, within, &args(&["control", "--list"])).await;
        assert!(list.stdout.contains("rate_limit <task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>"), "{}", list.stdout);
        let refused = umbel(name, server, within, &args(&["control", "rate_limit", "no.such", "1/s"])).await;
        assert!(refused.stdout.contains("->  atom@host1: ERROR\n        unknown task"), "{}", refused.stdout);
        assert_eq!(refused.code, Some(if name == "node" { 1 } else { 0 }));
    }
    let id = python("5.7", server, "send.py", &json!(["proj.add", [1, 2]])).await.as_str().unwrap().to_owned();
    until_async("it has ended", || async {
        let ran = umbel("node", server, within, &["inspect", "query_task", &id, "--json"]).await;
        ran.stdout.contains("SUCCESS").then_some(())
    })
    .await;
    // A stopped node still holds its lease for a moment, and its name is known to be missing.
    fleet.workers[1].stop();
    let ran = umbel("node", server, within, &["status", "-t", "0.5"]).await;
    fleet.workers[1].signal("CONT");
    assert!(ran.stdout.contains("->  platform@host1: OK") && !ran.stdout.contains("atom@host1: OK"), "{}", ran.stdout);
    assert!(ran.stdout.contains("atom@host1: NO REPLY") && ran.code == Some(6), "{:?} {} {}", ran.code, ran.stdout, ran.stderr);
}

/// Goal: without anybody to answer the words and the code are Celery's.
#[test]
fn nobody_answers_with_celerys_words_and_code() {
    let (server, folder_) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for args in [&["status"][..], &["inspect", "ping"][..], &["control", "heartbeat"][..]] {
        let ran = runtime.block_on(umbel("node", &server, folder_.path(), &[args, &["-t", "0.2"]].concat()));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(69), ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: No nodes replied within time constraint"), "{}", ran.stderr);
    }
}
