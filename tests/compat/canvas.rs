//! What workflows of Python tasks mean: the rules, and right where Celery itself hangs or is wrong.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use umbel_tests::servers::{rabbit::Vhost, redis::RedisServer};

use super::{VERSIONS, python};

fn command(program: &Path, broker: &str, server: &RedisServer) -> Command {
    let mut command = Command::new(program);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("BROKER", broker).env("BACKEND", server.url(1));
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder).stdin(Stdio::null());
    command
}

/// A node that runs the Python tasks.
struct Worker(Child);

impl Worker {
    fn start(version: &str, broker: &str, server: &RedisServer) -> Self {
        let mut command = match std::env::var("UMBEL_CANVAS_WORKER").as_deref() {
            // The yardstick, to try the rules on.
            Ok("celery") => {
                let mut command = command(&python(version), broker, server);
                command.args(["-m", "celery", "-A", "canvas_tasks", "worker", "-c", "2"]);
                command
            }
            _ => {
                let mut command = command(Path::new(env!("CARGO_BIN_EXE_node-under-test")), broker, server);
                command.args(["worker", "-A", "canvas_tasks", "-c", "2", "-n", "canvas@test", "--python"]).arg(python(version));
                command
            }
        };
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

/// Every case of a kind is right.
fn holds(prefix: &str) {
    for version in VERSIONS {
        let server = RedisServer::default();
        right(prefix, version, &server.url(0), &server);
    }
}

/// Every case of a kind is right where messages go through a broker and results are kept by `server`.
fn right(prefix: &str, version: &str, broker: &str, server: &RedisServer) {
    let _worker = Worker::start(version, broker, server);
    let mut client = command(&python(version), broker, server);
    client.args(["canvas_cases.py", prefix]);
    let output = client.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: std::collections::BTreeMap<String, Option<String>> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!told.is_empty());
    let wrong: Vec<String> = told.iter().filter_map(|(name, wrong)| wrong.as_ref().map(|wrong| format!("{name}: {wrong}"))).collect();
    assert!(wrong.is_empty(), "celery {version}: {} of {} are wrong\n{}", wrong.len(), told.len(), wrong.join("\n"));
}

/// The rules of canvas, which hold for Celery's worker as well.
#[test]
fn the_rules_hold() {
    holds("rule");
}

/// What errbacks see, where an ending is several steps.
#[test]
fn errbacks_find_failures_on_rabbitmq() {
    for version in VERSIONS {
        let (vhost, server) = (Vhost::new(), RedisServer::default());
        right("rule_20", version, &vhost.url(), &server);
    }
}

/// Where Celery's worker hangs, loses failures, or wedges.
#[test]
fn nothing_hangs_and_no_failure_is_lost() {
    holds("w_");
}

/// Where Celery is wrong inside the process of the task.
#[test]
fn tasks_retry_and_replace_as_they_say() {
    holds("p_");
}
