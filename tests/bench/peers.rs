//! What others drain in the same run, on the same server: Celery's prefork pool and BullMQ. `tests/setup bench` installs them.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use umbel_tests::servers::redis::RedisServer;

/// How many tasks each drains: some seconds' worth.
const CELERY_TASKS: u64 = 3_000;
const BULL_JOBS: u64 = 20_000;

/// How long a peer may take for the whole.
const PATIENCE: Duration = Duration::from_secs(180);

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/peers")
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Warm shutdown first: a prefork pool leaves children behind otherwise.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// Tasks a second of `celery worker -P prefork -c 2`, late acknowledgement, results stored.
pub(crate) fn celery() -> f64 {
    let server = RedisServer::default();
    let python = top().join("target/celery-5.6/bin/python");
    assert!(python.is_file(), "{} is not there; try: tests/setup", python.display());
    let command = || {
        let mut command = Command::new(&python);
        command.env_clear().env("BROKER", server.url(0)).env("BACKEND", server.url(1)).env("PYTHONDONTWRITEBYTECODE", "1");
        command.current_dir(folder()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(command().args(["celery_app.py", &CELERY_TASKS.to_string()]).status().unwrap().success());
    let arguments = ["-m", "celery", "-A", "celery_app", "worker", "-P", "prefork", "-c", "2", "--without-gossip", "--without-mingle"];
    let _worker = Killed(command().args(arguments).spawn().unwrap());
    // Results in their database, the first of them being the start.
    let begun = Instant::now();
    let mut first = None;
    loop {
        let info: String = server.ask(&["INFO", "keyspace"]);
        let done = info.lines().find_map(|line| line.strip_prefix("db1:keys=")?.split(',').next()?.parse::<u64>().ok()).unwrap_or(0);
        if done > 0 && first.is_none() {
            first = Some((done, Instant::now()));
        }
        if let Some((already, since)) = first
            && done >= CELERY_TASKS
        {
            return (done - already) as f64 / since.elapsed().as_secs_f64();
        }
        assert!(begun.elapsed() < PATIENCE, "celery has done {done} of {CELERY_TASKS}");
        std::thread::sleep(Duration::from_millis(5)); // workload: looking more often would disturb what is measured
    }
}

/// Jobs a second of a BullMQ worker with a concurrency of 100.
pub(crate) fn bull() -> f64 {
    let server = RedisServer::default();
    let package = top().join("target/bullmq");
    assert!(package.join("node_modules/bullmq").is_dir(), "bullmq is not in {}; try: tests/setup bench", package.display());
    let output = Command::new("node")
        .arg(folder().join("bull.mjs"))
        .args([server.port().to_string(), BULL_JOBS.to_string()])
        .env("BULLMQ", package)
        .stdin(Stdio::null())
        .output()
        .expect("Node.js is installed; run tests/setup bench");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["per_s"].as_f64().unwrap()
}
