//! Many coroutines that tell of their ends while their process is told of many more.

use std::path::Path;

use futures::future::join_all;
use umbel::{
    executors::{
        Executor, Opening,
        python::{PythonExecutor, PythonOptions},
    },
    proto::{Outcome, Value},
};
use umbel_tests::{conformance::executor::job, python, wait::soon};

/// Many more than frames wait for whoever reads them.
const CROWD: usize = 400;

/// A few of them are more than a socket takes.
const TEXT: usize = 50_000;

/// Goal: a process that writes and a node that writes do not wait for each other. Method: all of a crowd end in the same turn of the event loop,
/// and whoever has ended begins once more at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_may_write_at_once() {
    let mut options = PythonOptions::new("python_crowd_tasks", python::interpreter("5.7"));
    options.directory = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("fault"));
    let executor = PythonExecutor::start(options).await.unwrap().0.coroutines().unwrap();
    let args = [Value::from("x".repeat(TEXT)), Value::Int(i64::try_from(CROWD).unwrap())];
    let twice = (0..CROWD).map(|_| async {
        let mut slot = executor.open(Opening::default()).await.unwrap();
        for _ in 0..2 {
            let (job, _ends) = job(&executor, "crowd.answer", &args);
            let outcome = slot.run(job).await.unwrap();
            assert!(matches!(&outcome, Outcome::Success { value, .. } if *value == args[0]), "{outcome:?}");
        }
    });
    soon("all of them twice", join_all(twice)).await;
}
