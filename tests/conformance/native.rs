//! The native executor keeps the promises of its seam, and the ones of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use umbel::{
    Context, Task, Value,
    executors::{
        Executor, Job, Opening, Order,
        native::{NativeExecutor, TaskFailure, TaskResult},
    },
    proto::{Invocation, Map, Outcome, QueueName, Signature, TaskId, TimeLimit},
};
use umbel_scheduler::{Acknowledge, Backoff, TaskSpec, rate_limit::Rate};
use umbel_tests::{conformance::executor::FOREVER, wait};

#[umbel::task(name = "conformance.add")]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[umbel::task(name = "conformance.echo")]
fn echo(value: Value) -> Value {
    value
}

#[umbel::task(name = "conformance.fail")]
fn fail(message: String) -> TaskResult<()> {
    Err(TaskFailure::new("ValueError", message))
}

#[umbel::task(name = "conformance.crash")]
async fn crash(message: String) {
    panic!("{message}");
}

#[umbel::task(name = "conformance.wait")]
async fn wait_for_ever(ctx: Context) {
    ctx.update_state("WAITING", &());
    std::future::pending().await
}

#[umbel::task(name = "conformance.stubborn")]
fn stubborn(ctx: Context) {
    ctx.update_state("WAITING", &());
    std::thread::sleep(FOREVER); // workload
}

#[umbel::task(name = "conformance.polite")]
async fn polite(ctx: Context) -> &'static str {
    ctx.update_state("WAITING", &());
    ctx.cancelled().await;
    "told"
}

#[umbel::task(name = "conformance.report")]
fn report(ctx: &Context, n: i64) -> i64 {
    for step in 0..n {
        ctx.update_state("STEP", &step);
    }
    n
}

#[umbel::task(name = "conformance.retry")]
async fn retry(ctx: Context, message: String) -> TaskResult<()> {
    Err(ctx.retry_in(Duration::from_secs(7)).because(TaskFailure::new("ValueError", message)).into())
}

#[umbel::task(name = "conformance.ignore")]
async fn ignore(ctx: Context) -> TaskResult<()> {
    Err(ctx.ignore())
}

#[umbel::task(name = "conformance.reject")]
async fn reject(ctx: Context, requeue: bool) -> TaskResult<()> {
    Err(ctx.reject(requeue, "on purpose"))
}

#[umbel::task(name = "conformance.replace")]
async fn replace(ctx: Context, a: i64, b: i64) -> TaskResult<()> {
    Err(ctx.replace(add::s(a, b)))
}

fn native() -> NativeExecutor {
    NativeExecutor::builder()
        .task(add)
        .task(echo)
        .task(fail)
        .task(crash)
        .task(wait_for_ever)
        .task(stubborn)
        .task(polite)
        .task(report)
        .task(retry)
        .task(ignore)
        .task(reject)
        .task(replace)
        .build()
}

umbel_tests::executor_conformance!(native());

/// A failure that only says that it is one.
#[derive(Debug)]
struct OutOfTea;

impl std::fmt::Display for OutOfTea {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("out of tea")
    }
}

impl std::error::Error for OutOfTea {}

#[umbel::task]
fn brew(#[default = 2] cups: u8, sugar: Option<bool>, #[default] milk: bool) -> Result<String, OutOfTea> {
    if cups > 3 { Err(OutOfTea) } else { Ok(format!("{cups} {sugar:?} {milk}")) }
}

#[umbel::task]
fn shout(text: String) -> Result<String, String> {
    if text.is_empty() { Err("nothing to say".to_owned()) } else { Ok(text.to_uppercase()) }
}

#[umbel::task(retry_on_failure, backoff)]
fn eager() -> Result<(), OutOfTea> {
    Err(OutOfTea)
}

#[umbel::task]
fn crash_thread() {
    panic!("on a thread");
}

#[umbel::task]
async fn deaf() {
    std::future::pending().await
}

#[umbel::task]
async fn blocks_its_thread(ctx: Context) {
    ctx.update_state("WAITING", &());
    while !UNBLOCKED.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1)); // workload
    }
}

/// A runtime waits for its threads, so that the test could not end.
static UNBLOCKED: AtomicBool = AtomicBool::new(false);

#[umbel::task]
fn heeds(ctx: &Context) {
    BEGUN.store(true, Ordering::Release);
    while !ctx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1)); // workload
    }
    HEEDED.store(true, Ordering::Release);
}

static BEGUN: AtomicBool = AtomicBool::new(false);
static HEEDED: AtomicBool = AtomicBool::new(false);

#[umbel::task(
    name = "proj.report",
    queue = "slow",
    max_retries = "none",
    retry_delay = 1.5,
    retry_on_failure,
    backoff = 2,
    backoff_max = 30,
    jitter = false,
    rate_limit = "30/m",
    soft_time_limit = 10,
    time_limit = 12.5,
    acks = "early",
    ignore_result,
    track_started,
    dead_letter_on_failure
)]
async fn every_option() {}

#[umbel::task(rate_limit = "10")]
async fn per_second() {}

#[umbel::task(rate_limit = "0.5/h")]
async fn per_hour() {}

#[umbel::task(rate_limit = "2/s")]
async fn twice_a_second() {}

/// What the task sees of its limits: seconds of each, and whether time is left.
#[umbel::task]
async fn limits(ctx: &Context) -> (Option<f64>, Option<f64>, bool) {
    let limits = ctx.limits();
    (limits.soft_secs, limits.hard_secs, ctx.remaining().is_some_and(|left| left > Duration::ZERO))
}

async fn outcome_of(executor: &NativeExecutor, signature: Signature, order: Order) -> Outcome {
    let invocation = Invocation::new(signature.task.clone(), TaskId::from("t"), &signature.args, &signature.kwargs).unwrap();
    let mut slot = executor.open(Opening::default()).await.unwrap();
    let (job, _orders) = job(executor, invocation, order);
    wait::soon("the run", slot.run(job)).await.unwrap()
}

fn job(executor: &NativeExecutor, invocation: Invocation, order: Order) -> (Job, watch::Sender<Order>) {
    let (sender, orders) = watch::channel(order);
    let spec = executor.spec(&invocation.headers.task).unwrap();
    let job = Job {
        invocation: Arc::new(invocation),
        spec,
        queue: QueueName::from("q"),
        attempt: 1,
        limits: TimeLimit::default(),
        deadline: None,
        orders,
        progress: mpsc::channel(16).0,
        early: mpsc::channel(1).0,
    };
    (job, sender)
}

async fn value_of(executor: &NativeExecutor, signature: Signature) -> Value {
    match outcome_of(executor, signature, Order::Run).await {
        Outcome::Success { value, .. } => value,
        other => panic!("expected a value, got {other:?}"),
    }
}

async fn error_of(executor: &NativeExecutor, signature: Signature) -> (String, Vec<Value>) {
    match outcome_of(executor, signature, Order::Run).await {
        Outcome::Failure(error) => (error.exc_type, error.exc_message),
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn defaults_fill_in_for_missing_arguments() {
    let executor = NativeExecutor::builder().task(brew).build();
    assert_eq!(value_of(&executor, brew::partial()).await, Value::from("2 None false"));
    assert_eq!(value_of(&executor, brew::partial().arg(1_i64).kwarg("milk", true)).await, Value::from("1 None true"));
    assert_eq!(value_of(&executor, brew::s(3, Some(true), false)).await, Value::from("3 Some(true) false"));
}

#[tokio::test]
async fn errors_become_exceptions_of_their_name() {
    let executor = NativeExecutor::builder().task(brew).task(shout).build();
    assert_eq!(error_of(&executor, brew::partial().arg(9_i64)).await, ("OutOfTea".to_owned(), vec![Value::from("out of tea")]));
    assert_eq!(error_of(&executor, shout::s(String::new())).await, ("RuntimeError".to_owned(), vec![Value::from("nothing to say")]));
    assert_eq!(error_of(&executor, brew::partial().arg(900_i64)).await.0, "TypeError");
}

#[tokio::test]
async fn automatic_retry_asks_for_another_attempt_but_not_for_wrong_arguments() {
    let executor = NativeExecutor::builder().task(eager).build();
    match outcome_of(&executor, eager::s(), Order::Run).await {
        Outcome::Retry(retry) => assert_eq!((retry.automatic, retry.error.unwrap().exc_type.as_str()), (true, "OutOfTea")),
        other => panic!("expected a retry, got {other:?}"),
    }
    assert_eq!(error_of(&executor, eager::partial().arg(1_i64)).await.0, "TypeError");
}

#[test]
fn every_option_reaches_the_spec() {
    let mut wanted = TaskSpec::new("proj.report");
    wanted.queue = Some("slow".into());
    wanted.max_retries = None;
    wanted.retry_delay_secs = 1.5;
    wanted.retry_on_failure = true;
    wanted.backoff = Some(Backoff { factor_secs: 2.0, max_secs: 30.0, jitter: false });
    wanted.rate_limit = Rate::parse("30/m").unwrap();
    wanted.time_limit = TimeLimit { soft_secs: Some(10.0), hard_secs: Some(12.5) };
    wanted.acknowledge = Acknowledge::Early;
    wanted.ignore_result = true;
    wanted.track_started = true;
    wanted.dead_letter_on_failure = true;
    assert_eq!(every_option().spec(), wanted);
    assert_eq!(add().spec(), TaskSpec::new("conformance.add"));
    let rates = [per_second().spec(), per_hour().spec(), twice_a_second().spec()];
    assert_eq!(rates.map(|spec| spec.rate_limit.unwrap().per_second()), [10.0, 0.5 / 3600.0, 2.0]);
}

#[tokio::test]
async fn a_task_sees_its_limits_and_how_much_is_left() {
    let executor = NativeExecutor::builder().task(limits).build();
    let invocation = Invocation::new(limits::name(), TaskId::from("t"), &[], &Map::new()).unwrap();
    let (job, _orders) = job(&executor, invocation, Order::Run);
    let limits = TimeLimit { soft_secs: Some(1.0), hard_secs: Some(3600.0) };
    let job = Job { limits, deadline: Some(umbel::clock::now() + 3_600_000), ..job };
    let mut slot = executor.open(Opening::default()).await.unwrap();
    match wait::soon("the run", slot.run(job)).await.unwrap() {
        Outcome::Success { value, .. } => {
            assert_eq!(value, Value::List(vec![Value::Float(1.0), Value::Float(3600.0), Value::Bool(true)]));
        }
        other => panic!("expected a value, got {other:?}"),
    }
}

#[tokio::test]
async fn names_and_functions_stay_reachable() {
    assert_eq!(brew::name().as_str(), "all.conformance.native.brew");
    assert_eq!(brew::call(1, None, true).unwrap(), "1 None true");
    assert_eq!(add::call(1, 2).await, 3);
    assert!(report::call(&Context::detached("x"), 3) == 3);
    assert_eq!((add::s(1, 2).immutable, add::si(1, 2).immutable), (false, true));
}

#[tokio::test]
async fn a_panic_on_a_thread_tells_its_place() {
    let executor = NativeExecutor::builder().task(crash_thread).build();
    match outcome_of(&executor, crash_thread::s(), Order::Run).await {
        Outcome::Failure(error) => {
            assert_eq!((error.exc_type.as_str(), error.exc_message), ("RuntimeError", vec![Value::from("on a thread")]));
            assert!(error.traceback.unwrap().contains("conformance/native.rs:"));
        }
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn a_future_that_cannot_hear_fails_by_the_soft_limit() {
    let executor = NativeExecutor::builder().task(deaf).build();
    match outcome_of(&executor, deaf::s(), Order::Hurry).await {
        Outcome::Failure(error) => {
            assert_eq!((error.exc_type.as_str(), error.exc_module.as_deref()), ("SoftTimeLimitExceeded", Some("billiard.exceptions")));
        }
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn runs_that_cannot_be_ended_are_counted_and_bounded() {
    let executor = NativeExecutor::builder().task(stubborn).task(blocks_its_thread).task(echo).task(add).max_abandoned(2).build();
    for task in [stubborn::s(), blocks_its_thread::s()] {
        let invocation = Invocation::new(task.task, TaskId::from("t"), &[], &Map::new()).unwrap();
        let mut slot = executor.open(Opening::default()).await.unwrap();
        let (sender, mut progress) = mpsc::channel(1);
        let (job, orders) = job(&executor, invocation, Order::Run);
        let job = Job { progress: sender, ..job };
        let (outcome, _) = tokio::join!(wait::soon("the run", slot.run(job)), async {
            wait::soon("the task to begin", progress.recv()).await;
            orders.send(Order::Terminate)
        });
        assert!(matches!(outcome.unwrap(), Outcome::Revoked { terminated: true, .. }));
    }
    assert_eq!(executor.abandoned_runs(), 2);
    // No further thread is started, but whoever waits for one can still be ended; futures are free to run.
    let invocation = Invocation::new(echo::name(), TaskId::from("t"), &[Value::Int(1)], &Map::new()).unwrap();
    let mut slot = executor.open(Opening::default()).await.unwrap();
    let (job, orders) = job(&executor, invocation, Order::Run);
    let (outcome, sum) = tokio::join!(wait::soon("the run", slot.run(job)), async {
        let sum = value_of(&executor, add::s(1, 2)).await;
        orders.send(Order::Terminate).unwrap();
        sum
    });
    assert_eq!(sum, Value::Int(3));
    assert!(matches!(outcome.unwrap(), Outcome::Revoked { terminated: true, .. }));
    // One of them ends by itself, and there is room again.
    UNBLOCKED.store(true, Ordering::Release);
    assert_eq!(value_of(&executor, echo::s(Value::Int(1))).await, Value::Int(1));
    assert_eq!(executor.abandoned_runs(), 1);
}

#[tokio::test]
async fn the_built_in_tasks_do_what_they_mean() {
    let executor = native();
    let ints = |ints: &[i64]| Value::List(ints.iter().copied().map(Value::Int).collect());
    let items = || [ints(&[1, 2]), ints(&[3, 4])];
    assert_eq!(value_of(&executor, Signature::starmap(add::partial(), items())).await, ints(&[3, 7]));
    assert_eq!(value_of(&executor, Signature::map(echo::partial(), items())).await, Value::List(items().to_vec()));
    assert_eq!(value_of(&executor, Signature::map(echo::partial(), [])).await, ints(&[]));
    let accumulate = Signature::new("celery.accumulate").arg(1_i64).arg(2_i64);
    assert_eq!(value_of(&executor, accumulate.clone()).await, ints(&[1, 2]));
    assert_eq!(value_of(&executor, accumulate.clone().kwarg("index", 1_i64)).await, Value::Int(2));
    assert_eq!(error_of(&executor, accumulate.kwarg("index", 2_i64)).await.0, "IndexError");
    assert_eq!(error_of(&executor, Signature::new("celery.chain")).await.0, "NotImplementedError");
    assert_eq!(value_of(&executor, Signature::new("celery.backend_cleanup")).await, Value::Null);
    let unknown = Signature::map(Signature::new("no.such"), [Value::Null]);
    assert_eq!(error_of(&executor, unknown).await, ("NotRegistered".to_owned(), vec![Value::from("no.such")]));
    assert_eq!(error_of(&executor, Signature::map(fail::partial(), [Value::from("bad")])).await.0, "ValueError");
    assert_eq!(error_of(&executor, Signature::map(retry::partial(), [Value::from("busy")])).await.0, "ValueError");
    assert_eq!(error_of(&executor, Signature::starmap(add::partial(), [Value::Int(1)])).await.0, "TypeError");
}

#[tokio::test]
async fn composites_sent_as_tasks_take_themselves_apart() {
    let executor = native();
    let items = (0..5).map(|item| Value::List(vec![Value::Int(item), Value::Int(1)]));
    match outcome_of(&executor, Signature::chunks(add::partial(), items, 2), Order::Run).await {
        Outcome::Replace(group) => {
            let sizes: Vec<usize> = group.tasks().unwrap().iter().map(|task| task.kwargs["it"].as_list().unwrap().len()).collect();
            assert_eq!(sizes, [2, 2, 1]);
        }
        other => panic!("expected a replacement, got {other:?}"),
    }
    let group = Signature::new("celery.group").kwarg("tasks", vec![add::s(1, 2).to_value(), add::si(3, 4).to_value()]);
    let group = group.kwarg("partial_args", vec![Value::Int(9)]);
    match outcome_of(&executor, group, Order::Run).await {
        Outcome::Replace(group) => {
            let args: Vec<usize> = group.tasks().unwrap().iter().map(|task| task.args.len()).collect();
            assert_eq!(args, [3, 2]);
        }
        other => panic!("expected a replacement, got {other:?}"),
    }
}

/// A task that ends because it was told to has not done its work, whatever it returns, and even if it is faster than whoever told it.
#[tokio::test]
async fn what_ends_because_it_was_told_to_is_terminated() {
    let executor = NativeExecutor::builder().task(heeds).build();
    let invocation = Invocation::new(heeds::s().task, TaskId::from("t"), &[], &Map::new()).unwrap();
    let mut slot = executor.open(Opening::default()).await.unwrap();
    let (job, orders) = job(&executor, invocation, Order::Run);
    let running = tokio::spawn(async move { slot.run(job).await });
    wait::until_async("it runs", || async { BEGUN.load(Ordering::Acquire).then_some(()) }).await;
    orders.send(Order::Terminate).unwrap();
    // Blocks the runtime, so that the slot finds both the order and the return.
    wait::until("it has heeded the order", || HEEDED.load(Ordering::Acquire).then_some(()));
    let outcome = wait::soon("the run", running).await.unwrap().unwrap();
    assert!(matches!(outcome, Outcome::Revoked { terminated: true, .. }), "{outcome:?}");
}
