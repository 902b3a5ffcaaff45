//! Tasks of a Celery application on a node with two processes, and the peers on the same server in the same run: Celery's own
//! worker (`-c 2`) and Dramatiq (`-p 2 -t 8`). What is counted are the results in the store.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use umbel::{
    brokers::redis::RedisBroker,
    redis::{RedisOptions, Target},
};
use umbel_tests::{
    conformance::making,
    python,
    servers::redis::RedisServer,
    wait::{until, until_async},
};

use crate::{call, print, tasks};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench")
}

/// The environment with Dramatiq, made when it is first wanted: no test needs it.
fn dramatiq() -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/dramatiq");
    let run =
        |program: &Path, arguments: &[&str]| assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program:?}");
    if !home.join("ready").is_file() {
        run(Path::new("python3"), &["-m", "venv", home.to_str().unwrap()]);
        run(&home.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", "dramatiq[redis]==2.2.*"]);
        fs::write(home.join("ready"), "").unwrap();
    }
    home.join("bin/python")
}

fn command(program: &Path, server: &RedisServer) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/tmp");
    command.env("BROKER", server.url(0)).env("BACKEND", server.url(1)).current_dir(folder());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A worker, killed with everything that came from it when it is dropped.
pub(crate) struct Worker(Child);

impl Worker {
    fn node(server: &RedisServer) -> Self {
        Self::node_with(server, 2, &[])
    }

    /// A node with so many slots, and with these variables.
    pub(crate) fn node_with(server: &RedisServer, slots: usize, variables: &[(&str, &OsStr)]) -> Self {
        let mut node = command(&std::env::current_exe().unwrap().with_file_name("node-under-test"), server);
        node.env("VIRTUAL_ENV", python::program("5.6").parent().unwrap().parent().unwrap());
        node.envs(variables.iter().copied()).args([
            "-A",
            "python_bench",
            "-c",
            &slots.to_string(),
            "-l",
            "warning",
            "--listen",
            "127.0.0.1:0",
            "--no-dotenv",
            "--prefetch-multiplier",
            "32",
        ]);
        Self(node.spawn().unwrap())
    }

    fn celery(server: &RedisServer) -> Self {
        let mut worker = command(&python::program("5.6"), server);
        worker.args(["-m", "celery", "-A", "python_bench", "worker", "-c", "2", "-l", "warning", "--without-gossip", "--without-mingle"]);
        Self(worker.spawn().unwrap())
    }

    fn dramatiq(server: &RedisServer) -> Self {
        let mut worker = command(&dramatiq(), server);
        worker.args(["-m", "dramatiq", "dramatiq_bench", "-p", "2", "-t", "8"]);
        Self(worker.spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Itself and everything that comes from it.
    pub(crate) fn family(&self) -> BTreeSet<u32> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                Some((pid, stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
            })
            .collect();
        let mut family = BTreeSet::from([self.0.id()]);
        while let Some((pid, _)) = parents.iter().find(|(pid, parent)| family.contains(parent) && !family.contains(pid)) {
            family.insert(*pid);
        }
        family
    }

    /// Processor time so far, in milliseconds.
    fn cpu_ms(&self) -> f64 {
        let ticks = |pid: u32| -> Option<f64> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
            Some(fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?)
        };
        self.family().into_iter().filter_map(ticks).sum::<f64>() * 10.0
    }

    /// Its share of the memory, in MiB.
    fn pss_mib(&self) -> f64 {
        let pss = |pid: u32| -> Option<f64> {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().trim_end_matches(" kB").parse().ok()
        };
        self.family().into_iter().filter_map(pss).sum::<f64>() / 1024.0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for pid in self.family() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        let _ = self.0.wait();
    }
}

pub(crate) async fn fill(server: &RedisServer, task: &str, count: usize) {
    let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    until_async("the broker is ready", || async { broker.ready().await.ok() }).await;
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(500) {
        making::publish(&broker, chunk.iter().map(|number| call("bench", task, *number)).collect()).await;
    }
}

pub(crate) fn results(server: &RedisServer) -> usize {
    let info: String = server.ask(&["INFO", "keyspace"]);
    let line = info.lines().find_map(|line| line.strip_prefix("db1:keys="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

fn server_cpu_ms(server: &RedisServer) -> f64 {
    let info: String = server.ask(&["INFO", "cpu"]);
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap();
    (value("used_cpu_user:") + value("used_cpu_sys:")) * 1000.0
}

/// Counts from the hundredth result to the last, so that nobody's start is part of the rate.
fn drain(server: &RedisServer, worker: &Worker, count: usize) -> Value {
    until("the first results", || (results(server) >= 100).then_some(()));
    let (begun, from) = (Instant::now(), results(server));
    let (before, server_before) = (worker.cpu_ms(), server_cpu_ms(server));
    while results(server) < count {
        assert!(begun.elapsed() < Duration::from_secs(300), "it stopped at {} of {count}", results(server));
        std::thread::sleep(Duration::from_millis(5)); // workload: looking more often would take the time that is measured
    }
    let (seconds, done) = (begun.elapsed().as_secs_f64(), (count - from) as f64);
    let (spent, server_spent) = (worker.cpu_ms() - before, server_cpu_ms(server) - server_before);
    json!({
        "per_s": (done / seconds).round(), "worker_cpu_ms": spent / done, "server_cpu_ms": server_spent / done,
        "pss_mib": worker.pss_mib().round(),
    })
}

/// All of it.
pub(crate) async fn run() {
    let count = tasks().min(50_000);
    let server = RedisServer::default();
    fill(&server, "tests.echo", count).await;
    let node = drain(&server, &Worker::node(&server), count);
    let server = RedisServer::default();
    fill(&server, "tests.echo", count / 10).await;
    let celery = drain(&server, &Worker::celery(&server), count / 10);
    let server = RedisServer::default();
    assert!(command(&dramatiq(), &server).args(["dramatiq_bench.py", &(count / 4).to_string()]).status().unwrap().success());
    let dramatiq = drain(&server, &Worker::dramatiq(&server), count / 4);
    let ratio = |peer: &Value| node["per_s"].as_f64().unwrap() / peer["per_s"].as_f64().unwrap();
    print(
        "python drain",
        json!({ "tasks": count, "to_celery": ratio(&celery), "to_dramatiq": ratio(&dramatiq), "node": node, "celery": celery, "dramatiq": dramatiq }),
    );
    let server = RedisServer::default();
    fill(&server, "tests.nap", count).await;
    print("python async sleepers of 10 ms", drain(&server, &Worker::node(&server), count));
    small().await;
}

/// The round trips of `client` with somebody who answers each message as it comes, without a look at it: what the client and the server
/// take by themselves.
fn floor(client: &mut Command, server: &RedisServer) -> Value {
    let mut connections = [0, 1].map(|db| redis::Client::open(server.url(db)).unwrap().get_connection().unwrap());
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    while client.try_wait().unwrap().is_none() {
        let [messages, results] = &mut connections;
        let Some((_, envelope)) = redis::cmd("BRPOP").arg("bench").arg(1).query::<Option<(String, Vec<u8>)>>(messages).unwrap() else {
            continue;
        };
        let envelope: Value = serde_json::from_slice(&envelope).unwrap();
        let id = envelope["headers"]["id"].as_str().unwrap();
        let record = json!({ "status": "SUCCESS", "result": 1, "traceback": null, "children": [], "task_id": id }).to_string();
        let key = format!("celery-task-meta-{id}");
        redis::pipe().cmd("SETEX").arg(&key).arg(86_400).arg(&record).cmd("PUBLISH").arg(&key).arg(&record).exec(results).unwrap();
    }
    serde_json::from_reader(client.stdout.take().unwrap()).unwrap()
}

/// Round trips, memory of an idle node, and how long it takes from nothing to the first result.
async fn small() {
    let server = RedisServer::default();
    fill(&server, "tests.echo", 1).await;
    let begun = Instant::now();
    let node = Worker::node(&server);
    until("the first result", || (results(&server) >= 1).then_some(()));
    let started = begun.elapsed().as_secs_f64();
    let output = command(&python::program("5.6"), &server).args(["python_bench.py", "1000"]).stdout(Stdio::piped()).output().unwrap();
    let trips: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bare_server = RedisServer::default();
    let bare = floor(command(&python::program("5.6"), &bare_server).args(["python_bench.py", "1000"]), &bare_server);
    let peer_server = RedisServer::default();
    let peer = Worker::celery(&peer_server);
    let output = command(&python::program("5.6"), &peer_server).args(["python_bench.py", "1000"]).stdout(Stdio::piped()).output().unwrap();
    let peer_trips: Value = serde_json::from_slice(&output.stdout).unwrap();
    print(
        "python small",
        json!({
            "start_to_first_result_s": started, "round_trip": trips, "celery_round_trip": peer_trips, "answered_at_once": bare, "idle_pss_mib": node.pss_mib().round(),
            "celery_idle_pss_mib": peer.pss_mib().round(),
        }),
    );
}
