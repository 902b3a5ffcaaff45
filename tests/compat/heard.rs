//! Handlers and signals of an application find the result of the task whose end they hear of, as under Celery.

use serde_json::{Value as Json, json};
use umbel_tests::{
    python::VERSIONS,
    servers::{rabbit::Vhost, redis::RedisServer},
};

use super::told;

/// What was heard of a task's success, where its result's state was that.
fn success(state: &str, value: i64) -> Json {
    json!([
        ["on_success", state, value],
        ["task_success", state, value],
        ["after_return", state, value.to_string()],
        ["task_postrun", state, "SUCCESS"],
    ])
}

/// What was heard of a failure.
fn failure(error: &str) -> Json {
    json!([["on_failure", "FAILURE", error], ["after_return", "FAILURE", error], ["task_postrun", "FAILURE", "FAILURE"]])
}

/// Goal: who hears of a task's end finds its result, and what is written there then stays, in processes, on threads and on an event loop;
/// a result that nobody wants is not there. Method: the same client sees this with Celery's own worker, except for tasks that something
/// follows: their success is stored when all have heard of it, with what follows.
#[test]
fn who_hears_of_an_end_finds_the_result() {
    for version in VERSIONS {
        let (server, vhost) = (RedisServer::default(), Vhost::new());
        for (broker, pool) in [(server.url(0), "prefork"), (vhost.url(), "prefork"), (server.url(0), "threads")] {
            let home = tempfile::tempdir().unwrap();
            let (runs, args) = (home.path().join("runs").display().to_string(), format!("-P {pool}"));
            let variables = [("BROKER", &*broker), ("BACKEND", &*server.url(1)), ("RUNS", &runs), ("ASYNC", "1"), ("NODE_ARGS", &args)];
            let (told, said) = told::by_node(version, "heard", &variables);
            let not_json = "Object of type object is not JSON serializable";
            let mut retried = json!([["on_retry", "RETRY", "not yet"], ["task_postrun", "RETRY", "RETRY"]]);
            retried.as_array_mut().unwrap().extend(success("SUCCESS", 0).as_array().unwrap().iter().cloned());
            for line in &mut retried.as_array_mut().unwrap()[2..5] {
                line[2] = "done".into();
            }
            let explained =
                json!([["on_failure", "FAILURE", "bad"], ["after_return", "EXPLAINED", "bad"], ["task_postrun", "EXPLAINED", "FAILURE"]]);
            let expected = json!({
                "value": [3, success("SUCCESS", 3)],
                "failure": ["ValueError: bad", failure("bad")],
                "explained": ["EXPLAINED", { "why": "because" }, explained],
                "retry": ["done", retried],
                "spoils": [format!("EncodeError: TypeError('{not_json}')"), failure(not_json)],
                "quiet": success("PENDING", 1),
                "chain": [13, success("PENDING", 3), success("SUCCESS", 13)],
                "chord": [10, [["on_success", "PENDING", 3], ["on_success", "PENDING", 7]]],
                "coroutine": [3, success("SUCCESS", 3)],
                "runtimes": [if version == "5.6" { "NoneType" } else { "float" }],
            });
            assert_eq!(told, expected, "{broker}, {pool}: {said}");
        }
    }
}
