//! Rules 16–18: what fails with a task, and how; and what limits, panics and strangers do to a workflow.

use std::time::Duration;

use umbel::{Signature, SignatureExt, client::ResultError, proto::State};

use super::{
    LONG, World, ended, state,
    tasks::{add, echo, fail, fail_with, hopeless, note, notes, panics, slow, sum},
    text,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_later_step_fails_with_the_same_exception() {
    let world = World::new().await;
    let last =
        world.submit(Signature::chain([add::s(1, 1), fail_with::partial(), add::partial().arg(1_i64), add::partial().arg(2_i64)])).await;
    let error = last.value(LONG).await.unwrap_err();
    assert!(matches!(&error, ResultError::Failed { error, .. } if error.exc_type == "ValueError" && text(error) == "bad"), "{error:?}");
    assert!(error.to_string().contains("ValueError('bad')"), "{error}");
    let third = last.parent().unwrap();
    let second = third.parent().unwrap();
    let first = second.parent().unwrap();
    assert_eq!(ended(&third).await.error().unwrap().exc_type, "ValueError");
    assert_eq!((state(&second).await, state(&first).await), (State::Failure, State::Success));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_member_stops_nobody_but_the_body() {
    let world = World::new().await;
    let key = "siblings";
    let header = [note::s(1.into(), key.into()), fail::s("bad".into()), note::s(2.into(), key.into())];
    let body = world.submit(Signature::chord(header, note::partial().arg("body ran"))).await;
    let record = ended(&body).await;
    let error = record.error().unwrap();
    assert_eq!((record.status, error.exc_type.as_str()), (State::Failure, "ChordError"));
    let member = body.parent().unwrap().members().unwrap()[1].id().to_owned();
    assert_eq!(text(&error), format!("Dependency {member} raised ValueError('bad')"));
    assert_eq!(notes(key).len(), 2);
    world.nothing_left_to_do().await;
    assert_eq!(notes("body ran"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_failure_in_order_is_named_and_a_failing_body_has_its_own() {
    let world = World::new().await;
    let header = [echo::s(1.into()), fail::s("second".into()).countdown(Duration::from_millis(50)), fail::s("third".into())];
    let error = world.error(Signature::chord(header, sum::partial())).await;
    assert!(text(&error).ends_with("raised ValueError('second')"), "{error:?}");
    let error = world.error(Signature::chord([echo::s(1.into())], fail_with::partial())).await;
    assert_eq!((error.exc_type.as_str(), text(&error)), ("ValueError", "bad"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_fails_by_its_first_failing_member() {
    let world = World::new().await;
    let group = world.submit(Signature::group([echo::s(1.into()), fail::s("a".into()), fail::s("b".into())])).await;
    let records = group.wait(LONG).await.unwrap();
    assert_eq!(records.iter().map(|record| record.status.as_str()).collect::<Vec<_>>(), ["SUCCESS", "FAILURE", "FAILURE"]);
    match group.value(LONG).await {
        Err(ResultError::Failed { task_id, error }) => {
            assert_eq!((task_id.as_str(), text(&error)), (group.members().unwrap()[1].id(), "a"));
        }
        other => panic!("expected a failure, got {other:?}"),
    }
    assert_eq!((state(&group).await, group.completed().await.unwrap()), (State::Failure, (1, 3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_limits_and_strangers_are_failures() {
    let world = World::new().await;
    let error = world.error(panics::s()).await;
    assert_eq!((error.exc_type.as_str(), text(&error)), ("RuntimeError", "at the disco"));
    assert!(error.traceback.unwrap().contains("workflows/tasks.rs:"));
    assert_eq!(world.error(slow::s()).await.exc_type, "SoftTimeLimitExceeded");
    assert_eq!(world.error(hopeless::s()).await.exc_type, "TimeLimitExceeded");
    let error = world.error(add::partial().arg(1_i64)).await;
    assert_eq!((error.exc_type.as_str(), text(&error)), ("TypeError", "add() missing 1 required positional argument: 'b'"));
    let error = world.error(Signature::new("no.such.task")).await;
    assert_eq!((error.exc_type.as_str(), text(&error)), ("NotRegistered", "no.such.task"));
    let error = world.error(Signature::map(fail::partial(), ["x".into()])).await;
    assert_eq!(error.exc_type, "ValueError");
    // After all of that the node is as fit as before.
    assert_eq!(world.value(add::s(1, 2)).await, 3.into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_tasks_are_revoked() {
    let world = World::new().await;
    let late = add::s(1, 2).expires(Duration::ZERO);
    match world.submit(late.clone()).await.value(LONG).await {
        Err(ResultError::Revoked { reason, .. }) => assert_eq!(reason, "expired"),
        other => panic!("expected a revocation, got {other:?}"),
    }
    let error = world.error(Signature::chord([late, echo::s(1.into())], sum::partial())).await;
    assert!(text(&error).contains("TaskRevokedError('expired')"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_even_if_the_task_does_not() {
    let world = World::new().await;
    let result = world.submit(add::s(1, 2).queue("nobody-reads-this")).await;
    match result.value(Duration::from_millis(20)).await {
        Err(ResultError::TimedOut { state, task_id, .. }) => assert_eq!((state, task_id.as_str()), (State::Pending, result.id())),
        other => panic!("expected a timeout, got {other:?}"),
    }
    let queue = "nobody-reads-this".into();
    assert_eq!(world.client.peek(&queue, 10).await.unwrap().len(), 1);
    assert_eq!(world.client.purge(&queue).await.unwrap(), 1);
}
