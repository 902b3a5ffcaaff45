//! Following workflows while they run.

use umbel::{
    Signature, Value,
    client::{Progress, Update},
    proto::State,
};
use umbel_tests::wait;

use super::{
    World,
    tasks::{add, echo, gate, ignored, open_gate, sum},
};

async fn next(progress: &mut Progress) -> Option<Update> {
    wait::soon("news", progress.next()).await.unwrap()
}

/// Reads on until the count is `wanted`, returning what tasks said on the way.
async fn until_done(progress: &mut Progress, wanted: usize) -> Vec<(State, Value)> {
    let mut said = Vec::new();
    loop {
        match next(progress).await.expect("there is news until the end") {
            Update::Count { done, .. } if done >= wanted => return said,
            Update::Count { .. } => {}
            Update::Task { state, meta, .. } => said.push((state, meta)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_heard_before_it_ends() {
    let world = World::new().await;
    let key = "heard";
    let result = world.submit(gate::s(key.into(), 1)).await;
    let mut progress = result.progress();
    assert_eq!(next(&mut progress).await, Some(Update::Count { done: 0, total: 1 }));
    match next(&mut progress).await {
        Some(Update::Task { state, meta, .. }) => {
            assert_eq!((state, meta), (State::Custom("AT_THE_GATE".into()), Value::Int(1)));
        }
        other => panic!("expected a state, got {other:?}"),
    }
    assert_eq!(result.state().await.unwrap(), State::Custom("AT_THE_GATE".into()));
    open_gate(key);
    until_done(&mut progress, 1).await;
    assert_eq!(next(&mut progress).await, None);
    assert_eq!(next(&mut progress).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chord_counts_its_members_while_it_runs() {
    let world = World::new().await;
    let key = "counted";
    let header = (0..5).map(|n| echo::s(Value::Int(n))).chain([gate::s(key.into(), 1)]);
    let result = world.submit(Signature::chord(header, echo::partial())).await;
    let mut progress = result.progress();
    assert_eq!(next(&mut progress).await.map(|update| matches!(update, Update::Count { total: 7, .. })), Some(true));
    until_done(&mut progress, 5).await;
    open_gate(key);
    until_done(&mut progress, 7).await;
    assert_eq!(next(&mut progress).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_whose_results_are_ignored_are_counted() {
    let world = World::new().await;
    let key = "ignored and counted";
    let header = (0..3).map(|n| ignored::s(Value::Int(n))).chain([gate::s(key.into(), 1)]);
    let result = world.submit(Signature::chord(header, sum::partial())).await;
    let mut progress = result.progress();
    until_done(&mut progress, 3).await;
    open_gate(key);
    until_done(&mut progress, 5).await;
    assert_eq!(result.get::<i64>(super::LONG).await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_and_finished_workflows_are_followed_to_their_end() {
    let world = World::new().await;
    let group = world.submit(Signature::group((0..4).map(|n| add::s(n, n)))).await;
    let mut progress = group.progress();
    until_done(&mut progress, 4).await;
    assert_eq!(next(&mut progress).await, None);
    let mut again = group.progress();
    until_done(&mut again, 4).await;
    assert_eq!(next(&mut again).await, None);
    let mut none = world.submit(Signature::group([])).await.progress();
    assert_eq!(next(&mut none).await, Some(Update::Count { done: 0, total: 0 }));
    assert_eq!(next(&mut none).await, None);
}
