//! One run of pytest with one worker, and what came of each test.

use std::{
    collections::HashMap,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use umbel_tests::wait::until;

/// Seconds a single test may take. The slowest waits seven times for twenty seconds that nothing happens.
const TEST_SECONDS: u64 = 240;

/// How long nothing may be told before pytest counts as stuck.
const SILENCE: Duration = Duration::from_secs(TEST_SECONDS * 2 + 120);

/// An installed version of Celery with its suite.
pub(super) struct Suite {
    environment: PathBuf,
    celery: String,
    /// Options for every call of pytest.
    options: Vec<String>,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// The suite itself skipped it, or expected it to fail.
    NotRun,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotRun => "not run",
        }
    }
}

/// What came of a test.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    pub(super) id: String,
    pub(super) outcome: Outcome,
    pub(super) seconds: f64,
    pub(super) why: String,
}

/// What a run of pytest needs.
pub(super) struct Session<'a> {
    pub(super) suite: &'a Suite,
    /// Its own, for logs and records.
    pub(super) folder: &'a Path,
    /// `node` or `celery`.
    pub(super) worker: &'a str,
    pub(super) broker: String,
    pub(super) backend: String,
    /// The port of the Redis server that the suite's tasks count in, whatever the broker.
    pub(super) redis: u16,
}

impl Suite {
    /// What `tests/setup` has installed.
    pub(super) fn installed(celery: &str, options: Vec<String>) -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let environment = top.join(format!("target/celery-suite-{celery}"));
        assert!(environment.join("ready").is_file(), "{} is not ready; try: tests/setup", environment.display());
        Self { environment, celery: celery.to_owned(), options }
    }

    fn python(&self) -> PathBuf {
        self.environment.join("bin/python")
    }

    /// The ids of all its tests, in their order.
    pub(super) fn collect(&self, folder: &Path) -> Vec<String> {
        let session = Session { suite: self, folder, worker: "none", broker: "memory://".into(), backend: "redis://".into(), redis: 0 };
        let mut command = session.pytest(&[]);
        let status = command.arg("--collect-only").status().unwrap();
        let records = records(folder);
        let collected = records.iter().find_map(|record| record["collected"].as_array());
        let collected = collected.unwrap_or_else(|| panic!("the suite cannot be collected: {status}, see {}", folder.display()));
        collected.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }
}

impl Session<'_> {
    /// Runs the tests, whatever happens to pytest on the way.
    pub(super) fn run(&self, mut ids: Vec<String>) -> Vec<Ran> {
        let mut all = Vec::new();
        while !ids.is_empty() {
            let mut pytest = self.pytest(&ids).process_group(0).spawn().unwrap();
            let left = self.follow(&mut pytest);
            let (ended, open) = ended(&records(self.folder));
            ids.retain(|id| !ended.contains_key(id) && Some(id) != open.as_ref());
            all.extend(ended.into_values());
            match open {
                Some(id) => all.push(Ran { id, outcome: Outcome::Failed, seconds: 0.0, why: format!("pytest was {left}") }),
                None if !ids.is_empty() => panic!("pytest was {left} and did not run {ids:?}; see {}", self.folder.display()),
                None => {}
            }
        }
        all
    }

    /// Waits for the end of pytest, or ends it when it tells nothing any more; how it was ended.
    fn follow(&self, pytest: &mut Child) -> String {
        let size = || fs::metadata(self.folder.join("records")).map_or(0, |file| file.len());
        let mut last = (size(), Instant::now());
        loop {
            // A look every now and then; what is waited for comes within minutes, not within the bound of one wait.
            let look = Instant::now();
            let status = until("a second passes or pytest ends", || match pytest.try_wait().unwrap() {
                Some(status) => Some(Some(status)),
                None => (look.elapsed() > Duration::from_secs(1)).then_some(None),
            });
            if last.0 != size() {
                last = (size(), Instant::now());
            }
            if let Some(status) = status {
                self.kill_worker();
                return format!("ended with {status}");
            }
            if last.1.elapsed() > SILENCE {
                signal(pytest.id());
                pytest.wait().unwrap();
                self.kill_worker();
                return "stuck and killed".to_owned();
            }
        }
    }

    /// Kills what pytest has left behind.
    fn kill_worker(&self) {
        let records = records(self.folder);
        if let Some(pid) = records.iter().rev().find_map(|record| record["worker"].as_u64()) {
            signal(u32::try_from(pid).unwrap());
        }
    }

    fn pytest(&self, ids: &[String]) -> Command {
        let session = json!({
            "worker": self.command(4), "solo": self.command(1), "hostname": HOSTNAME, "broker": self.broker, "backend": self.backend,
            "ids": ids, "seconds": TEST_SECONDS, "records": self.folder.join("records"), "log": self.folder.join("worker.log"),
        });
        let file = self.folder.join("session.json");
        fs::write(&file, session.to_string()).unwrap();
        let _ = fs::remove_file(self.folder.join("records"));
        let source = self.suite.environment.join("source");
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/suite");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut paths = vec![self.suite.environment.join("bin")];
        paths.extend(std::env::split_paths(&path));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("pytest.log")).unwrap();
        let mut command = Command::new(self.suite.python());
        command
            .args([
                "-m",
                "pytest",
                "-p",
                "suite_plugin",
                "-p",
                "celery.contrib.pytest",
                "-p",
                "no:cacheprovider",
                "-q",
                "--tb",
                "short",
                "t/integration",
            ])
            .args(&self.suite.options)
            .env_clear()
            .env("PATH", std::env::join_paths(paths).unwrap())
            .env("VIRTUAL_ENV", &self.suite.environment)
            .env("PYTHONPATH", std::env::join_paths([ours, source.clone()]).unwrap())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TEST_BROKER", &self.broker)
            .env("TEST_BACKEND", &self.backend)
            .env("REDIS_HOST", "127.0.0.1")
            .env("REDIS_PORT", self.redis.to_string())
            .env("SUITE", file)
            // 5.6's suite declares queues of its own, 5.7's has but one.
            .env("SUITE_CREATES_QUEUES", if self.suite.celery.starts_with("5.6") { "1" } else { "0" })
            .current_dir(source)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// The command line of the worker.
    fn command(&self, concurrency: usize) -> Vec<String> {
        let python = self.suite.python().display().to_string();
        let concurrency = concurrency.to_string();
        let words: &[&str] = match self.worker {
            "celery" => &[&python, "-m", "celery", "-A", "suite_app", "worker", "-c", &concurrency, "-n", HOSTNAME, "-l", "INFO"],
            "node" => {
                let node = env!("CARGO_BIN_EXE_node-under-test");
                &[node, "-A", "suite_app", "-b", &self.broker, "-c", &concurrency, "-n", HOSTNAME]
            }
            "none" => &[],
            other => panic!("UMBEL_SUITE_WORKER={other}: node and celery are known"),
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// The name of the worker, as its peers see it.
const HOSTNAME: &str = "suite@localhost";

/// Kills a process group.
fn signal(group: u32) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
}

/// What pytest has told so far.
fn records(folder: &Path) -> Vec<Json> {
    let text = fs::read_to_string(folder.join("records")).unwrap_or_default();
    // A line that is being written has no end yet.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The tests that have ended, and the one that has begun only.
fn ended(records: &[Json]) -> (HashMap<String, Ran>, Option<String>) {
    let mut ended = HashMap::new();
    let mut open = None;
    for record in records {
        if let Some(id) = record["begun"].as_str() {
            open = Some(id.to_owned());
        }
        if let Some(id) = record["ended"].as_str() {
            open = None;
            let outcome = match record["outcome"].as_str() {
                Some("passed") => Outcome::Passed,
                Some("skipped" | "expected to fail") => Outcome::NotRun,
                _ => Outcome::Failed,
            };
            let why = record["why"].as_str().unwrap_or_default().replace(['\n', '\t'], " ");
            let seconds = record["seconds"].as_f64().unwrap_or_default();
            ended.insert(id.to_owned(), Ran { id: id.to_owned(), outcome, seconds, why });
        }
    }
    (ended, open)
}
