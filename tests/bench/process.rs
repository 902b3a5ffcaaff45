//! A node as a process: how long it takes to start and to answer, what it costs while idle, and with a million messages.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use umbel::{
    brokers::{Broker, embedded::EmbeddedBroker},
    embedded::{Store, StoreOptions},
    scheduler::Publish,
};
use umbel_tests::wait::until;

use crate::{call, print};

/// The program, built beside this one (`make bench` sees to it).
fn program() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("node-under-test");
    assert!(path.exists(), "{} is not built: run `make bench`", path.display());
    path
}

/// A node of its own folder; killed with the measure.
pub(crate) struct Process {
    child: Child,
    home: PathBuf,
}

impl Process {
    /// Starts it and waits until it says that it is ready; returns how long that took.
    pub(crate) fn start(home: &Path, args: &[&str], ready: &str) -> (Self, Duration) {
        let log = home.join("log");
        let begun = Instant::now();
        let mut command = Command::new(program());
        command.args(args).env_clear().env("HOME", home).current_dir(home).stdout(Stdio::null());
        let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let process = Self { child, home: home.to_owned() };
        loop {
            if std::fs::read_to_string(&log).unwrap().contains(ready) {
                return (process, begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "not ready: {}", std::fs::read_to_string(&log).unwrap());
            std::thread::yield_now();
        }
    }

    fn run(&self, args: &[&str]) -> Value {
        let output = Command::new(program()).args(args).env_clear().env("HOME", &self.home).current_dir(&self.home).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Resident memory in MB, as the kernel counts it.
    pub(crate) fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kb: f64 = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        (kb / 102.4).round() / 10.0
    }

    /// CPU used so far, in clock ticks (1/100 s).
    pub(crate) fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Start-up, `node status`, and ten idle seconds.
pub(crate) fn run() {
    let home = tempfile::tempdir().unwrap();
    let dev = ["dev", "--listen", "127.0.0.1:0"];
    let mut ready = Vec::new();
    for _ in 0..5 {
        let (process, took) = Process::start(home.path(), &dev, "ready in");
        ready.push(took.as_millis() as u64);
        drop(process);
    }
    let (process, _) = Process::start(home.path(), &dev, "ready in");
    let mut status = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        process.run(&["status", "-o", "json"]);
        status.push(begun.elapsed().as_millis() as u64);
    }
    let begun = (Instant::now(), process.ticks());
    until("ten idle seconds have passed", || (begun.0.elapsed() > Duration::from_secs(10)).then_some(()));
    let percent = (process.ticks() - begun.1) as f64 / begun.0.elapsed().as_secs_f64();
    ready.sort_unstable();
    status.sort_unstable();
    print(
        "process",
        json!({ "dev_ready_ms": ready, "status_ms": status, "idle_rss_mb": process.resident_mb(), "idle_cpu_percent": (percent * 100.0).round() / 100.0 }),
    );
}

/// A million waiting and a million scheduled messages: what they add to a node's memory, and how long it takes to start over
/// after `kill -9`.
pub(crate) async fn million() {
    const COUNT: usize = 1_000_000;
    const BATCH: usize = 5_000;
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let url = format!("umbel://{}", store.display());
    let worker = ["worker", "-b", &url, "--listen", "127.0.0.1:0", "-Q", "celery"];
    let (empty, _) = Process::start(home.path(), &worker, " ready.");
    let before = settled(&empty);
    drop(empty);
    let begun = Instant::now();
    {
        let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(Store::open(&store, StoreOptions::default()).unwrap()).unwrap());
        broker.pause(&"celery".into(), true).await.unwrap();
        let later = umbel::clock::now() + 24 * 60 * 60 * 1_000;
        for scheduled in [false, true] {
            for batch in 0..COUNT / BATCH {
                let make = |number| Publish { due: scheduled.then_some(later + number as i64), ..call("celery", "noop", number) };
                let messages: Vec<Publish> = (batch * BATCH..(batch + 1) * BATCH).map(make).collect();
                assert!(broker.publish(messages).await.iter().all(Result::is_ok));
            }
        }
    }
    let filled = begun.elapsed();
    let (mut process, started) = Process::start(home.path(), &worker, " ready.");
    let queue = process.run(&["-b", &url, "queues", "show", "celery", "-o", "json"]);
    assert_eq!((&queue["ready"], &queue["scheduled"]), (&json!(COUNT), &json!(COUNT)));
    let with = settled(&process);
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let (again, recovered) = Process::start(home.path(), &worker, " ready.");
    let queue = again.run(&["-b", &url, "queues", "show", "celery", "-o", "json"]);
    assert_eq!((&queue["ready"], &queue["scheduled"]), (&json!(COUNT), &json!(COUNT)));
    print(
        "million",
        json!({
            "waiting": COUNT, "scheduled": COUNT, "fill_s": filled.as_secs(), "rss_mb_empty": before, "rss_mb_full": with,
            "added_mb": ((with - before) * 10.0).round() / 10.0, "start_ms": started.as_millis() as u64,
            "start_after_kill_ms": recovered.as_millis() as u64, "store_mb": std::fs::metadata(&store).unwrap().len() >> 20,
        }),
    );
}

/// Resident memory when it has not changed for two seconds.
fn settled(process: &Process) -> f64 {
    let mut last = (Instant::now(), process.resident_mb());
    until("memory has settled", || {
        let now = process.resident_mb();
        if (now - last.1).abs() > 0.2 {
            last = (Instant::now(), now);
        }
        (last.0.elapsed() > Duration::from_secs(2)).then_some(last.1)
    })
}
