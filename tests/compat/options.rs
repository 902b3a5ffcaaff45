//! Options of tasks, and settings that few have, mean what they mean to Celery.

use serde_json::json;
use umbel_tests::{python::VERSIONS, servers::redis::RedisServer};

use super::told;

/// Goal: an application whose tasks, and so whose commands, are pickles or msgpack can command a node, which answers in what it reads.
#[test]
fn commands_are_in_the_serializer_of_tasks() {
    for (version, serializer) in [("5.6", "pickle"), ("5.7", "pickle"), ("5.7", "msgpack")] {
        let server = RedisServer::default();
        let variables = [("BROKER", &*server.url(0)), ("BACKEND", &*server.url(1)), ("SERIALIZER", serializer), ("C_FORCE_ROOT", "1")];
        let (told, said) = told::by_node(version, "pickled", &variables);
        let expected = json!({ "sum": 3, "ping": [{ "ok": "pong" }], "pool": ["dict"], "revoked": "TaskRevokedError" });
        assert_eq!(told, expected, "{serializer}: {said}");
    }
}

/// Goal: steps of priority and separators of an application's own are the node's as well; a task's priority and expiry hold wherever it is
/// sent from; times without a zone are UTC; types that are registered with kombu come back as what they are; results are kept for ever.
/// Method: the same client is told the same by Celery's own worker.
#[test]
fn options_mean_what_they_mean_to_celery() {
    for version in VERSIONS {
        let server = RedisServer::default();
        let (told, said) = told::by_node(version, "options", &[("BROKER", &*server.url(0)), ("BACKEND", &*server.url(1))]);
        let expected = json!({
            "priorities": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            "urgent": [[7, true], [7, true], [7, true]],
            "again": true,
            "point": [["Point", 2, 3], ["Point", 4, 5]],
            "ttl": -1,
        });
        assert_eq!(told, expected, "{said}");
    }
}
