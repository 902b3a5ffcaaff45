//! Rule 23: the tree of results, forwards by children and backwards by parents.

use umbel::{AsyncResult, Signature, proto::State};

use super::{
    LONG, World, ended, state,
    tasks::{add, echo, fail_with, note, sum},
};

async fn child_ids(result: &AsyncResult) -> Vec<String> {
    result.children().await.unwrap().iter().map(|child| child.id().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_can_be_walked_both_ways() {
    let world = World::new().await;
    let last = world.submit(Signature::chain([add::s(1, 1), add::partial().arg(1_i64), add::partial().arg(1_i64)])).await;
    ended(&last).await;
    let second = last.parent().unwrap();
    let first = second.parent().unwrap();
    assert!(first.parent().is_none());
    assert_eq!(child_ids(&first).await, [second.id()]);
    assert_eq!(child_ids(&second).await, [last.id()]);
    assert!(child_ids(&last).await.is_empty());
    let stored = world.client.result_of(last.tuple().clone());
    assert_eq!(stored.get::<i64>(LONG).await.unwrap(), 4);
    assert_eq!(world.client.result(first.id()).get::<i64>(LONG).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chords_parent_is_its_header() {
    let world = World::new().await;
    let body = world.submit(Signature::chord([add::s(1, 1), add::s(2, 2)], sum::partial())).await;
    ended(&body).await;
    let header = body.parent().unwrap();
    assert!(header.is_group() && header.parent().is_none());
    let members = header.members().unwrap();
    assert_eq!(header.get::<Vec<i64>>(LONG).await.unwrap(), [2, 4]);
    for member in &members {
        assert!(child_ids(member).await.is_empty(), "the body is nobody's child");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_before_a_barrier_lists_the_header() {
    let world = World::new().await;
    let chain = Signature::chain([add::s(1, 1), Signature::group([echo::partial(), echo::partial()]), sum::partial()]);
    let last = world.submit(chain).await;
    assert_eq!(last.get::<i64>(LONG).await.unwrap(), 4);
    let header = last.parent().unwrap();
    let first = header.parent().unwrap();
    let children = first.children().await.unwrap();
    assert_eq!(children.len(), 1);
    assert_eq!((children[0].id(), children[0].members().map(|members| members.len())), (header.id(), Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_callbacks_show_as_one_group() {
    let world = World::new().await;
    let task = add::s(1, 1).link(note::partial().arg("tree a")).link(note::partial().arg("tree b"));
    let result = world.submit(task).await;
    ended(&result).await;
    let children = result.children().await.unwrap();
    assert_eq!((children.len(), children[0].members().map(|members| members.len())), (1, Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_never_ran_are_nobodys_children() {
    let world = World::new().await;
    let last = world.submit(Signature::chain([add::s(1, 1), fail_with::partial(), echo::partial()])).await;
    ended(&last).await;
    let failed = last.parent().unwrap();
    assert!(child_ids(&failed).await.is_empty());
    assert_eq!(state(&failed.parent().unwrap()).await, State::Success);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_tree_is_gone() {
    let world = World::new().await;
    let last = world.submit(Signature::chain([add::s(1, 1), add::partial().arg(1_i64)])).await;
    ended(&last).await;
    last.forget().await.unwrap();
    assert_eq!((state(&last).await, state(&last.parent().unwrap()).await), (State::Pending, State::Pending));
}
