//! The Python executor keeps the promises of its seam, with each supported version of Celery and in each of its pools.

use std::path::Path;

use umbel::executors::{
    Executor,
    python::{CoroutineExecutor, PythonExecutor, PythonOptions},
};
use umbel_tests::python;

fn options(version: &str, app: &str) -> PythonOptions {
    let mut options = PythonOptions::new(app, python::interpreter(version));
    options.directory = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"));
    options.keeps_states = true;
    options
}

async fn started(options: PythonOptions) -> PythonExecutor {
    PythonExecutor::start(options).await.unwrap_or_else(|error| panic!("{error}")).0
}

async fn processes(version: &str) -> PythonExecutor {
    started(options(version, "python_app")).await
}

async fn threads() -> PythonExecutor {
    started(PythonOptions { threads: Some(true), concurrency: 4, ..options("5.6", "python_app") }).await
}

async fn coroutines() -> CoroutineExecutor {
    started(options("5.7", "python_async_app")).await.coroutines().expect("all tasks are coroutines")
}

mod celery_5_6 {
    umbel_tests::executor_conformance!(super::processes("5.6").await);
}

mod celery_5_7 {
    umbel_tests::executor_conformance!(super::processes("5.7").await);
}

mod on_threads {
    umbel_tests::executor_conformance!(super::threads().await);
}

mod on_an_event_loop {
    umbel_tests::executor_conformance!(super::coroutines().await);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn terminate_right_behind_the_start_ends_one_task() {
        let executor = std::sync::Arc::new(super::coroutines().await);
        umbel_tests::conformance::executor::terminate_right_behind_the_start_ends_one_task(executor).await;
    }
}

/// Goal: tasks run in the pool that the application asks for, if nobody has chosen another, whatever it calls it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_is_the_applications_choice() {
    let asks = |pool: &str| PythonOptions { settings: vec![("worker_pool".to_owned(), pool.into())], ..options("5.7", "python_app") };
    // Slots of processes can have devices; threads share a process.
    for (pool, threads) in [("threads", true), ("gevent", true), ("celery.concurrency.thread:TaskPool", true), ("prefork", false)] {
        assert_eq!(started(asks(pool)).await.has_devices(), !threads, "{pool}");
    }
    assert!(started(PythonOptions { threads: Some(false), ..asks("threads") }).await.has_devices());
}
