//! Applications whose results only Python can write: with their own backend or serializer, tasks, workflows and coroutines end as ever.

use serde_json::json;
use umbel_tests::{python::VERSIONS, servers::redis::RedisServer};

use super::told;

/// Goal: values, failures, chains, chords, replacements and coroutines reach the client where the node writes no result. Method: results
/// in files, whose chords are polled for, and results of another serializer in Redis.
#[test]
fn results_that_only_python_can_write_arrive() {
    for version in VERSIONS {
        for serializer in ["json", "msgpack"] {
            let (server, results) = (RedisServer::default(), tempfile::tempdir().unwrap());
            let backend = if serializer == "json" { format!("file://{}", results.path().display()) } else { server.url(1) };
            let variables = [("BROKER", &*server.url(0)), ("BACKEND", &backend), ("SERIALIZER", serializer)];
            let (told, said) = told::by_node(version, "delegated", &variables);
            let bad = json!(["ValueError", "bad", "FAILURE"]);
            let expected = json!({
                "values": [3, bad],
                "workflows": [6, 10, [3, 7]],
                "coroutines": [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], true, bad, 2, "told", ["WorkerLostError", "CancelledError", "FAILURE"]],
            });
            assert_eq!(told, expected, "{serializer}: {said}");
        }
    }
}
