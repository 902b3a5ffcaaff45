//! The rarer features of Celery's applications: what `features.py` is told by a node is what it is told by Celery's own worker.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value as Json, json};
use umbel_tests::{
    python::{VERSIONS, program},
    servers::redis::RedisServer,
};

fn command(program: &Path, server: &RedisServer) -> Command {
    let mut command = Command::new(program);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("BROKER", server.url(0)).env("BACKEND", server.url(1)).current_dir(folder).stdin(Stdio::null());
    command
}

/// Ends the node with its test.
struct Node(std::process::Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Celery's worker of 5.7 tells. 5.6's tells the same, but nothing of a task that exits: its client waits for ever.
fn expected() -> Json {
    let stamps = json!([["who"], { "who": "me" }]);
    json!({
        "readiness": ["features@test"],
        "classes": ["called", [1, "own", true]],
        "annotations": [7, "all"],
        "aborts": ["begun", "aborted"],
        "acknowledgements": [["ValueError", "bad", "FAILURE"], ["run"], "alive", ["run", "run"]],
        "ignoring": [["KeyError", "'kept'", "FAILURE"], 6, 7, "PENDING"],
        "growing": 104,
        "serializers": [3, 6, 10],
        "extended": ["add", [1], { "b": 2 }, "features@test", 0, "celery", true],
        "stamping": [stamps, [stamps, stamps], stamps, stamps],
        "odd": [["UnpickleableExceptionWrapper", "Odd('1 and 2')", "FAILURE"], ["EncodeError", "FAILURE"], ["WorkerLostError", "FAILURE"]],
        "attempts": [3, 2],
        "composites": [[[0, 2], [4, 6]], [3, 7], [1, 5]],
        "values": [
            "Decimal", "datetime", "bytes", "dict", "list", "str", "int", "1.5", "2020-01-02T03:04:05+00:00", "bytes", { "a": 1 }, [1], "ü",
            "1180591620717411303424",
        ],
    })
}

/// Goal: who listens hears that the worker is ready; custom classes of tasks, annotations, abortable tasks, acknowledgements of failures and of dead processes, ignored results,
/// growing chords, serializers of the application's own, extended results, stamps, odd exceptions and values: as Celery has them.
#[test]
fn rarer_features_are_celerys() {
    for version in VERSIONS {
        let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
        let log = home.path().join("log");
        let output = File::create(&log).unwrap();
        let mut node = command(Path::new(env!("CARGO_BIN_EXE_node-under-test")), &server);
        node.env("HOME", home.path()).env("VIRTUAL_ENV", program(version).parent().unwrap().parent().unwrap());
        node.args(["-A", "features", "-c", "2", "-n", "features@test", "--listen", "127.0.0.1:0", "--no-dotenv"]);
        let _node = Node(node.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap());
        let client = command(&program(version), &server).arg("features.py").output().unwrap();
        let told = String::from_utf8_lossy(&client.stdout).into_owned();
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        let told: Json = serde_json::from_str(&told).unwrap_or_else(|error| panic!("celery {version}: {error}\n{told}\n{}", read()));
        assert_eq!(told, expected(), "celery {version}\n{}", read());
    }
}
