//! Rules 1–9 and 15: what values a workflow is made of.

use umbel::{Signature, SignatureExt, Value, proto::Map};

use super::{
    World, ints, list,
    tasks::{add, echo, ignored, pair, sum},
};

fn chain(tasks: impl IntoIterator<Item = Signature>) -> Signature {
    Signature::chain(tasks)
}

fn group(tasks: impl IntoIterator<Item = Signature>) -> Signature {
    Signature::group(tasks)
}

fn chord(header: impl IntoIterator<Item = Signature>, body: Signature) -> Signature {
    Signature::chord(header, body)
}

fn echoes(values: &[i64]) -> Vec<Signature> {
    values.iter().map(|value| echo::s(Value::Int(*value))).collect()
}

/// A step that adds to what comes.
fn plus(b: i64) -> Signature {
    add::partial().arg(b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_returns_its_value() {
    let world = World::new().await;
    let result = world.submit(add::s(2, 3)).await;
    assert_eq!(result.get::<i64>(super::LONG).await.unwrap(), 5);
    assert!(result.get::<String>(super::LONG).await.unwrap_err().to_string().contains("of another type"));
    assert!(result.is_ready().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_arguments_come_first_and_override() {
    let world = World::new().await;
    let kwargs = Map::from_iter([("b".to_owned(), Value::Int(40))]);
    let result = world.client.submit_with(add::partial().kwarg("b", 1_i64), &[Value::Int(2)], &kwargs).await.unwrap();
    assert_eq!(result.value(super::LONG).await.unwrap(), Value::Int(42));
    let result = world.client.submit_with(chain([plus(1), plus(10)]), &[Value::Int(1)], &Map::new()).await.unwrap();
    assert_eq!(result.value(super::LONG).await.unwrap(), Value::Int(12));
    let members = group([plus(1), plus(2), add::si(7, 7)]);
    let result = world.client.submit_with(members, &[Value::Int(10)], &Map::new()).await.unwrap();
    assert_eq!(result.value(super::LONG).await.unwrap(), ints(&[11, 12, 14]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_hand_values_on() {
    let world = World::new().await;
    assert_eq!(world.value(chain([add::s(1, 1), plus(10), plus(100)])).await, Value::Int(112));
    assert_eq!(world.value(chain([add::s(1, 1), add::si(5, 5), plus(1)])).await, Value::Int(11));
    let nested = chain([add::s(1, 0), chain([plus(2), chain([plus(3), plus(4)])])]);
    assert_eq!(world.value(nested).await, Value::Int(10));
    assert_eq!(
        world.value(chain((0..30).map(|_| plus(1)).enumerate().map(|(i, s)| if i == 0 { add::s(0, 1) } else { s }))).await,
        Value::Int(30)
    );
    assert_eq!(world.value(add::s(1, 2).then(plus(3))).await, Value::Int(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_keep_their_order() {
    let world = World::new().await;
    assert_eq!(world.value(group((0..200).map(|n| add::s(n, n)))).await, Value::List((0..200).map(|n| Value::Int(2 * n)).collect()));
    assert_eq!(world.value(group([])).await, ints(&[]));
    assert_eq!(world.value(chain([add::s(1, 1), group([plus(1), plus(2)])])).await, ints(&[3, 4]));
    assert_eq!(world.value(chain([add::s(1, 1), group([])])).await, ints(&[]));
    let ends_in_group = group([echo::s(Value::Int(1)), chain([add::s(1, 1), group(echoes_of_two())])]);
    assert_eq!(world.value(ends_in_group).await, list([Value::Int(1), ints(&[2, 2])]));
}

fn echoes_of_two() -> [Signature; 2] {
    [echo::partial(), echo::partial()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chords_join_in_order_whatever_finishes_first() {
    let world = World::new().await;
    assert_eq!(world.value(chord(echoes(&[1, 2, 3]), sum::partial())).await, Value::Int(6));
    assert_eq!(world.value(chord(echoes(&[3, 1, 2]), echo::partial())).await, ints(&[3, 1, 2]));
    assert_eq!(world.value(chord((0..200).map(|n| add::s(n, 1)), sum::partial())).await, Value::Int((1..=200).sum()));
    assert_eq!(world.value(chord(echoes(&[7]), echo::partial())).await, ints(&[7]));
    assert_eq!(world.value(chord([], echo::partial())).await, ints(&[]));
    assert_eq!(world.value(chord(echoes(&[1, 2]), pair::partial().arg(9_i64))).await, list([ints(&[1, 2]), Value::Int(9)]));
    assert_eq!(world.value(chord(echoes(&[1, 2]), add::si(4, 4))).await, Value::Int(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_before_a_step_is_a_barrier() {
    let world = World::new().await;
    assert_eq!(world.value(chain([group(echoes(&[1, 2])), sum::partial(), plus(10)])).await, Value::Int(13));
    assert_eq!(world.value(chain([add::s(1, 1), group([plus(1), plus(2)]), sum::partial()])).await, Value::Int(7));
    assert_eq!(world.value(chain([add::s(1, 1), group([]), echo::partial()])).await, ints(&[]));
    let twice = chain([group(echoes(&[1, 2])), group([sum::partial(), echo::partial()]), echo::partial()]);
    assert_eq!(world.value(twice).await, list([Value::Int(3), ints(&[1, 2])]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_members_may_be_workflows() {
    let world = World::new().await;
    let member = chain([add::s(1, 1), plus(1)]);
    assert_eq!(world.value(chord([member, echo::s(Value::Int(9))], echo::partial())).await, ints(&[3, 9]));
    let inner = chord(echoes(&[1, 2]), sum::partial());
    assert_eq!(world.value(chord([inner.clone(), echo::s(Value::Int(9))], echo::partial())).await, ints(&[3, 9]));
    let nested = chain([add::s(1, 1), group([plus(1), plus(2)])]);
    assert_eq!(world.value(chord([nested, echo::s(Value::Int(9))], echo::partial())).await, list([ints(&[3, 4]), Value::Int(9)]));
    let three_deep = chord([chord([inner.clone(), inner], sum::partial()), add::s(1, 1)], sum::partial());
    assert_eq!(world.value(three_deep).await, Value::Int(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps_are_one_task_each() {
    let world = World::new().await;
    let pairs = || (0..5).map(|n| ints(&[n, n]));
    assert_eq!(world.value(Signature::map(echo::partial(), (0..3).map(Value::Int))).await, ints(&[0, 1, 2]));
    assert_eq!(world.value(Signature::starmap(add::partial(), pairs())).await, ints(&[0, 2, 4, 6, 8]));
    assert_eq!(world.value(Signature::chunks(add::partial(), pairs(), 2)).await, list([ints(&[0, 2]), ints(&[4, 6]), ints(&[8])]));
    let as_step = chain([add::s(1, 1), Signature::starmap(add::partial(), pairs()), sum::partial()]);
    assert_eq!(world.value(as_step).await, Value::Int(20));
    let as_member = chord([Signature::starmap(add::partial(), pairs()), echo::s(Value::Int(1))], echo::partial());
    assert_eq!(world.value(as_member).await, list([ints(&[0, 2, 4, 6, 8]), Value::Int(1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_change_nothing_but_time() {
    let world = World::new().await;
    let soon = std::time::Duration::from_millis(30);
    assert_eq!(world.value(add::s(1, 2).countdown(soon)).await, Value::Int(3));
    assert_eq!(world.value(chain([add::s(1, 2), plus(3).countdown(soon)])).await, Value::Int(6));
    assert_eq!(world.value(chord([add::s(1, 2).countdown(soon), add::s(3, 4)], sum::partial())).await, Value::Int(10));
    assert_eq!(world.value(add::s(1, 2).expires(super::LONG)).await, Value::Int(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ignored_results_flow_on() {
    let world = World::new().await;
    let step = ignored::s(Value::Int(5));
    let result = world.submit(chain([step.clone(), plus(1)])).await;
    assert_eq!(result.value(super::LONG).await.unwrap(), Value::Int(6));
    assert_eq!(result.parent().unwrap().record().await.unwrap(), None);
    assert_eq!(world.value(chord([step.clone(), echo::s(Value::Int(1))], sum::partial())).await, Value::Int(6));
    assert_eq!(world.value(chain([echo::s(Value::Int(4)).ignore_result(true), plus(1)])).await, Value::Int(5));
    let last = world.submit(step).await;
    world.nothing_left_to_do().await;
    assert_eq!(last.record().await.unwrap(), None);
}
