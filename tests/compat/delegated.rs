//! Applications whose results only Python can write: with their own backend or serializer, tasks, workflows and coroutines end as ever.

use std::{path::Path, process::Command};

use serde_json::{Value as Json, json};
use tempfile::tempdir;
use umbel_tests::{
    python::{VERSIONS, django},
    servers::redis::RedisServer,
};

use super::told;

/// What a client of `delegated.py` is told, whatever its backend, and what else was said of it.
#[track_caller]
fn is_told(told: &Json, said: &str) {
    let bad = json!(["ValueError", "bad", "FAILURE"]);
    let lost = json!(["WorkerLostError", "Worker exited prematurely: signal 9 ", "FAILURE"]);
    let expired = json!(["TaskRevokedError", "expired", "REVOKED"]);
    let expected = json!({
        "values": [3, bad],
        "workflows": [6, 10, [3, 7]],
        "coroutines": [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], true, bad, 2, "told", ["WorkerLostError", "CancelledError", "FAILURE"]],
        "not_run": [
            [
                expired,
                ["TaskRevokedError", "revoked", "REVOKED"],
                ["TimeLimitExceeded", "TimeLimitExceeded", "FAILURE"],
                ["TaskRevokedError", "terminated", "REVOKED"],
                lost,
                ["NotRegistered", "'unknown'", "FAILURE"],
                "failed",
                lost,
            ],
            [[0, "False", "None", "True"], [1, "False", "None", "False"], [2, "True", "15", "False"]],
        ],
        "out_of_order": ["PENDING", expired, lost],
        "lost_late": [3, "SUCCESS", false],
    });
    assert_eq!(*told, expected, "{said}");
    assert!(!said.contains("never retrieved"), "an exception that nobody has caught: {said}");
}

/// Goal: values, failures, chains, chords, replacements and coroutines reach the client where the node writes no result, and so do ends
/// that no process tells of, also where they cannot be stored for a while; who listens to revocations hears of each once. Method: results
/// in files, whose chords are polled for, and results of another serializer in Redis; and once those that the node writes, of which only
/// the revocations are told.
#[test]
fn results_that_only_python_can_write_arrive() {
    for version in VERSIONS {
        for (serializer, files) in [("json", true), ("msgpack", false), ("json", false)] {
            let (server, results, home) = (RedisServer::default(), tempdir().unwrap(), tempdir().unwrap());
            let backend = if files { format!("file://{}", results.path().display()) } else { server.url(1) };
            let heard = home.path().join("heard").display().to_string();
            let variables = [("BROKER", &*server.url(0)), ("BACKEND", &backend), ("SERIALIZER", serializer), ("HEARD", &heard)];
            let (told, said) = told::by_node(version, "delegated", &variables);
            is_told(&told, &format!("{backend}, {serializer}: {said}"));
        }
    }
}

/// Goal: the same where Django's database has the results. It lets nobody in where an event loop runs, and connections are closed
/// after each coroutine.
#[test]
fn results_in_a_django_database_arrive() {
    let (server, home) = (RedisServer::default(), tempdir().unwrap());
    let path = |name: &str| home.path().join(name).display().to_string();
    let (database, heard, broker) = (path("results.sqlite3"), path("heard"), server.url(0));
    let settings = [("DJANGO_SETTINGS_MODULE", "django_results"), ("DATABASE", &database)];
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    let mut migrate = Command::new(django());
    migrate.args(["-m", "django", "migrate", "--verbosity", "0"]).current_dir(here).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = migrate.envs(settings).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut variables = vec![("BROKER", &*broker), ("BACKEND", "django-db"), ("SERIALIZER", "json"), ("HEARD", &heard)];
    variables.extend(settings);
    let (told, said) = told::by_node_in(&django(), "delegated", &variables);
    is_told(&told, &said);
}

/// Goal: an end that a thread has stored itself stands, also if the node was about to end it: it is not stored again, and its errbacks
/// are called once.
#[test]
fn what_a_thread_has_stored_stands() {
    let (server, results, home) = (RedisServer::default(), tempdir().unwrap(), tempdir().unwrap());
    let (broker, backend) = (server.url(0), format!("file://{}", results.path().display()));
    let heard = home.path().join("heard").display().to_string();
    let variables = [("BROKER", &*broker), ("BACKEND", &backend), ("SERIALIZER", "json"), ("HEARD", &heard), ("NODE_ARGS", "-P threads")];
    let (told, said) = told::by_node("5.7", "delegated", &variables);
    assert_eq!(told, json!({ "spinning": ["SoftTimeLimitExceeded", 1] }), "{said}");
}
