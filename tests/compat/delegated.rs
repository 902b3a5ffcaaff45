//! Applications whose results only Python can write: with their own backend or serializer, tasks, workflows and coroutines end as ever.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value as Json, json};
use umbel_tests::{
    python::{VERSIONS, program},
    servers::redis::RedisServer,
};

/// Ends the node with its test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Goal: values, failures, chains, chords, replacements and coroutines reach the client where the node writes no result. Method: results
/// in files, whose chords are polled for, and results of another serializer in Redis.
#[test]
fn results_that_only_python_can_write_arrive() {
    for version in VERSIONS {
        for (in_files, serializer) in [(true, "json"), (false, "msgpack")] {
            let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
            let backend = if in_files { format!("file://{}", home.path().display()) } else { server.url(1) };
            let command = |program: &Path| {
                let mut command = Command::new(program);
                command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONDONTWRITEBYTECODE", "1");
                command.env("BROKER", server.url(0)).env("BACKEND", &backend).env("SERIALIZER", serializer).stdin(Stdio::null());
                command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("compat"));
                command
            };
            let log = home.path().join("log");
            let output = File::create(&log).unwrap();
            let mut node = command(Path::new(env!("CARGO_BIN_EXE_node-under-test")));
            node.env("HOME", home.path()).env("VIRTUAL_ENV", program(version).parent().unwrap().parent().unwrap());
            node.args(["-A", "delegated", "-c", "2", "-n", "delegated@test", "--listen", "127.0.0.1:0", "--no-dotenv"]);
            let _node = Node(node.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap());
            let client = command(&program(version)).arg("delegated.py").output().unwrap();
            let told = String::from_utf8_lossy(&client.stdout).into_owned();
            let about = || {
                let said = String::from_utf8_lossy(&client.stderr).into_owned();
                format!("celery {version}, {serializer}: {said}\n{}", std::fs::read_to_string(&log).unwrap_or_default())
            };
            let told: Json = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}\n{}", about()));
            let bad = json!(["ValueError", "bad", "FAILURE"]);
            let expected = json!({
                "values": [3, bad],
                "workflows": [6, 10, [3, 7]],
                "coroutines": [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], true, bad, 2, "told", ["WorkerLostError", "CancelledError", "FAILURE"]],
            });
            assert_eq!(told, expected, "{}", about());
        }
    }
}
