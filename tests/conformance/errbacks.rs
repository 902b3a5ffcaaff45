//! What is called in a task's process at its end waits until that is stored, in each pool of the Python executor: errbacks of a failed one,
//! and handlers.
//!
//! Method: the test is the node. It holds the answer back, refuses, kills, and looks at what was called by then: every errback writes a
//! line into a file.

use std::{fs, path::Path, sync::Arc};

use umbel::executors::{
    Early, Executor, Job, Opening, Order, Slot,
    python::{PythonExecutor, PythonOptions},
};
use umbel_proto::{Body, ErrbackLeft, Outcome, Signature, TaskError};
use umbel_tests::{
    conformance::executor::{Ends, job},
    python,
    wait::{soon, until},
};

/// The pools, each with a task that fails in it.
const POOLS: [(&str, &str); 4] = [("5.6", "processes"), ("5.7", "processes"), ("5.7", "threads"), ("5.7", "coroutines")];

/// A slot of a pool, and where its errbacks write.
struct Stage {
    executor: Arc<dyn Executor>,
    slot: Box<dyn Slot>,
    task: &'static str,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new(version: &str, pool: &str) -> Self {
        let mut options = PythonOptions::new("python_errbacks_app", python::interpreter(version));
        options.directory = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"));
        options.threads = Some(pool == "threads");
        let (executor, _) = PythonExecutor::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let (executor, task): (Arc<dyn Executor>, _) = match pool {
            "coroutines" => (Arc::new(executor.coroutines().expect("some tasks are coroutines")), "fail_async"),
            _ => (Arc::new(executor), "fail"),
        };
        let slot = soon("a slot to open", executor.open(Opening::default())).await.unwrap();
        Self { executor, slot, task, folder: tempfile::tempdir().unwrap() }
    }

    fn errback(&self, name: &str) -> Signature {
        if name == "old" {
            return Signature::new(name);
        }
        Signature::new(name).arg(self.folder.path().join("calls").to_str().unwrap())
    }

    /// A call of the task that fails, with these errbacks.
    fn job(&self, errbacks: &[&str]) -> (Job, Ends) {
        let (mut job, ends) = job(&*self.executor, self.task, &[]);
        let invocation = Arc::get_mut(&mut job.invocation).expect("nobody else has it yet");
        let Body::Parts { embed, .. } = &mut invocation.body else { panic!("a plain body") };
        embed.errbacks = errbacks.iter().map(|name| self.errback(name)).collect();
        (job, ends)
    }

    fn left(&self, errbacks: &[(&str, bool)]) -> Vec<ErrbackLeft> {
        errbacks.iter().map(|(name, new_style)| ErrbackLeft { signature: self.errback(name), new_style: *new_style }).collect()
    }

    /// What errbacks have written.
    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// A failure that is told of, once it is.
async fn told(ends: &mut Ends) -> Early {
    let early = soon("the failure to be told of", ends.early.recv()).await.expect("the run goes on");
    let Outcome::Failure(error) = &*early.outcome else { panic!("a failure: {early:?}") };
    assert_eq!((error.exc_type.as_str(), &error.exc_message[..]), ("ValueError", &["bad".into()][..]));
    early
}

/// What a run came to that has told of its failure.
#[track_caller]
fn failed(outcome: Outcome, stored: bool) -> Vec<ErrbackLeft> {
    match outcome {
        Outcome::FailureTold { error: TaskError { exc_type, traceback, .. }, errbacks, stored: is_stored } => {
            assert_eq!((exc_type.as_str(), is_stored), ("ValueError", stored));
            assert!(traceback.is_some_and(|text| text.contains("raise ValueError(\"bad\")")));
            errbacks
        }
        other => panic!("expected a failure that was told, got {other:?}"),
    }
}

/// Goal: nothing is called before the failure is stored; then each errback of the new style is, whatever others raise; the rest is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_wait_for_the_failure() {
    for (version, pool) in POOLS {
        let mut stage = Stage::new(version, pool).await;
        let (job, mut ends) = stage.job(&["old", "told", "raises", "told_async", "told"]);
        let id = job.invocation.headers.id.clone();
        let calls = stage.folder.path().join("calls");
        let (outcome, ()) = tokio::join!(soon("the run to end", stage.slot.run(job)), async {
            let early = told(&mut ends).await;
            // A soft limit that passes now is not for what follows.
            ends.orders.send(Order::Hurry).unwrap();
            assert!(!calls.exists(), "{pool}");
            early.stored.send(true).unwrap();
        });
        assert_eq!(failed(outcome.unwrap(), true), stage.left(&[("old", false), ("told_async", true)]), "{pool}");
        assert_eq!(stage.calls(), [format!("{id} ValueError bad"), format!("{id} ValueError bad")], "{pool}");
    }
}

/// Goal: where the run has lost its message, or the node does not answer any more, nothing is called, and the slot goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_lost_its_message_calls_none() {
    for (version, pool) in POOLS {
        let mut stage = Stage::new(version, pool).await;
        for answer in [Some(false), None] {
            let (job, mut ends) = stage.job(&["told", "old"]);
            let (outcome, ()) = tokio::join!(soon("the run to end", stage.slot.run(job)), async {
                let early = told(&mut ends).await;
                if let Some(answer) = answer {
                    early.stored.send(answer).unwrap();
                }
            });
            assert!(matches!(outcome, Ok(Outcome::Failure(error)) if error.exc_type == "ValueError"), "{pool}");
        }
        assert_eq!(stage.calls(), [""; 0], "{pool}");
    }
}

/// Goal: a run without errbacks of the new style asks for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_ask_for_nothing() {
    for (version, pool) in POOLS {
        let mut stage = Stage::new(version, pool).await;
        for errbacks in [&["old"][..], &["old", "told_async"], &[]] {
            let (job, mut ends) = stage.job(errbacks);
            let outcome = soon("the run to end", stage.slot.run(job)).await;
            assert!(matches!(outcome, Ok(Outcome::Failure(_))), "{pool}");
            assert!(ends.early.try_recv().is_err(), "{pool}");
        }
    }
}

/// Goal: a process that dies in an errback, or is ended by force before or in one, has failed as it had told, and what it has not
/// called is left to be sent. Its slot goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_called_is_left() {
    for (version, pool) in POOLS {
        let mut stage = Stage::new(version, pool).await;
        let (job, mut ends) = stage.job(&["told", "dies", "old", "told"]);
        let (outcome, ()) = tokio::join!(soon("the run to end", stage.slot.run(job)), async {
            told(&mut ends).await.stored.send(true).unwrap();
        });
        let left = failed(outcome.unwrap(), true);
        assert_eq!((left, stage.calls().len()), (stage.left(&[("dies", true), ("old", false), ("told", true)]), 1), "{pool}");

        let (job, mut ends) = stage.job(&["told", "old"]);
        let (outcome, _unanswered) = tokio::join!(soon("the run to end", stage.slot.run(job)), async {
            let early = told(&mut ends).await;
            ends.orders.send(Order::Terminate).unwrap();
            early
        });
        let left = failed(outcome.unwrap(), false);
        assert_eq!((left, stage.calls().len()), (stage.left(&[("told", true), ("old", false)]), 1), "{pool}");

        let (job, mut ends) = stage.job(&["hangs", "told"]);
        let calls = stage.folder.path().join("calls");
        let (outcome, ()) = tokio::join!(soon("the run to end", stage.slot.run(job)), async {
            told(&mut ends).await.stored.send(true).unwrap();
            let called = move || (fs::read_to_string(&calls).unwrap_or_default().lines().count() == 2).then_some(());
            tokio::task::spawn_blocking(|| until("the errback to be called", called)).await.unwrap();
            ends.orders.send(Order::Terminate).unwrap();
        });
        let left = failed(outcome.unwrap(), true);
        // A thread is ended by what a soft limit raises in it, after which it goes on with the next one.
        let expected: &[_] = if pool == "threads" { &[] } else { &[("hangs", true), ("told", true)] };
        assert_eq!(left, stage.left(expected), "{pool}");

        let (job, mut ends) = stage.job(&["told"]);
        let (outcome, ()) = tokio::join!(soon("the run to end", stage.slot.run(job)), async {
            told(&mut ends).await.stored.send(true).unwrap();
        });
        assert_eq!(failed(outcome.unwrap(), true), [], "{pool}");
    }
}

/// Goal: a process that dies in a handler has ended its task as it had told, stored by then or not, and the slot goes on. Where the node
/// does not answer, handlers are called all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_in_a_handler_has_told() {
    for (version, pool) in POOLS {
        let mut stage = Stage::new(version, pool).await;
        let task = if pool == "coroutines" { "succeed_async" } else { "succeed" };
        for answer in [Some(true), Some(false), None] {
            let (job, mut ends) = job(&*stage.executor, task, &[]);
            let (outcome, ()) = tokio::join!(soon("the run to end", stage.slot.run(job)), async {
                let early = soon("the success to be told of", ends.early.recv()).await.expect("the run goes on");
                assert!(matches!(&*early.outcome, Outcome::Success { value, .. } if *value == 1i64.into()), "{early:?}");
                if let Some(answer) = answer {
                    early.stored.send(answer).unwrap();
                }
            });
            let outcome = outcome.unwrap();
            let Outcome::Told { outcome, stored } = &outcome else { panic!("{pool}, {answer:?}: {outcome:?}") };
            assert_eq!(*stored, answer == Some(true), "{pool}");
            assert!(matches!(&**outcome, Outcome::Success { value, .. } if *value == 1i64.into()), "{pool}, {answer:?}: {outcome:?}");
        }
    }
}
