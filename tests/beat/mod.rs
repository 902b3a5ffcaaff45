//! Beat on real nodes: processes that are killed, brokers that go away, and what their users see.

mod leaders;
mod sending;
mod tables;

use std::{
    path::Path,
    process::{Child, Stdio},
};

use serde_json::Value as Json;
use umbel::{proto::Millis, scheduler::beat::tick_id};
use umbel_tests::{program::Call, servers::redis::RedisServer};

fn node() -> Call {
    Call::new(env!("CARGO_BIN_EXE_node-under-test"), "node")
}

/// A process that is killed with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `node beat` on a broker, with the `umbel.toml` of a folder.
fn beat(folder: &Path, broker: &str, name: &str) -> Process {
    let log = std::fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log"))).unwrap();
    let args = ["-b", broker, "beat", "-n", name, "--listen", "127.0.0.1:0"];
    let mut command = node().args(args).env("HOME", folder).within(folder).command();
    Process(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// A message of beat as it lies in a queue.
struct Sent {
    id: String,
    /// When it was sent.
    at: Millis,
    headers: Json,
}

/// What lies in a queue, the oldest first.
fn sent(server: &RedisServer, queue: &str) -> Vec<Sent> {
    let messages: Vec<String> = server.ask(&["LRANGE", queue, "0", "-1"]);
    let read = |message: &String| {
        let envelope: Json = serde_json::from_str(message).unwrap();
        let headers = envelope["headers"].clone();
        Sent { id: headers["id"].as_str().unwrap().to_owned(), at: envelope["properties"]["umbel"]["at"].as_i64().unwrap(), headers }
    };
    messages.iter().rev().map(read).collect()
}

/// How far an entry has come: its due time, and how often it was sent.
fn mark(server: &RedisServer, name: &str) -> Option<(Millis, usize)> {
    let mark: Option<String> = server.ask(&["HGET", "umbel:beat:marks", name]);
    let words: Vec<String> = mark?.split(' ').map(str::to_owned).collect();
    Some((words[0].parse().ok()?, words[1].parse().ok()?))
}

/// The ids of the last `count` due times up to `last`, the oldest first.
fn ids(name: &str, last: Millis, every: Millis, count: usize) -> Vec<String> {
    (0..count as Millis).rev().map(|back| tick_id(name, last - back * every).to_string()).collect()
}
