//! Revoking what was submitted: a task, a group, a whole workflow.

use std::time::Duration;

use umbel::{AsyncResult, Signature, SignatureExt, client::ResultError, proto::State};
use umbel_tests::wait;

use super::{
    LONG, World, ended,
    tasks::{add, echo, endless, note, notes, sum},
};

async fn running(result: &AsyncResult) {
    wait::until_async("the task runs", || async { (result.state().await.unwrap() == State::Custom("PROGRESS".into())).then_some(()) })
        .await;
}

async fn revoked(result: &AsyncResult) -> String {
    match result.value(LONG).await {
        Err(ResultError::Revoked { reason, .. }) => reason,
        other => panic!("expected a revocation, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_task_never_starts() {
    let world = World::new().await;
    let result = world.submit(note::s(1.into(), "revoked".into()).countdown(Duration::from_millis(300))).await;
    result.revoke().await.unwrap();
    assert_eq!(revoked(&result).await, "revoked");
    assert_eq!(notes("revoked"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_task_is_ended() {
    let world = World::new().await;
    let result = world.submit(endless::s()).await;
    running(&result).await;
    result.revoke().await.unwrap();
    assert_eq!(revoked(&result).await, "terminated");
    assert_eq!(world.value(add::s(1, 2)).await, 3.into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_chain_ends_where_it_is() {
    let world = World::new().await;
    let last = world.submit(Signature::chain([endless::s(), echo::partial(), note::partial().arg("revoked chain")])).await;
    let first = last.parent().unwrap().parent().unwrap();
    running(&first).await;
    last.revoke_workflow().await.unwrap();
    assert_eq!(revoked(&first).await, "terminated");
    assert!(ended(&last).await.status.is_ready());
    assert_eq!(notes("revoked chain"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_chord_never_reaches_its_body() {
    let world = World::new().await;
    let header = [endless::s(), endless::s(), add::s(1, 2)];
    let body = world.submit(Signature::chord(header, note::partial().arg("revoked body"))).await;
    for member in &body.parent().unwrap().members().unwrap()[..2] {
        running(member).await;
    }
    body.revoke_workflow().await.unwrap();
    assert_ne!(ended(&body).await.status, State::Success);
    world.nothing_left_to_do().await;
    assert_eq!(notes("revoked body"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_group_ends_every_member() {
    let world = World::new().await;
    let group = world.submit(Signature::group([endless::s(), endless::s()])).await;
    for member in group.members().unwrap() {
        running(&member).await;
    }
    group.revoke().await.unwrap();
    let records = group.wait(LONG).await.unwrap();
    assert!(records.iter().all(|record| record.status == State::Revoked), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_go_on() {
    let world = World::new().await;
    let result = world.submit(endless::s()).await;
    running(&result).await;
    let other = world.submit(Signature::chord([add::s(1, 2), add::s(3, 4)], sum::partial())).await;
    result.revoke_workflow().await.unwrap();
    assert_eq!(other.get::<i64>(LONG).await.unwrap(), 10);
    assert_eq!(revoked(&result).await, "terminated");
}
