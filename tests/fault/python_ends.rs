//! Ends of Python tasks that no one can read, and those of the processes that tell of them, while other tasks are behind.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use umbel::{
    executors::{
        Executor, Given, Hand, Handed, Opening, Order, Slot, Told,
        python::{PythonExecutor, PythonOptions},
    },
    proto::{Outcome, Value},
};
use umbel_tests::{
    conformance::executor::{Ends, job},
    python,
    wait::{soon, until_async},
};

use super::python::kill;

/// How many are handed behind the first.
const BEHIND: u64 = 3;

async fn executor() -> Arc<dyn Executor> {
    let mut options = PythonOptions::new("python_ends_tasks", python::interpreter("5.7"));
    options.directory = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("fault"));
    options.keeps_states = true;
    Arc::new(PythonExecutor::start(options).await.unwrap().0)
}

fn given(executor: &dyn Executor, run: u64, task: &str, args: &[Value]) -> (Given, Ends) {
    let (job, ends) = job(executor, task, args);
    (Given { run, job }, ends)
}

/// What a slot tells that runs a task with others behind, which write their numbers into `file`.
#[derive(Debug)]
struct Heard {
    ended: BTreeMap<u64, Outcome>,
    returned: Vec<u64>,
    /// Those that have run.
    ran: Vec<u64>,
}

async fn work(executor: &dyn Executor, slot: &mut dyn Slot, task: &str, args: &[Value]) -> Heard {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("ran");
    let (first, _ends) = given(executor, 0, task, args);
    let (hand, to, mut told) = Hand::new();
    let mut kept = Vec::new();
    for run in 1..=BEHIND {
        let args = [Value::Int(i64::try_from(run).unwrap()), Value::from(file.to_str().unwrap())];
        let (next, ends) = given(executor, run, "ends.marks", &args);
        to.try_send(Handed::Job(Box::new(next))).unwrap();
        kept.push(ends);
    }
    soon("the work to be done", slot.work(first, hand)).await.unwrap();
    let mut heard = Heard { ended: BTreeMap::new(), returned: Vec::new(), ran: Vec::new() };
    while let Ok(news) = told.try_recv() {
        match news {
            Told::Ended { run, outcome, .. } => assert!(heard.ended.insert(run, *outcome).is_none(), "{run} ended twice"),
            Told::Returned(runs) => heard.returned.extend(runs),
            Told::Began(run) => assert!(heard.ended.contains_key(&(run - 1)), "{run} began before the one before it had ended"),
        }
    }
    heard.ran = fs::read_to_string(&file).unwrap_or_default().lines().map(|line| line.parse().unwrap()).collect();
    heard
}

/// The failure of the first, once others have begun behind it; they end well, or come back and have not begun.
async fn failure(task: &str, args: &[Value]) -> (String, String) {
    let executor = executor().await;
    let mut slot = soon("a slot", executor.open(Opening::default())).await.unwrap();
    let mut last = None;
    for _ in 0..10 {
        let mut heard = work(&*executor, &mut *slot, task, args).await;
        last = heard.ended.remove(&0);
        for (run, outcome) in &heard.ended {
            assert!(matches!(outcome, Outcome::Success { .. }), "{run}: {outcome:?}");
        }
        assert!(heard.ran.iter().copied().eq(heard.ended.keys().copied()), "{heard:?}");
        assert!(heard.returned.iter().all(|run| !heard.ran.contains(run)), "{heard:?}");
        if !heard.ended.is_empty() {
            break;
        }
    }
    match last {
        Some(Outcome::Failure(error)) => (error.exc_type, format!("{:?} {:?}", error.exc_message, error.traceback)),
        Some(Outcome::Reject { requeue: false, reason }) => ("Reject".to_owned(), reason),
        other => panic!("no failure: {other:?}"),
    }
}

/// Goal: what a task raises is its failure also where its text is none in UTF-8, and the slot goes on behind it.
#[tokio::test]
async fn text_that_is_no_text_is_told() {
    let (kind, text) = failure("ends.unnamed", &[]).await;
    assert_eq!(kind, "ValueError");
    assert!(text.contains("ValueError: \\\\udcff"), "{text}");
}

/// Goal: an attempt at a time that never comes is refused as Celery refuses it, and the slot goes on behind it.
#[tokio::test]
async fn a_retry_that_never_comes_is_refused() {
    let (kind, text) = failure("ends.never", &[]).await;
    assert_eq!(kind, "Reject");
    assert!(text.contains("cannot convert float infinity to integer"), "{text}");
}

/// Goal: a run whose end says nothing but its number has failed, and the slot goes on behind it.
#[tokio::test]
async fn an_end_that_cannot_be_read_is_a_failure() {
    for aloud in [false, true] {
        let (kind, text) = failure("ends.garbled", &[Value::from("{\"run\":NUMBER,\"outcome\":7}"), Value::Bool(aloud)]).await;
        assert_eq!(kind, "DecodeError");
        assert!(text.contains("the task's end cannot be read"), "{text}");
    }
}

/// Goal: a process that nobody understands is lost with what it has begun, and with nothing else: what comes back has not begun.
#[tokio::test]
async fn nothing_comes_back_that_has_begun() {
    let executor = executor().await;
    let mut slot = soon("a slot", executor.open(Opening::default())).await.unwrap();
    for aloud in [false, true] {
        let mut behind = 0;
        for _ in 0..10 {
            let heard = work(&*executor, &mut *slot, "ends.garbled", &[Value::from("{}"), Value::Bool(aloud)]).await;
            assert!(matches!(heard.ended[&0], Outcome::WorkerLost { .. }), "{heard:?}");
            assert!(heard.returned.iter().all(|run| !heard.ran.contains(run) && !heard.ended.contains_key(run)), "{heard:?}");
            assert!(heard.ran.iter().all(|run| heard.ended.contains_key(run)), "{heard:?}");
            behind += heard.ran.len();
            if behind > 1 {
                break;
            }
        }
        assert!(behind > 0, "none has begun behind it");
    }
}

/// Runs a task whose soft limit passes before its process, which is stopped, has received it; then the process gets `signal`. Returns how
/// the task ended, and the failure that it has heard of.
async fn hurried(signal: &str) -> (Outcome, String) {
    let (executor, home) = (executor().await, tempfile::tempdir().unwrap());
    let mut slot = soon("a slot", executor.open(Opening::default())).await.unwrap();
    let pid = slot.process().unwrap().load(Ordering::Relaxed);
    kill(pid, "STOP");
    until_async("the process is stopped", || async { status(pid, "State:").starts_with('T').then_some(()) }).await;
    let file = home.path().join("failure");
    let (job, ends) = job(&*executor, "ends.polite", &[Value::from(file.to_str().unwrap())]);
    let (outcome, ()) = tokio::join!(soon("the run to end", slot.run(job)), async {
        ends.orders.send(Order::Hurry).unwrap();
        until_async("the process has the signal", || async { awaits_usr1(pid).then_some(()) }).await;
        kill(pid, signal);
    });
    (outcome.unwrap(), fs::read_to_string(file).unwrap_or_default())
}

fn awaits_usr1(pid: u32) -> bool {
    u64::from_str_radix(&status(pid, "ShdPnd:"), 16).unwrap() & (1 << 9) != 0
}

fn status(pid: u32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
}

/// Goal: a soft limit that passes before a task's first step is the task's failure, of which its handlers hear, and costs no process.
#[tokio::test]
async fn a_soft_limit_before_the_task_is_its_failure() {
    let (outcome, failure) = hurried("CONT").await;
    assert!(matches!(&outcome, Outcome::Failure(error) if error.exc_type == "SoftTimeLimitExceeded"), "{outcome:?}");
    assert_eq!(failure, "SoftTimeLimitExceeded");
}

/// Goal: a soft limit that passed while a task was in a process that died is known to the one that runs it.
#[tokio::test]
async fn a_soft_limit_outlives_the_process() {
    match hurried("KILL").await.0 {
        Outcome::Failure(error) => assert_eq!(error.exc_type, "SoftTimeLimitExceeded"),
        Outcome::Success { value, .. } => assert_eq!(value, Value::from("told")),
        other => panic!("{other:?}"),
    }
}

/// Goal: a message that no process can take in costs none of the task before it its end.
#[tokio::test]
async fn an_unreadable_run_costs_one_process() {
    let executor = executor().await;
    let mut slot = soon("a slot", executor.open(Opening::default())).await.unwrap();
    for _ in 0..5 {
        let (first, _ends) = given(&*executor, 0, "ends.briefly", &[]);
        let (mut next, _more) = given(&*executor, 1, "ends.briefly", &[]);
        // Python refuses to read a number of so many digits.
        let headers = &mut Arc::make_mut(&mut next.job.invocation).headers;
        headers.other.insert("x".to_owned(), Value::BigInt("9".repeat(5000).as_str().into()));
        let (hand, to, mut told) = Hand::new();
        to.try_send(Handed::Job(Box::new(next))).unwrap();
        soon("the work to be done", slot.work(first, hand)).await.unwrap();
        let mut ended = BTreeMap::new();
        while let Ok(news) = told.try_recv() {
            if let Told::Ended { run, outcome, .. } = news {
                ended.insert(run, *outcome);
            }
        }
        assert!(matches!(ended[&0], Outcome::Success { .. }), "{ended:?}");
        assert!(matches!(ended.get(&1), None | Some(Outcome::WorkerLost { .. })), "{ended:?}");
    }
}

/// Goal: what a slot is handed comes back at once while it waits for a process. Method: it waits for a handler that hears of a hard limit.
#[tokio::test]
async fn nothing_waits_for_a_process() {
    let (executor, home) = (executor().await, tempfile::tempdir().unwrap());
    let mut slot = soon("a slot", executor.open(Opening::default())).await.unwrap();
    let file = home.path().join("lost");
    let (mut first, mut ends) = given(&*executor, 0, "ends.deaf", &[Value::from(file.to_str().unwrap())]);
    (first.job.limits.hard_secs, first.job.deadline) = (Some(1.0), Some(0));
    let (hand, to, mut told) = Hand::new();
    let (worked, ()) = tokio::join!(soon("the work to be done", slot.work(first, hand)), async {
        ends.waiting().await;
        ends.orders.send(Order::Terminate).unwrap();
        until_async("the handler is called", || async { file.exists().then_some(()) }).await;
        while told.try_recv().is_ok() {}
        let (next, _ends) = given(&*executor, 1, "ends.briefly", &[]);
        to.try_send(Handed::Job(Box::new(next))).unwrap();
        to.try_send(Handed::Return).unwrap();
        for expected in [vec![1], Vec::new()] {
            let news = soon("it to come back", told.recv()).await;
            assert!(matches!(&news, Some(Told::Returned(runs)) if *runs == expected), "{news:?}");
        }
        fs::write(file.with_extension("go"), "").unwrap();
    });
    worked.unwrap();
}

/// Goal: a process that has ended is known to have, also while something that it has forked has its sockets.
#[tokio::test]
async fn the_dead_are_not_waited_for() {
    let (executor, home) = (executor().await, tempfile::tempdir().unwrap());
    let mut slot = soon("a slot", executor.open(Opening::default())).await.unwrap();
    let file = home.path().join("go");
    let (job, _ends) = job(&*executor, "ends.leaves", &[Value::from(file.to_str().unwrap())]);
    let outcome = soon("the run to end", slot.run(job)).await.unwrap();
    fs::write(file, "").unwrap();
    assert!(matches!(&outcome, Outcome::WorkerLost { detail } if detail.contains("exitcode 3")), "{outcome:?}");
}
