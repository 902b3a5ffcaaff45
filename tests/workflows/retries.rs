//! Rule 11: attempts of one task, alone and inside of workflows.

use umbel::{Signature, Value, proto::State};

use super::{
    World, ended, ints,
    tasks::{add, echo, flaky, insatiable, note, notes, sum, unlucky},
    text,
};

fn flaky_s(value: i64, times: u32, key: &str) -> Signature {
    flaky::s(Value::Int(value), times, key.to_owned())
}

fn attempts(key: &str) -> Value {
    Value::List(notes(key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_task_counts_up_and_succeeds() {
    let world = World::new().await;
    let result = world.submit(flaky_s(7, 2, "retried")).await;
    let record = ended(&result).await;
    assert_eq!((record.status, record.result), (State::Success, Value::Int(7)));
    assert_eq!(attempts("retried"), ints(&[0, 1, 2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_attempts_are_left_the_reason_is_the_failure() {
    let world = World::new().await;
    let error = world.error(flaky_s(7, 99, "exhausted")).await;
    assert_eq!((error.exc_type.as_str(), text(&error)), ("ConnectionError", "not yet"));
    assert_eq!(attempts("exhausted"), ints(&[0, 1, 2, 3]));
    let error = world.error(insatiable::s()).await;
    assert_eq!(error.exc_type, "MaxRetriesExceededError");
    assert!(text(&error).starts_with("Can't retry w.insatiable["), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn automatic_retries_end_with_the_tasks_own_exception() {
    let world = World::new().await;
    assert_eq!(world.value(unlucky::s(2, "lucky".into())).await, Value::Int(2));
    let error = world.error(unlucky::s(99, "unlucky".into())).await;
    assert_eq!((error.exc_type.as_str(), text(&error)), ("KeyError", "unlucky"));
    assert_eq!(attempts("unlucky"), ints(&[0, 1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_task_keeps_its_place() {
    let world = World::new().await;
    let chain = Signature::chain([flaky_s(1, 2, "in chain"), add::partial().arg(10_i64)]);
    assert_eq!(world.value(chain).await, Value::Int(11));
    let header = [flaky_s(1, 2, "in header"), echo::s(2.into()), flaky_s(3, 1, "in header too")];
    assert_eq!(world.value(Signature::chord(header, echo::partial())).await, ints(&[1, 2, 3]));
    let body = flaky::partial().arg(1_i64).arg("in body");
    assert_eq!(world.value(Signature::chord([echo::s(1.into()), echo::s(2.into())], body)).await, ints(&[1, 2]));
    assert_eq!(attempts("in body"), ints(&[0, 1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_come_after_the_last_attempt_only() {
    let world = World::new().await;
    world.value(flaky_s(5, 2, "linked").link(note::partial().arg("after retries"))).await;
    let errback = note::partial().arg("after the last");
    world.error(flaky_s(5, 99, "err-linked").link_error(errback)).await;
    world.nothing_left_to_do().await;
    assert_eq!(notes("after retries"), [Value::Int(5)]);
    assert_eq!(notes("after the last").len(), 1);
    let error = world.error(Signature::chord([flaky_s(1, 99, "in a failing header")], sum::partial())).await;
    assert!(text(&error).ends_with("raised ConnectionError('not yet')"), "{error:?}");
}
