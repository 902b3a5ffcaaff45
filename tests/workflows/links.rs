//! Rules 19–21: callbacks after success and after failure.

use umbel::{Signature, Value};

use super::{
    World, ended, noted,
    tasks::{add, echo, fail, fail_with, note, notes, sum},
};

/// An old-style errback: it gets the id of the task that failed.
fn errback(key: &str) -> Signature {
    note::partial().arg(key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_get_the_value_once() {
    let world = World::new().await;
    let key = "links";
    let task = add::s(1, 2).link(note::partial().arg(key)).link(note::partial().arg(key));
    let mut seen = noted("both callbacks have run", key, 2, async { drop(world.value(task).await) }).await;
    world.nothing_left_to_do().await;
    seen.clone_from(&notes(key));
    assert_eq!(seen, [Value::Int(3), Value::Int(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_callback_leaves_its_task_alone() {
    let world = World::new().await;
    let key = "failing link";
    let task = add::s(1, 2).link(fail_with::partial().link_error(errback(key)));
    let seen = noted("the callback's own errback has run", key, 1, async { assert_eq!(world.value(task).await, Value::Int(3)) }).await;
    assert_eq!(seen.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_composites_follow_their_end() {
    let world = World::new().await;
    let chain = Signature::chain([add::s(1, 2), add::partial().arg(3_i64)]).link(note::partial().arg("link of chain"));
    let seen = noted("the chain's callback has run", "link of chain", 1, async { drop(world.value(chain).await) }).await;
    assert_eq!(seen, [Value::Int(6)]);
    let chord = Signature::chord([add::s(1, 2), add::s(3, 4)], sum::partial()).link(note::partial().arg("link of chord"));
    let seen = noted("the chord's callback has run", "link of chord", 1, async { drop(world.value(chord).await) }).await;
    assert_eq!(seen, [Value::Int(10)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errbacks_get_the_id_of_the_failed_task_once() {
    let world = World::new().await;
    let key = "errbacks";
    let result = world.submit(fail::s("bad".into()).link_error(errback(key)).link_error(errback(key)).link(errback("never"))).await;
    let seen = noted("both errbacks have run", key, 2, async { drop(ended(&result).await) }).await;
    assert_eq!(seen, [Value::from(result.id()), Value::from(result.id())]);
    world.nothing_left_to_do().await;
    assert_eq!((notes(key).len(), notes("never").len()), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_calls_its_errback_once_whichever_step_fails() {
    let world = World::new().await;
    for (key, steps) in [
        ("first fails", vec![fail::s("bad".into()), echo::partial(), echo::partial()]),
        ("second fails", vec![echo::s(1.into()), fail_with::partial(), echo::partial()]),
        ("last fails", vec![echo::s(1.into()), echo::partial(), fail_with::partial()]),
    ] {
        let chain = Signature::chain(steps).link_error(errback(key));
        noted("the chain's errback has run", key, 1, async { drop(world.error(chain).await) }).await;
        world.nothing_left_to_do().await;
        assert_eq!(notes(key).len(), 1, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chord_calls_its_errback_once_with_the_bodys_id() {
    let world = World::new().await;
    let key = "errback of chord";
    let header = [fail::s("a".into()), fail::s("b".into()), echo::s(1.into())];
    let result = world.submit(Signature::chord(header, sum::partial()).link_error(errback(key))).await;
    let seen = noted("the chord's errback has run", key, 1, async { drop(ended(&result).await) }).await;
    assert_eq!(seen, [Value::from(result.id())]);
    world.nothing_left_to_do().await;
    assert_eq!(notes(key).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failing_member_of_a_group_calls_the_groups_errback() {
    let world = World::new().await;
    let key = "errback of group";
    let group = Signature::group([fail::s("a".into()), echo::s(1.into()), fail::s("b".into())]).link_error(errback(key));
    let result = world.submit(group).await;
    noted("both failing members have called", key, 2, async { drop(result.wait(super::LONG).await.unwrap()) }).await;
    world.nothing_left_to_do().await;
    assert_eq!(notes(key).len(), 2);
}
