//! Ends of Python tasks that few have: what Celery makes of each is what is made of it here, and the slot goes on.

use std::{fs, path::Path, sync::Arc};

use umbel::executors::{
    Executor, Job, Opening, Slot,
    python::{PythonExecutor, PythonOptions},
};
use umbel_proto::{Body, Outcome, Retry, Signature, TaskError, Value};
use umbel_tests::{
    conformance::executor::{Ends, job},
    python::{self, VERSIONS},
    wait::soon,
};

/// A slot of a pool that has no other.
struct Stage {
    executor: Arc<dyn Executor>,
    slot: Box<dyn Slot>,
}

impl Stage {
    async fn new(version: &str, pool: &str) -> Self {
        Self::of("python_endings_app", version, pool).await
    }

    async fn of(app: &str, version: &str, pool: &str) -> Self {
        let mut options = PythonOptions::new(app, python::interpreter(version));
        options.directory = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"));
        options.threads = Some(pool == "threads");
        let (executor, _) = PythonExecutor::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let executor: Arc<dyn Executor> = match pool {
            "coroutines" => Arc::new(executor.coroutines().expect("some tasks are coroutines")),
            _ => Arc::new(executor),
        };
        let slot = soon("a slot to open", executor.open(Opening::default())).await.unwrap();
        Self { executor, slot }
    }

    fn job(&self, task: &str, args: &[Value]) -> (Job, Ends) {
        job(&*self.executor, task, args)
    }

    async fn run(&mut self, task: &str, args: &[Value]) -> Outcome {
        let (job, _ends) = self.job(task, args);
        self.run_job(job).await
    }

    async fn run_job(&mut self, job: Job) -> Outcome {
        soon("the run to end", self.slot.run(job)).await.unwrap()
    }
}

#[track_caller]
fn failure(outcome: Outcome) -> TaskError {
    match outcome {
        Outcome::Failure(error) => error,
        other => panic!("no failure: {other:?}"),
    }
}

#[track_caller]
fn success(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Success { value, .. } => value,
        other => panic!("no success: {other:?}"),
    }
}

#[track_caller]
fn retry(outcome: Outcome) -> Retry {
    match outcome {
        Outcome::Retry(retry) => retry,
        other => panic!("no retry: {other:?}"),
    }
}

/// Goal: what is no `Exception` costs a shared process no slot, and is told as the loss of a worker, as Celery tells it.
#[tokio::test]
async fn what_is_no_exception_is_a_failure() {
    let on_threads = [("cancelled", "CancelledError"), ("odd", "Odd('very')"), ("interrupted", "KeyboardInterrupt")];
    let on_the_loop = [("cancelled_async", "CancelledError"), ("odd_async", "Odd('very')")];
    for (pool, add, tasks) in [("threads", "add", &on_threads[..]), ("coroutines", "add_async", &on_the_loop[..])] {
        let mut stage = Stage::new("5.7", pool).await;
        for (task, shown) in tasks {
            let error = failure(stage.run(task, &[]).await);
            assert_eq!(error.exc_type, "WorkerLostError", "{task}");
            let Value::Str(text) = &error.exc_message[0] else { panic!("{error:?}") };
            assert!(text.starts_with(shown), "{task}: {text}");
        }
        assert_eq!(success(stage.run(add, &[Value::Int(1), Value::Int(2)]).await), Value::Int(3));
    }
}

/// Goal: in a process of its own it is the task's failure as it is, and the process runs others.
#[tokio::test]
async fn what_is_no_exception_ends_no_process() {
    let home = tempfile::tempdir().unwrap();
    for version in VERSIONS {
        let mut stage = Stage::new(version, "processes").await;
        let process = success(stage.run("process", &[]).await);
        for (task, class) in [("cancelled", "CancelledError"), ("odd", "Odd")] {
            let error = failure(stage.run(task, &[]).await);
            assert_eq!(error.exc_type, class, "{version}: {task}");
            assert!(error.traceback.unwrap().contains(class));
        }
        let file = home.path().join(version).to_str().unwrap().to_owned();
        assert_eq!(failure(stage.run("escapes", &[Value::from(file.as_str())]).await).exc_type, "Odd");
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("Odd('{file}')"), "those who listen hear of it");
        assert_eq!(success(stage.run("process", &[]).await), process);
    }
}

/// Goal: each process has the number of its slot, and a name after it, as in Celery's pool; so has one that takes the place of another, also
/// when it was ready before.
#[tokio::test]
async fn processes_have_numbers() {
    for version in VERSIONS {
        let mut stage = Stage::new(version, "processes").await;
        let mut other =
            Stage { executor: stage.executor.clone(), slot: stage.executor.open(Opening { slot: 1, device: None }).await.unwrap() };
        let place = |index: i64| {
            let name = Value::from(format!("ForkPoolWorker-{}", index + 1));
            Value::List(vec![index.into(), name.clone(), name])
        };
        assert_eq!(success(stage.run("place", &[]).await), place(0), "{version}");
        for _ in 0..3 {
            assert_eq!(success(other.run("place", &[]).await), place(1), "{version}");
            assert!(matches!(other.run("killed", &[]).await, Outcome::WorkerLost { .. }));
        }
        assert_eq!(success(stage.run("place", &[]).await), place(0), "{version}");
    }
}

/// Goal: where an application gets processes ready, each knows its slot's number by then, however many were there before it.
#[tokio::test]
async fn processes_are_got_ready_for_their_slot() {
    for version in VERSIONS {
        let stage = Stage::of("python_prepared_app", version, "processes").await;
        let mut other =
            Stage { executor: stage.executor.clone(), slot: stage.executor.open(Opening { slot: 1, device: None }).await.unwrap() };
        for _ in 0..3 {
            assert_eq!(success(other.run("place", &[]).await), Value::List(vec![1.into(), 1.into()]), "{version}");
            assert!(matches!(other.run("killed", &[]).await, Outcome::WorkerLost { .. }));
        }
    }
}

/// Goal: a request can be looked at whole, copied and pickled.
#[tokio::test]
async fn requests_can_be_copied() {
    let (twin, named) = (Value::Bool(true), Value::from("Context"));
    for pool in ["processes", "threads"] {
        let mut stage = Stage::new("5.7", pool).await;
        let told = success(stage.run("copied", &[]).await);
        assert_eq!(told, Value::List(vec![twin.clone(), named.clone(), Value::Bool(false)]), "{pool}");
    }
}

/// Goal: those who listen hear of what fails around a task.
#[tokio::test]
async fn internal_errors_are_told() {
    let home = tempfile::tempdir().unwrap();
    for version in VERSIONS {
        let mut stage = Stage::new(version, "processes").await;
        let file = home.path().join(version);
        let (job, _ends) = stage.job("internal", &[Value::from(file.to_str().unwrap())]);
        let id = job.invocation.headers.id.clone();
        assert_eq!(failure(stage.run_job(job).await).exc_type, "TypeError");
        let told = fs::read_to_string(file).unwrap();
        assert!(told.starts_with(&format!("internal {id} isinstance()")), "{told}");
    }
}

/// Goal: of what a task may return, results alone are told as tuples.
#[tokio::test]
async fn results_alone_are_tuples() {
    let mut stage = Stage::new("5.6", "processes").await;
    let price: Value = serde_json::from_str(r#"{"__type__": "decimal", "__value__": "1.50"}"#).unwrap();
    assert_eq!(success(stage.run("price", &[]).await), price);
    let tuple: Value = serde_json::from_str(r#"[["other", null], null]"#).unwrap();
    assert_eq!(success(stage.run("child", &[]).await), tuple);
}

/// Goal: a value that goes nowhere need not be one that can be serialized.
#[tokio::test]
async fn values_that_nobody_wants_may_be_anything() {
    let mut stage = Stage::new("5.7", "processes").await;
    success(stage.run("unserializable_ignored", &[]).await);
    for (task, ignored, link) in
        [("unserializable", None, false), ("unserializable_ignored", Some(false), false), ("unserializable_ignored", None, true)]
    {
        let (mut job, _ends) = stage.job(task, &[]);
        let invocation = Arc::get_mut(&mut job.invocation).expect("nobody else has it yet");
        invocation.headers.ignore_result = ignored;
        let Body::Parts { embed, .. } = &mut invocation.body else { panic!("a plain body") };
        embed.callbacks.extend(link.then(|| Signature::new("add")));
        assert_eq!(failure(stage.run_job(job).await).exc_type, "EncodeError", "{task} {ignored:?} {link}");
    }
    let (mut job, _ends) = stage.job("unserializable", &[]);
    Arc::get_mut(&mut job.invocation).expect("nobody else has it yet").headers.ignore_result = Some(true);
    success(stage.run_job(job).await);
}

/// Goal: `autoretry_for` is meant for coroutines too, with all that goes with it.
#[tokio::test]
async fn coroutines_are_retried_by_themselves() {
    for version in VERSIONS {
        let mut stage = Stage::new(version, "coroutines").await;
        let asked = retry(stage.run("auto_async", &[Value::from("listed")]).await);
        assert_eq!((asked.error.unwrap().exc_type.as_str(), asked.countdown_secs), ("ConnectionError", Some(4.0)), "celery {version}");
        for (kind, exception) in [("left out", "FileNotFoundError"), ("other", "ValueError")] {
            assert_eq!(failure(stage.run("auto_async", &[Value::from(kind)]).await).exc_type, exception, "celery {version}");
        }
        let (mut job, _ends) = stage.job("auto_async", &[Value::from("listed")]);
        Arc::get_mut(&mut job.invocation).expect("nobody else has it yet").headers.retries = 1;
        assert_eq!(failure(stage.run_job(job).await).exc_type, "ConnectionError", "celery {version}");
    }
}

/// Goal: what a task has done to its arguments goes along with its retry, and arguments that it let be go as they came.
#[tokio::test]
async fn retries_take_along_what_became_of_arguments() {
    let mut stage = Stage::new("5.7", "processes").await;
    let args: Vec<Value> = serde_json::from_str(r#"[[1, 2], {}]"#).unwrap();
    let changed: Vec<Value> = serde_json::from_str(r#"[[1], {"left": 2}]"#).unwrap();
    assert_eq!(retry(stage.run("pops", &args).await).args, Some(changed));
    assert_eq!(retry(stage.run("again", &args).await).args, None);
}

/// Goal: processes that a task forks hear signals, those of the application's own handlers as it says.
#[tokio::test]
async fn what_tasks_fork_hears_signals() {
    let expected: Value = serde_json::from_str("[[1, 4, 9], -15, true, 10]").unwrap();
    let mut stage = Stage::new("5.6", "processes").await;
    assert_eq!(success(stage.run("forks", &[]).await), expected);
}
