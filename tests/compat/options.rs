//! Options of tasks, and settings that few have, mean what they mean to Celery.

use serde_json::json;
use umbel_tests::{python::VERSIONS, servers::redis::RedisServer};

use super::told;

/// Goal: an application whose tasks, and so whose commands, are pickles or msgpack can command a node, which answers in what it reads; its
/// clients can read what became of a message in another serializer.
#[test]
fn commands_are_in_the_serializer_of_tasks() {
    let serializers = [("5.6", "pickle", "json"), ("5.7", "pickle", "json"), ("5.7", "msgpack", "json"), ("5.7", "pickle", "pickle")];
    for (version, serializer, results) in serializers {
        let server = RedisServer::default();
        let urls = [("BROKER", &*server.url(0)), ("BACKEND", &*server.url(1))];
        let variables = [urls[0], urls[1], ("SERIALIZER", serializer), ("RESULTS", results), ("C_FORCE_ROOT", "1")];
        let (told, said) = told::by_node(version, "pickled", &variables);
        let revoked = (results == "json").then_some("TaskRevokedError");
        let expected = json!({ "sum": 3, "ping": [{ "ok": "pong" }], "pool": ["dict"], "revoked": revoked, "refused": "Reject" });
        assert_eq!(told, expected, "{serializer}, {results}: {said}");
        let ends: Vec<&str> = said.lines().filter(|line| line.contains("] succeeded in")).collect();
        assert!(ends.len() == 1 && ends[0].ends_with("s: 3"), "{said}");
    }
}

/// Goal: steps of priority and separators of an application's own are the node's as well; a task's priority and expiry hold wherever it is
/// sent from; times without a zone are UTC; types that are registered with kombu come back as what they are, and so do names that are not
/// UTF-8; results are kept for ever.
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
            "names": ["'caf\\udce9'", [["0xdce9"]], [["0xdce9"]], [["0xdce9"]], [["0xdce9"], ["0xdce9"]]],
            "ttl": -1,
        });
        assert_eq!(told, expected, "{said}");
    }
}

/// Goal: handlers of an application's own hear of its tasks' ends what Celery tells them; the node's log says of each once, and nothing bad
/// of what a task may raise. Method: the same client is told the same by Celery's own worker.
#[test]
fn ends_are_logged_to_handlers_of_the_applications() {
    let failure = ["args", "description", "exc", "hostname", "id", "internal", "kwargs", "name", "traceback"];
    let success = ["args", "id", "kwargs", "name", "return_value", "runtime"];
    for version in VERSIONS {
        let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
        let file = home.path().join("log");
        let variables = [("BROKER", &*server.url(0)), ("BACKEND", &*server.url(1)), ("LOG", file.to_str().unwrap())];
        let (told, said) = told::by_node(version, "logged", &variables);
        let expected = json!({
            "add": [["INFO", "Task add[ID] succeeded", false, success]],
            "unexpected": [["ERROR", "Task bad[ID] raised unexpected: ValueError('no key')", true, failure]],
            "expected": [["INFO", "Task bad[ID] raised expected: KeyError('k')", false, failure]],
            "again": [["INFO", "Task again[ID] retry: Retry", false, ["exc", "id", "name"]], ["INFO", "Task again[ID] succeeded", false, success]],
        });
        assert_eq!(told, expected, "{said}");
        let count = |words: &str| said.lines().filter(|line| line.contains(words)).count();
        assert_eq!(count("raised unexpected"), 1, "{said}");
        assert!(said.lines().any(|line| line.contains("raised expected: KeyError('k')") && line.contains("INFO")), "{said}");
        assert_eq!((count("KeyError"), count("] succeeded in")), (1, 2), "{said}");
    }
}
