//! Celery as the judge: what this project writes, every supported version of Celery reads.
//!
//! `tests/setup` makes an environment for each version. There is no broker: the messages are put, byte for byte as a Redis
//! broker would hold them, into the queue of kombu's in-memory transport, and a real worker takes and runs them.

mod amqp;
mod amqp_control;
mod beat;
mod canvas;
mod delegated;
mod deployed;
mod features;
mod fleet;
mod heard;
mod messages;
mod options;
mod python;
mod redis;
mod shop;
mod suite;
mod told;
mod watched;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use umbel_proto::{Envelope, TaskId};

/// The versions of Celery that are supported.
const VERSIONS: [&str; 2] = ["5.6", "5.7"];

/// The Python of the environment with that version.
fn python(version: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = top.join(format!("target/celery-{version}/bin/python"));
    assert!(python.is_file(), "{} is not there; try: tests/setup", python.display());
    python
}

/// Has Celery run `messages` and everything that follows from them; what each of `ids` saw, in that order.
fn run(version: &str, messages: &[Envelope], ids: &[&TaskId]) -> Vec<serde_json::Value> {
    run_lines(version, messages, ids).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// [`run`], where what was seen may be beyond JSON.
fn run_lines(version: &str, messages: &[Envelope], ids: &[&TaskId]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/celery_runs.py");
    let mut child = Command::new(python(version))
        .arg(script)
        .args(ids.iter().map(|id| id.as_str()))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for message in messages {
        lines.extend(message.to_kombu());
        lines.push(b'\n');
    }
    child.stdin.take().unwrap().write_all(&lines).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "celery {version}: {}\n{stderr}", output.status);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut told = stdout.lines().map(str::to_owned);
    let first = told.next().unwrap();
    assert!(first.contains(&format!("\"celery\": \"{version}.")), "{first}");
    told.collect()
}
