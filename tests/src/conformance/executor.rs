//! What every executor promises.
//!
//! An executor under test brings the tasks of [`TASKS`], written in its own language, and calls
//! [`executor_conformance!`](crate::executor_conformance) with an expression that makes one. Each check gets an executor of
//! its own.
//!
//! | task | what it does |
//! |---|---|
//! | `conformance.add(a, b)` | returns the sum of two integers |
//! | `conformance.echo(value)` | returns its argument |
//! | `conformance.fail(message)` | raises `ValueError(message)` |
//! | `conformance.crash(message)` | fails in the language's ugliest way that a process survives: a panic, an assertion |
//! | `conformance.wait()` | reports the state `WAITING`, then waits for ever without using the processor |
//! | `conformance.stubborn()` | reports the state `WAITING`, then computes for ever, deaf to everything |
//! | `conformance.polite()` | reports the state `WAITING`, then returns `"told"` once its soft limit is announced |
//! | `conformance.report(n)` | reports the state `STEP` with meta 0, 1, …, n - 1, then returns n |
//! | `conformance.retry(message)` | asks to be run again in 7 seconds because of `ValueError(message)` |
//! | `conformance.ignore()` | asks that nothing be stored |
//! | `conformance.reject(requeue)` | refuses its message |
//! | `conformance.replace(a, b)` | puts `conformance.add(a, b)` in its place |

mod ahead;

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use umbel::executors::{Early, Executor, Job, Opening, Order, Progress, Slot};
use umbel_proto::{Invocation, Map, Outcome, QueueName, Signature, TaskError, TaskId, TaskName, TimeLimit, Value};
use umbel_scheduler::TaskSpec;

pub use self::ahead::{
    an_end_by_force_spares_what_has_not_begun, each_job_that_is_handed_ahead_runs_once_or_is_left, what_has_not_begun_comes_back,
    what_is_called_back_has_not_run,
};
use crate::wait::soon;

/// The tasks an executor under test knows.
pub const TASKS: [&str; 12] = [
    "conformance.add",
    "conformance.crash",
    "conformance.echo",
    "conformance.fail",
    "conformance.ignore",
    "conformance.polite",
    "conformance.reject",
    "conformance.replace",
    "conformance.report",
    "conformance.retry",
    "conformance.stubborn",
    "conformance.wait",
];

/// Makes a test of each check; `$executor` is an expression that makes an executor.
#[macro_export]
macro_rules! executor_conformance {
    ($executor:expr) => {
        $crate::executor_conformance!(@ $executor;
            knows_its_tasks returns_values takes_keywords keeps_values_as_they_are failures_are_outcomes crashes_are_outcomes
            bad_calls_are_type_errors unknown_tasks_are_failures wishes_are_outcomes terminate_ends_a_waiting_task
            terminate_ends_a_stubborn_task terminate_before_the_start_ends_it_too a_polite_task_hears_the_soft_limit
            a_soft_limit_right_behind_the_start_is_heard draining_fails_nobody progress_arrives_in_order full_progress_blocks_nobody slots_run_side_by_side
            a_slot_runs_one_job_after_the_other a_dropped_run_frees_its_slot
            each_job_that_is_handed_ahead_runs_once_or_is_left what_has_not_begun_comes_back what_is_called_back_has_not_run
            an_end_by_force_spares_what_has_not_begun);
    };
    (@ $executor:expr; $($check:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            $crate::conformance::executor::$check(std::sync::Arc::new($executor)).await;
        }
    )*};
}

/// The far ends of a job, which are kept until its run is over, as the pool keeps them.
#[derive(Debug)]
pub struct Ends {
    /// Where it is told something.
    pub orders: watch::Sender<Order>,
    /// Where it tells of failures that are to be stored.
    pub early: mpsc::Receiver<Early>,
    progress: mpsc::Receiver<Progress>,
}

impl Ends {
    /// Waits until the task has reported the state `WAITING`.
    pub async fn waiting(&mut self) {
        let news = soon("the task to report that it has begun", self.progress.recv()).await;
        assert_eq!(news.map(|news| news.state).as_deref(), Some("WAITING"));
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the job is running");
    }
}

fn job_with(executor: &dyn Executor, task: &str, args: &[Value], kwargs: &Map) -> (Job, Ends) {
    let name = TaskName::from(task);
    let id = TaskId::derive(task, "conformance");
    let (orders, receiver) = watch::channel(Order::Run);
    let (sender, progress) = mpsc::channel(16);
    let (ends, early) = mpsc::channel(1);
    let job = Job {
        invocation: Arc::new(Invocation::new(name.clone(), id, args, kwargs).expect("plain arguments")),
        spec: executor.spec(&name).unwrap_or_else(|| Arc::new(TaskSpec::new(name))),
        queue: QueueName::from("conformance"),
        attempt: 1,
        limits: TimeLimit::default(),
        deadline: None,
        orders: receiver,
        progress: sender,
        early: ends,
    };
    (job, Ends { orders, early, progress })
}

/// A call of one of the executor's tasks, without limits.
pub fn job(executor: &dyn Executor, task: &str, args: &[Value]) -> (Job, Ends) {
    job_with(executor, task, args, &Map::new())
}

async fn open(executor: &dyn Executor) -> Box<dyn Slot> {
    soon("a slot to open", executor.open(Opening::default())).await.expect("a slot")
}

async fn run(slot: &mut dyn Slot, job: Job) -> Outcome {
    soon("the run to end", slot.run(job)).await.expect("an outcome")
}

async fn outcome(executor: &dyn Executor, task: &str, args: &[Value]) -> Outcome {
    let mut slot = open(executor).await;
    // The ends are kept until the run is over, as the pool keeps them.
    let (job, _ends) = job(executor, task, args);
    run(slot.as_mut(), job).await
}

#[track_caller]
fn value(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Success { value, children } if children.is_empty() => value,
        other => panic!("expected a value, got {other:?}"),
    }
}

#[track_caller]
fn error(outcome: Outcome) -> TaskError {
    match outcome {
        Outcome::Failure(error) => error,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn text(error: &TaskError) -> String {
    error.exc_message.iter().filter_map(Value::as_str).collect()
}

#[track_caller]
fn terminated(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Revoked { terminated: true, .. }), "expected a forced end, got {outcome:?}");
}

async fn still_adds(executor: &dyn Executor, slot: &mut dyn Slot) {
    let (job, _ends) = job(executor, "conformance.add", &[Value::Int(20), Value::Int(22)]);
    assert_eq!(value(run(slot, job).await), Value::Int(42));
}

/// Every task is listed and found, under one spec.
pub async fn knows_its_tasks(executor: Arc<dyn Executor>) {
    let specs = executor.tasks();
    for task in TASKS {
        let spec = executor.spec(&TaskName::from(task)).unwrap_or_else(|| panic!("{task} is not known"));
        assert!(specs.contains(&spec), "{task} is not listed");
    }
    assert_eq!(executor.spec(&TaskName::from("conformance.none")), None);
    assert!(!executor.kind().is_empty());
}

/// A returned value is the outcome.
pub async fn returns_values(executor: Arc<dyn Executor>) {
    assert_eq!(value(outcome(&*executor, "conformance.add", &[Value::Int(2), Value::Int(3)]).await), Value::Int(5));
}

/// Arguments come by position and by keyword.
pub async fn takes_keywords(executor: Arc<dyn Executor>) {
    let kwargs = Map::from_iter([("b".to_owned(), Value::Int(3))]);
    let mut slot = open(&*executor).await;
    let (job, _ends) = job_with(&*executor, "conformance.add", &[Value::Int(2)], &kwargs);
    assert_eq!(value(run(slot.as_mut(), job).await), Value::Int(5));
}

/// What goes in comes out: nothing, text of any language, numbers of any size, nesting.
pub async fn keeps_values_as_they_are(executor: Arc<dyn Executor>) {
    let nested = Value::List(vec![
        Value::Null,
        Value::Bool(true),
        Value::from("Grüße, 世界 \u{1F33F} \"quoted\" \\ \n"),
        Value::Int(i64::MIN),
        Value::BigInt("123456789012345678901234567890".into()),
        Value::Float(0.1),
        Value::Map(Map::from_iter([("k".to_owned(), Value::List(Vec::new())), (String::new(), Value::Map(Map::new()))])),
    ]);
    for given in [nested, Value::Null, Value::List(Vec::new()), Value::from("")] {
        assert_eq!(value(outcome(&*executor, "conformance.echo", std::slice::from_ref(&given)).await), given);
    }
}

/// An exception keeps its type and its message.
pub async fn failures_are_outcomes(executor: Arc<dyn Executor>) {
    let error = error(outcome(&*executor, "conformance.fail", &[Value::from("bad")]).await);
    assert_eq!((error.exc_type.as_str(), error.exc_module.as_deref()), ("ValueError", Some("builtins")));
    assert_eq!(error.exc_message, [Value::from("bad")]);
}

/// A panic is a failure with its message and its place, and the slot lives on.
pub async fn crashes_are_outcomes(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    let (job, _ends) = job(&*executor, "conformance.crash", &[Value::from("out of cheese")]);
    let error = error(run(slot.as_mut(), job).await);
    assert!(text(&error).contains("out of cheese"), "{error:?}");
    assert!(error.traceback.as_deref().is_some_and(|traceback| traceback.contains(".rs:") || traceback.contains("line ")), "{error:?}");
    still_adds(&*executor, slot.as_mut()).await;
}

/// A call that does not fit fails by Python's `TypeError`; nothing crashes.
pub async fn bad_calls_are_type_errors(executor: Arc<dyn Executor>) {
    let one = Value::Int(1);
    for (args, word) in [
        (vec![one.clone()], "'b'"),
        (vec![one.clone(), one.clone(), one.clone()], "3 were given"),
        (vec![one.clone(), Value::from("two")], ""),
        (vec![one.clone(), Value::Null], ""),
    ] {
        let error = error(outcome(&*executor, "conformance.add", &args).await);
        assert_eq!(error.exc_type, "TypeError", "{args:?}");
        assert!(text(&error).contains(word), "{error:?}");
    }
    let mut slot = open(&*executor).await;
    let kwargs = Map::from_iter([("c".to_owned(), Value::Int(3))]);
    let (job, _ends) = job_with(&*executor, "conformance.add", &[one.clone(), one], &kwargs);
    assert!(text(&error(run(slot.as_mut(), job).await)).contains("unexpected keyword argument 'c'"));
}

/// A name nobody registered is a failure by `NotRegistered`, should it ever get that far.
pub async fn unknown_tasks_are_failures(executor: Arc<dyn Executor>) {
    assert_eq!(error(outcome(&*executor, "conformance.none", &[]).await).exc_type, "NotRegistered");
}

/// Retry, ignore, reject and replace arrive as what they are.
pub async fn wishes_are_outcomes(executor: Arc<dyn Executor>) {
    match outcome(&*executor, "conformance.retry", &[Value::from("busy")]).await {
        Outcome::Retry(retry) => {
            assert_eq!(retry.error.map(|error| (error.exc_type.clone(), text(&error))), Some(("ValueError".into(), "busy".into())));
            assert_eq!((retry.countdown_secs, retry.automatic), (Some(7.0), false));
        }
        other => panic!("expected a retry, got {other:?}"),
    }
    assert_eq!(outcome(&*executor, "conformance.ignore", &[]).await, Outcome::Ignore);
    for wanted in [true, false] {
        let refused = outcome(&*executor, "conformance.reject", &[Value::Bool(wanted)]).await;
        assert!(matches!(refused, Outcome::Reject { requeue, .. } if requeue == wanted), "{refused:?}");
    }
    match outcome(&*executor, "conformance.replace", &[Value::Int(1), Value::Int(2)]).await {
        Outcome::Replace(signature) => {
            assert_eq!(*signature, Signature::new("conformance.add").arg(1_i64).arg(2_i64));
        }
        other => panic!("expected a replacement, got {other:?}"),
    }
}

/// A task that waits ends soon when it is told to, and the slot lives on.
pub async fn terminate_ends_a_waiting_task(executor: Arc<dyn Executor>) {
    terminate(executor, "conformance.wait").await;
}

/// So does one that never looks up.
pub async fn terminate_ends_a_stubborn_task(executor: Arc<dyn Executor>) {
    terminate(executor, "conformance.stubborn").await;
}

async fn terminate(executor: Arc<dyn Executor>, task: &str) {
    let mut slot = open(&*executor).await;
    let (job, mut ends) = job(&*executor, task, &[]);
    let (outcome, ()) = tokio::join!(run(slot.as_mut(), job), async {
        ends.waiting().await;
        ends.order(Order::Terminate);
    });
    terminated(&outcome);
    still_adds(&*executor, slot.as_mut()).await;
}

/// An order that came before the run holds for it.
pub async fn terminate_before_the_start_ends_it_too(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    let (job, ends) = job(&*executor, "conformance.wait", &[]);
    ends.order(Order::Terminate);
    terminated(&run(slot.as_mut(), job).await);
    still_adds(&*executor, slot.as_mut()).await;
}

/// An order that comes right behind the start ends that task, and takes no other along that shares its process. Not for threads, of which
/// none can be ended by force without the others.
pub async fn terminate_right_behind_the_start_ends_one_task(executor: Arc<dyn Executor>) {
    let (mut long, mut slot) = (open(&*executor).await, open(&*executor).await);
    let (lasting, mut lasting_ends) = job(&*executor, "conformance.wait", &[]);
    let (lasted, ()) = tokio::join!(run(long.as_mut(), lasting), async {
        lasting_ends.waiting().await;
        for _ in 0..50 {
            let (job, ends) = job(&*executor, "conformance.wait", &[]);
            let (outcome, ()) = tokio::join!(run(slot.as_mut(), job), async { ends.order(Order::Terminate) });
            terminated(&outcome);
        }
        lasting_ends.order(Order::Terminate);
    });
    terminated(&lasted);
}

/// The soft limit reaches a task that listens, and what it returns then counts.
pub async fn a_polite_task_hears_the_soft_limit(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    let (job, mut ends) = job(&*executor, "conformance.polite", &[]);
    let (outcome, ()) = tokio::join!(run(slot.as_mut(), job), async {
        ends.waiting().await;
        ends.order(Order::Hurry);
    });
    assert_eq!(value(outcome), Value::from("told"));
}

/// One that passes right behind the start is heard all the same: by the task, or in its place where it had not begun.
pub async fn a_soft_limit_right_behind_the_start_is_heard(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    for _ in 0..50 {
        let (job, ends) = job(&*executor, "conformance.polite", &[]);
        let (outcome, ()) = tokio::join!(run(slot.as_mut(), job), async { ends.order(Order::Hurry) });
        match outcome {
            Outcome::Failure(error) => assert_eq!(error.exc_type, "SoftTimeLimitExceeded", "{error:?}"),
            other => assert_eq!(value(other), Value::from("told")),
        }
    }
}

/// A node that wants to stop fails no task for it.
pub async fn draining_fails_nobody(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    let (job, ends) = job(&*executor, "conformance.add", &[Value::Int(2), Value::Int(3)]);
    ends.order(Order::Drain);
    assert_eq!(value(run(slot.as_mut(), job).await), Value::Int(5));
}

/// States of a task's own arrive in the order they were reported in.
pub async fn progress_arrives_in_order(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    let (job, mut ends) = job(&*executor, "conformance.report", &[Value::Int(5)]);
    assert_eq!(value(run(slot.as_mut(), job).await), Value::Int(5));
    let mut seen = Vec::new();
    while let Ok(news) = ends.progress.try_recv() {
        assert_eq!(news.state, "STEP");
        seen.push(news.meta);
    }
    assert_eq!(seen, (0..5).map(Value::Int).collect::<Vec<_>>());
}

/// A task that reports more than anybody reads goes on all the same.
pub async fn full_progress_blocks_nobody(executor: Arc<dyn Executor>) {
    assert_eq!(value(outcome(&*executor, "conformance.report", &[Value::Int(1000)]).await), Value::Int(1000));
}

/// Two slots are two runs at a time.
pub async fn slots_run_side_by_side(executor: Arc<dyn Executor>) {
    let (mut left, mut right) = (open(&*executor).await, open(&*executor).await);
    let (left_job, mut left_ends) = job(&*executor, "conformance.wait", &[]);
    let (right_job, mut right_ends) = job(&*executor, "conformance.wait", &[]);
    let (left, right, ()) = tokio::join!(run(left.as_mut(), left_job), run(right.as_mut(), right_job), async {
        // Neither is told to end before both have begun.
        left_ends.waiting().await;
        right_ends.waiting().await;
        left_ends.order(Order::Terminate);
        right_ends.order(Order::Terminate);
    });
    terminated(&left);
    terminated(&right);
}

/// A slot may be used for ever.
pub async fn a_slot_runs_one_job_after_the_other(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    for number in 0..200 {
        let (job, _ends) = job(&*executor, "conformance.add", &[Value::Int(number), Value::Int(1)]);
        assert_eq!(value(run(slot.as_mut(), job).await), Value::Int(number + 1));
    }
}

/// A run that is dropped takes nothing with it: the slot is free for the next.
pub async fn a_dropped_run_frees_its_slot(executor: Arc<dyn Executor>) {
    for task in ["conformance.wait", "conformance.stubborn"] {
        let mut slot = open(&*executor).await;
        let (job, mut ends) = job(&*executor, task, &[]);
        tokio::select! {
            outcome = slot.run(job) => panic!("{task} ended by itself: {outcome:?}"),
            () = ends.waiting() => {}
        }
        still_adds(&*executor, slot.as_mut()).await;
    }
}

/// As long as any test waits; for tasks that wait "for ever".
pub const FOREVER: Duration = Duration::from_secs(3600);
