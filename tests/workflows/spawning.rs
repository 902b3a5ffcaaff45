//! Rules 12–14 and 22: tasks that put others in their place, or send others.

use umbel::{Signature, Value, proto::State};

use super::{
    LONG, World, ended, ints, noted, state,
    tasks::{add, become_, echo, fail, flaky, note, notes, send, sum, whoami},
    text,
};

/// A task that puts `signature` in its place.
fn becomes(signature: Signature) -> Signature {
    become_::s(signature.to_value())
}

fn echoes(values: &[i64]) -> Vec<Signature> {
    values.iter().map(|value| echo::s(Value::Int(*value))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replaced_task_gets_the_replacements_value() {
    let world = World::new().await;
    assert_eq!(world.value(becomes(add::s(1, 2))).await, Value::Int(3));
    assert_eq!(world.value(becomes(Signature::chain([add::s(1, 2), add::partial().arg(3_i64)]))).await, Value::Int(6));
    assert_eq!(world.value(becomes(Signature::group(echoes(&[1, 2])))).await, ints(&[1, 2]));
    assert_eq!(world.value(becomes(Signature::group([]))).await, ints(&[]));
    assert_eq!(world.value(becomes(Signature::chord(echoes(&[1, 2]), sum::partial()))).await, Value::Int(3));
    assert_eq!(world.value(becomes(becomes(becomes(add::s(1, 2))))).await, Value::Int(3));
    assert_eq!(world.value(becomes(flaky::s(9.into(), 2, "replacement".into()))).await, Value::Int(9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacements_take_the_place_in_the_workflow() {
    let world = World::new().await;
    let group = || becomes(Signature::group(echoes(&[1, 2])));
    assert_eq!(world.value(Signature::chain([becomes(add::s(1, 2)), add::partial().arg(3_i64)])).await, Value::Int(6));
    assert_eq!(world.value(Signature::chain([group(), sum::partial()])).await, Value::Int(3));
    let header = [becomes(add::s(1, 2)), becomes(flaky::s(4.into(), 1, "in a header".into())), echo::s(5.into())];
    assert_eq!(world.value(Signature::chord(header, echo::partial())).await, ints(&[3, 4, 5]));
    let nested = Signature::chord([group(), echo::s(5.into())], echo::partial());
    assert_eq!(world.value(nested).await, Value::List(vec![ints(&[1, 2]), Value::Int(5)]));
    assert_eq!(world.value(Signature::chord(echoes(&[1]), becomes(add::s(1, 2)).immutable())).await, Value::Int(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_move_to_the_replacement() {
    let world = World::new().await;
    world.value(becomes(add::s(1, 2)).link(note::partial().arg("moved link"))).await;
    let error = world.error(becomes(fail::s("bad".into())).link_error(note::partial().arg("moved errback"))).await;
    assert_eq!(text(&error), "bad");
    noted("the errback has run", "moved errback", 1, world.nothing_left_to_do()).await;
    assert_eq!((notes("moved link"), notes("moved errback").len()), (vec![Value::Int(3)], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_may_send_others_and_lists_them() {
    let world = World::new().await;
    let result = world.submit(send::s(whoami::s().to_value())).await;
    let child_id = result.get::<String>(LONG).await.unwrap();
    let children = result.children().await.unwrap();
    assert_eq!(children.iter().map(|child| child.id()).collect::<Vec<_>>(), [child_id.as_str()]);
    type Who = (String, String, Option<String>, Option<String>, u32, u32);
    let (id, root, parent, group, retries, attempt) = children[0].get::<Who>(LONG).await.unwrap();
    assert_eq!((id, root, parent), (child_id, result.id().to_owned(), Some(result.id().to_owned())));
    assert_eq!((group, retries, attempt), (None, 0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_task_sends_fails_for_itself() {
    let world = World::new().await;
    let result = world.submit(send::s(fail::s("bad".into()).to_value())).await;
    assert_eq!(ended(&result).await.status, State::Success);
    let child = result.children().await.unwrap().pop().unwrap();
    assert_eq!(ended(&child).await.status, State::Failure);
    assert_eq!(state(&result).await, State::Success);
}
