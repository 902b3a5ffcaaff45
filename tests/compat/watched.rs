//! Sentry's and OpenTelemetry's integrations for Celery see on a node what they see in Celery's own worker.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value as Json;
use umbel_tests::servers::redis::RedisServer;

/// The environment that has them.
fn environment() -> PathBuf {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/celery-integrations");
    assert!(environment.join("ready").is_file(), "{} is not ready; try: tests/setup", environment.display());
    environment
}

fn command(program: &Path, server: &RedisServer, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("HOME", home).env("VIRTUAL_ENV", environment()).env("SEEN", home.join("seen"));
    command.env("BROKER", server.url(0)).env("BACKEND", server.url(1)).stdin(Stdio::null());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("compat"));
    command
}

/// Killed with everything that came from it.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

/// What is seen of the tasks of `watched.py` with a worker of this kind.
fn seen_with(start: impl Fn(&Path, &RedisServer, &Path) -> Command) -> Json {
    let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let python = environment().join("bin/python");
    let log = File::create(home.path().join("log")).unwrap();
    let mut worker = start(&python, &server, home.path());
    let _worker = Worker(worker.stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap());
    let output = command(&python, &server, home.path()).arg("watched.py").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let log = || std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(output.status.success(), "{said}\n{}", log());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}\n{}", log()))
}

/// Goal: errors, transactions and spans of the integrations, with their names, states, tags and parents, are the same on both. Method:
/// an application with both of them, whose ways out write to a file.
#[test]
fn sentry_and_opentelemetry_see_what_they_see_with_celery() {
    let (celery, node) = std::thread::scope(|scope| {
        let celery = scope.spawn(|| {
            seen_with(|python, server, home| {
                let mut worker = command(python, server, home);
                worker.args(["-m", "celery", "-A", "watched", "worker", "-c", "2", "-l", "warning"]);
                worker
            })
        });
        let node = seen_with(|_, server, home| {
            let mut node = command(Path::new(env!("CARGO_BIN_EXE_node-under-test")), server, home);
            node.args(["-A", "watched", "-c", "2", "--no-dotenv", "--listen", "127.0.0.1:0"]);
            node
        });
        (celery.join().unwrap(), node)
    });
    assert_eq!((&celery["event"], &celery["transaction"], &celery["ran"]), (&1.into(), &9.into(), &9.into()), "{celery}");
    let lines = |told: &Json| told["told"].as_array().unwrap().iter().map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(lines(&node), lines(&celery), "the node's first");
    assert_eq!(node, celery);
}
