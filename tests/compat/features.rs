//! The rarer features of Celery's applications: what `features.py` is told by a node is what it is told by Celery's own worker.

use serde_json::{Value as Json, json};
use umbel_tests::{python::VERSIONS, servers::redis::RedisServer};

use super::told;

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

/// Goal: who listens hears that the worker is ready; custom classes of tasks, annotations, abortable tasks, acknowledgements of failures
/// and of dead processes, ignored results, growing chords, serializers of the application's own, extended results, stamps, odd exceptions
/// and values: as Celery has them.
#[test]
fn rarer_features_are_celerys() {
    for version in VERSIONS {
        let server = RedisServer::default();
        let (told, said) = told::by_node(version, "features", &[("BROKER", &server.url(0)), ("BACKEND", &server.url(1))]);
        assert_eq!(told, expected(), "{said}");
    }
}
