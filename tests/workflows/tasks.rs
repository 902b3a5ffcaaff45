//! The tasks that workflows are made of here.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use umbel::{Context, NodeBuilder, Signature, TaskFailure, TaskResult, Value};

/// What tasks have noted, by key. Each test has its own.
static NOTES: Mutex<Option<HashMap<String, Vec<Value>>>> = Mutex::new(None);

/// What was noted under `key`, in order.
pub(super) fn notes(key: &str) -> Vec<Value> {
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    notes.as_ref().and_then(|notes| notes.get(key)).cloned().unwrap_or_default()
}

fn write(key: String, value: Value) {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    notes.get_or_insert_default().entry(key).or_default().push(value);
}

#[umbel::task(name = "w.add")]
pub(super) async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[umbel::task(name = "w.sum")]
pub(super) fn sum(numbers: Vec<i64>) -> i64 {
    numbers.into_iter().sum()
}

#[umbel::task(name = "w.echo")]
pub(super) async fn echo(value: Value) -> Value {
    value
}

#[umbel::task(name = "w.pair")]
pub(super) async fn pair(a: Value, b: Value) -> Value {
    Value::List(vec![a, b])
}

#[umbel::task(name = "w.fail")]
pub(super) async fn fail(#[default = "bad"] message: String) -> TaskResult<Value> {
    Err(TaskFailure::new("ValueError", message))
}

/// Fails whatever it is given first.
#[umbel::task(name = "w.fail_with")]
pub(super) async fn fail_with(before: Option<Value>, #[default = "bad"] message: String) -> TaskResult<Value> {
    drop(before);
    Err(TaskFailure::new("ValueError", message))
}

/// Notes `value` under `key` and returns it: the last argument is a caller's, what comes before it a result's.
#[umbel::task(name = "w.note")]
pub(super) async fn note(value: Value, key: String) -> Value {
    write(key, value.clone());
    value
}

/// Fails `times` times before it returns `value`, noting each attempt.
#[umbel::task(name = "w.flaky", max_retries = 3, retry_delay = 0)]
pub(super) async fn flaky(ctx: Context, value: Value, times: u32, key: String) -> TaskResult<Value> {
    write(key, Value::Int(i64::from(ctx.retries())));
    if ctx.retries() < times {
        return Err(ctx.retry().because(TaskFailure::new("ConnectionError", "not yet")).into());
    }
    Ok(value)
}

/// As `flaky`, but by failing.
#[umbel::task(name = "w.unlucky", max_retries = 3, retry_delay = 0, retry_on_failure)]
pub(super) async fn unlucky(ctx: Context, times: u32, key: String) -> TaskResult<u32> {
    write(key, Value::Int(i64::from(ctx.retries())));
    if ctx.retries() < times { Err(TaskFailure::new("KeyError", "unlucky")) } else { Ok(ctx.retries()) }
}

/// Asks for retries without giving a reason.
#[umbel::task(name = "w.insatiable", max_retries = 1, retry_delay = 0)]
pub(super) async fn insatiable(ctx: Context) -> TaskResult<()> {
    Err(ctx.retry().into())
}

/// Puts what it is given in its own place.
#[umbel::task(name = "w.become")]
pub(super) async fn become_(ctx: Context, signature: Value) -> TaskResult<()> {
    Err(ctx.replace(Signature::from_value(&signature)?))
}

/// The same, but retries come first.
#[umbel::task(name = "w.send")]
pub(super) async fn send(ctx: Context, signature: Value) -> TaskResult<String> {
    Ok(ctx.send(Signature::from_value(&signature)?).await?.id().to_owned())
}

#[umbel::task(name = "w.ignored", ignore_result)]
pub(super) async fn ignored(value: Value) -> Value {
    value
}

#[umbel::task(name = "w.ignored_fail", ignore_result)]
pub(super) async fn ignored_fail(before: Option<Value>) -> TaskResult<()> {
    drop(before);
    Err(TaskFailure::new("ValueError", "bad"))
}

/// Says how far it is, then waits until it is asked to end.
#[umbel::task(name = "w.endless")]
pub(super) async fn endless(ctx: Context) -> TaskResult<()> {
    ctx.percent(1, 4);
    ctx.cancelled().await;
    ctx.check()
}

/// Runs until it has noted `until` times under `key` (by others), so that tests decide when it ends.
#[umbel::task(name = "w.gate")]
pub(super) async fn gate(ctx: Context, key: String, until: usize) -> usize {
    ctx.update_state("AT_THE_GATE", &until);
    while notes(&key).len() < until {
        tokio::time::sleep(Duration::from_millis(2)).await; // workload
    }
    until
}

/// What a run knows of itself.
#[umbel::task(name = "w.whoami")]
pub(super) async fn whoami(ctx: &Context) -> (String, String, Option<String>, Option<String>, u32, u32) {
    let text = |id: &dyn std::fmt::Display| id.to_string();
    (
        text(ctx.task_id()),
        text(ctx.root_id()),
        ctx.parent_id().map(|id| text(id)),
        ctx.group_id().map(|id| text(id)),
        ctx.retries(),
        ctx.attempt(),
    )
}

#[umbel::task(name = "w.panic")]
pub(super) async fn panics() {
    panic!("at the disco");
}

#[umbel::task(name = "w.slow", soft_time_limit = 0.05, time_limit = 30)]
pub(super) async fn slow() {
    std::future::pending().await
}

#[umbel::task(name = "w.hopeless", time_limit = 0.05)]
pub(super) fn hopeless(ctx: &Context) {
    while !ctx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(1)); // workload
    }
}

/// Opens gates from outside of any task.
pub(super) fn open_gate(key: &str) {
    write(key.to_owned(), Value::Null);
}

pub(super) fn register(builder: NodeBuilder) -> NodeBuilder {
    builder
        .task(add)
        .task(sum)
        .task(echo)
        .task(pair)
        .task(fail)
        .task(fail_with)
        .task(note)
        .task(flaky)
        .task(unlucky)
        .task(insatiable)
        .task(become_)
        .task(send)
        .task(ignored)
        .task(ignored_fail)
        .task(endless)
        .task(gate)
        .task(whoami)
        .task(panics)
        .task(slow)
        .task(hopeless)
}
