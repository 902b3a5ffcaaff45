//! Applications whose results only Python can write: with their own backend or serializer, tasks, workflows and coroutines end as ever.

use serde_json::json;
use umbel_tests::{python::VERSIONS, servers::redis::RedisServer};

use super::told;

/// Goal: values, failures, chains, chords, replacements and coroutines reach the client where the node writes no result, and so do ends
/// that no process tells of, also where they cannot be stored for a while; who listens to revocations hears of each once. Method: results in files, whose chords are polled for, and
/// results of another serializer in Redis; and once those that the node writes, of which only the revocations are told.
#[test]
fn results_that_only_python_can_write_arrive() {
    for version in VERSIONS {
        for (serializer, files) in [("json", true), ("msgpack", false), ("json", false)] {
            let (server, results, home) = (RedisServer::default(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let backend = if files { format!("file://{}", results.path().display()) } else { server.url(1) };
            let heard = home.path().join("heard").display().to_string();
            let variables = [("BROKER", &*server.url(0)), ("BACKEND", &backend), ("SERIALIZER", serializer), ("HEARD", &heard)];
            let (told, said) = told::by_node(version, "delegated", &variables);
            let bad = json!(["ValueError", "bad", "FAILURE"]);
            let expected = json!({
                "values": [3, bad],
                "workflows": [6, 10, [3, 7]],
                "coroutines": [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], true, bad, 2, "told", ["WorkerLostError", "CancelledError", "FAILURE"]],
                "out_of_order": ["PENDING", ["TaskRevokedError", "expired", "REVOKED"], ["WorkerLostError", "Worker exited prematurely: signal 9 ", "FAILURE"]],
                "not_run": [
                    [
                        ["TaskRevokedError", "expired", "REVOKED"],
                        ["TaskRevokedError", "revoked", "REVOKED"],
                        ["TimeLimitExceeded", "TimeLimitExceeded", "FAILURE"],
                        ["TaskRevokedError", "terminated", "REVOKED"],
                        ["WorkerLostError", "Worker exited prematurely: signal 9 ", "FAILURE"],
                        ["NotRegistered", "'unknown'", "FAILURE"],
                        ["WorkerLostError"],
                        ["WorkerLostError", "Worker exited prematurely: signal 9 ", "FAILURE"],
                    ],
                    [[0, "False", "None", "True"], [1, "False", "None", "False"], [2, "True", "15", "False"]],
                ],
            });
            assert_eq!(told, expected, "{serializer}: {said}");
        }
    }
}
