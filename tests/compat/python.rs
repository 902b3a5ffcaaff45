//! A Celery application as it stands, run by `node -A`: what its client sees, with each supported version of Celery, and what
//! becomes of its processes.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value as Json, json};
use umbel_tests::{
    python::{VERSIONS, program},
    servers::redis::RedisServer,
    wait::{soon, until},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat")
}

/// `node -A shop` on a server of its own.
struct Shop {
    server: RedisServer,
    version: &'static str,
    node: Child,
    home: tempfile::TempDir,
}

impl Shop {
    fn open(version: &'static str, arguments: &[&str]) -> Self {
        let server = RedisServer::default();
        let home = tempfile::tempdir().unwrap();
        let node = spawn(&server, version, home.path(), arguments);
        let shop = Self { server, version, node, home };
        until("the node is ready", || shop.log().contains("ready.").then_some(()));
        shop
    }

    /// The same with Celery's own worker.
    fn with_celery(version: &'static str) -> Self {
        let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
        let mut worker = python(&server, version);
        worker.args(["-m", "celery", "-A", "shop", "worker", "-c", "2", "-l", "info", "-n", "shop@test"]).env("HOME", home.path());
        let log = File::create(home.path().join("log")).unwrap();
        let node = worker.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let shop = Self { server, version, node, home };
        until("the worker is ready", || shop.log().contains("ready.").then_some(()));
        shop
    }

    /// What the node has said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// What the shop's own client tells of a scenario.
    async fn client(&self, scenario: &[&str]) -> Json {
        let mut command = python(&self.server, self.version);
        command.arg("shop.py").args(scenario);
        let output = soon("the client", tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap();
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn scenario(&self, name: &str) -> Json {
        self.client(&[name]).await[name].take()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Celery's processes do not die with their worker by themselves.
        for child in children(self.node.id()) {
            let _ = Command::new("kill").args(["-KILL", &child]).stderr(Stdio::null()).status();
        }
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

fn children(pid: u32) -> Vec<String> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().map(str::to_owned).collect()
}

fn environment(command: &mut Command, server: &RedisServer) {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("BROKER", server.url(0)).env("BACKEND", server.url(1)).current_dir(folder()).stdin(Stdio::null());
}

fn python(server: &RedisServer, version: &str) -> Command {
    let mut command = Command::new(program(version));
    environment(&mut command, server);
    command
}

fn spawn(server: &RedisServer, version: &str, home: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
    environment(&mut command, server);
    let log = File::create(home.join("log")).unwrap();
    command.env("HOME", home).env("VIRTUAL_ENV", program(version).parent().unwrap().parent().unwrap());
    command.args(["-A", "shop", "-n", "shop@test", "--listen", "127.0.0.1:0", "--no-dotenv"]).args(arguments);
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Goal: values, workflows, requests, signals and handlers are Celery's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_runs_unchanged() {
    for version in VERSIONS {
        let shop = Shop::open(version, &["-c", "2"]);
        let mut told = shop.scenario("basics").await;
        let id = told["request_id"].take();
        let expected = json!({
            "id": id, "args": [1], "kwargs": { "k": [2] }, "retries": 0, "root": id, "parent": null, "routing_key": "platform",
            "priority": 0, "headers": { "x-shop": "yes" }, "timelimit": [20, 10], "hostname": "shop@test", "eager": false, "direct": false,
            "group": null,
        });
        assert_eq!(told["request"].take(), expected, "celery {version}");
        let signals = json!(["prerun", "before_start", "run", "on_success 7", "success 7", "after_return SUCCESS", "postrun 7 SUCCESS"]);
        assert_eq!(told["signals"].take(), signals, "celery {version}");
        let expected = json!({
            "value": 5, "failure": ["ValueError", "bad"], "state": "FAILURE", "traceback": true, "chain": 10,
            "group": [0, 2, 4, 6, 8], "chord": 20, "map": [3, 7], "spawned": 9, "request": null, "request_id": null, "signals": null,
        });
        assert_eq!(told, expected, "celery {version}");
    }
}

/// Goal: retries, refusals, states, time limits and deaths end as Celery's do, or better.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_end_as_they_should() {
    for version in VERSIONS {
        let shop = Shop::open(version, &["-c", "2"]);
        let mut told = shop.scenario("endings").await;
        for (how, words) in [("exit", "exitcode 3"), ("segfault", "signal 11 (SIGSEGV)"), ("kill", "signal 9 (SIGKILL)")] {
            let lost = told[how].take();
            assert_eq!(lost[0], "WorkerLostError", "celery {version}: {lost}");
            assert!(lost[1].as_str().unwrap().starts_with(&format!("Worker exited prematurely: {words}")), "celery {version}: {lost}");
        }
        let expected = json!({
            "flaky": 2, "exhausted": ["KeyError", "'not yet'"], "swapped": [2, 1, "swapped"], "auto": ["OSError", "out of order"],
            "auto_runs": 3, "odd": ["ODD", { "percent": 40 }], "requeued": "redelivered", "rejected": "Reject", "soft": "told",
            "hard": ["TimeLimitExceeded", "TimeLimitExceeded(0.5,)"], "exit": null, "segfault": null, "kill": null, "after": 2,
        });
        assert_eq!(told, expected, "celery {version}");
        until("what a dying process wrote is in the log", || shop.log().contains("Segmentation fault").then_some(()));
    }
}

/// Goal: coroutines run side by side, each with its own request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coroutines_run_side_by_side() {
    let shop = Shop::open("5.7", &["-c", "1"]);
    assert_eq!(shop.scenario("coroutines").await, json!({ "values": true, "together": true, "own_requests": true }));
}

/// Goal: errbacks of both styles are called, and one that raises harms nobody (case 17 of the rules of canvas).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errbacks_of_both_styles_are_called() {
    for version in VERSIONS {
        let shop = Shop::open(version, &["-c", "2"]);
        let expected = json!({ "new": true, "old": true, "after": true, "kept": ["ValueError", "bad"] });
        assert_eq!(shop.scenario("errbacks").await, expected, "celery {version}");
    }
}

/// Goal: a task's place is taken by anything, once, and its links, its options and its place in a workflow go along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_replaced_by_anything() {
    for version in VERSIONS {
        let shop = Shop::open(version, &["-c", "2"]);
        let expected = json!({
            "p13": [["0", "1"], "PENDING"], "p14": 6, "p14 links": ["6"], "task": 42, "chain": 6, "group": [3, 7], "chord": 10,
            "map": [1, 2, 3], "chain to group": [4, 5], "empty group": [], "again": 42, "failure": ["ValueError", "bad"],
            "in a chain": 11, "in a header": [[4, 5], 2],
        });
        assert_eq!(shop.scenario("replacing").await, expected, "celery {version}");
    }
}

/// Goal: the hooks of a task's own class of requests, and those who listen to the signal of failures, hear what they hear of Celery's
/// worker, of limits and deaths as well. Method: the same application with both workers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_classes_of_requests_are_told() {
    for version in VERSIONS {
        let node = Shop::open(version, &["-c", "2"]);
        let celery = Shop::with_celery(version);
        let (told, expected) = tokio::join!(node.scenario("hooks"), celery.scenario("hooks"));
        assert_eq!(told, expected, "celery {version}, the node's first\n{}\n{}", node.log(), celery.log());
        assert_eq!(told.as_array().unwrap().len(), 14, "{told}");
    }
}
