//! The cases W 1–12 of the canvas rules: workflows that hang, lose failures or wedge workers in Celery, and end here.

use std::time::Duration;

use umbel::{Signature, SignatureExt, Value, proto::State};

use super::{
    LONG, World, ended, ints, noted,
    tasks::{become_, echo, fail, fail_with, ignored, ignored_fail, note, notes, pair, sum},
    text,
};

fn e(value: i64) -> Signature {
    echo::s(Value::Int(value))
}

/// A step that passes on what it gets.
fn pass() -> Signature {
    echo::partial()
}

/// A member that fails.
fn f() -> Signature {
    fail::s("bad".into())
}

fn chain<const N: usize>(tasks: [Signature; N]) -> Signature {
    Signature::chain(tasks)
}

fn group<const N: usize>(tasks: [Signature; N]) -> Signature {
    Signature::group(tasks)
}

fn chord<const N: usize>(header: [Signature; N], body: Signature) -> Signature {
    Signature::chord(header, body)
}

/// Every task whose value makes the result ends in FAILURE.
async fn all_fail(world: &World, signature: Signature) {
    let records = world.submit(signature).await.wait(LONG).await.unwrap();
    assert!(!records.is_empty() && records.iter().all(|record| record.status == State::Failure), "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_1_composites_after_a_failing_step_fail_as_well() {
    let world = World::new().await;
    all_fail(&world, chain([f(), group([pass(), pass()])])).await;
    all_fail(&world, chain([f(), group([pass(), pass()]), pass()])).await;
    all_fail(&world, chain([f(), pass(), chord([pass(), pass()], sum::partial())])).await;
    all_fail(&world, chord([chain([f(), group([pass(), pass()]), pass()]), e(1)], pass())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_2_an_inner_header_that_fails_fails_the_outer_chord() {
    let world = World::new().await;
    for outer in [chord([chord([f(), e(1)], sum::partial()), e(2)], pass()), chain([group([chord([f()], pass()), e(2)]), pass()])] {
        assert_eq!(world.error(outer).await.exc_type, "ChordError");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_3_a_failing_barrier_fails_the_whole_rest_of_the_chain() {
    let world = World::new().await;
    for rest in [chain([e(1), group([fail_with::partial(), pass()]), pass(), pass()]), chain([chord([f()], pass()), pass()])] {
        assert_eq!(world.error(rest).await.exc_type, "ChordError");
    }
    all_fail(&world, chain([group([f(), e(1)]), pass(), chain([pass()])])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_4_bodies_that_are_chords_or_end_in_groups_fail() {
    let world = World::new().await;
    all_fail(&world, chain([group([f(), e(1)]), group([pass(), pass()]), pass()])).await;
    all_fail(&world, chord([f(), e(1)], chain([pass(), group([pass(), pass()])]))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_5_the_members_of_a_body_group_fail_with_the_original_exception() {
    let world = World::new().await;
    let result = world.submit(chord([f(), e(1)], group([pass(), pass()]))).await;
    for record in result.wait(LONG).await.unwrap() {
        assert_eq!((record.status.clone(), record.error().unwrap().exc_type.as_str()), (State::Failure, "ValueError"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_6_what_follows_an_expired_step_ends() {
    let world = World::new().await;
    let expired = || e(1).expires(Duration::ZERO);
    for chain in [chain([expired(), pass(), pass()]), chain([e(1), pass().expires(Duration::ZERO), pass()])] {
        let record = ended(&world.submit(chain).await).await;
        assert_ne!(record.status, State::Success, "{record:?}");
    }
    let error = world.error(chord([chain([expired(), pass()]), e(2)], pass())).await;
    assert_eq!(error.exc_type, "ChordError");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_7_a_failing_step_without_a_result_fails_the_chain() {
    let world = World::new().await;
    let error = world.error(chain([ignored_fail::partial(), pass(), pass()])).await;
    assert_eq!((error.exc_type.as_str(), text(&error)), ("ValueError", "bad"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_8_a_link_on_a_chain_that_ends_in_a_barrier_is_called() {
    let world = World::new().await;
    let linked = chain([e(1), group([pass(), pass()]), pass()]).link(note::partial().arg("case 8"));
    let seen = noted("the link has been called", "case 8", 1, async { assert_eq!(world.value(linked).await, ints(&[1, 1])) }).await;
    assert_eq!(seen, [ints(&[1, 1])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_9_a_member_that_ends_in_an_empty_group_is_a_member() {
    let world = World::new().await;
    let value = world.value(chord([chain([e(1), group([])]), e(2)], pass())).await;
    let members = value.as_list().unwrap();
    assert_eq!(members.last(), Some(&Value::Int(2)), "{value:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_10_a_replacement_group_that_fails_fails_the_chord() {
    let world = World::new().await;
    let replaced = become_::s(group([f(), e(1)]).to_value());
    assert_eq!(world.error(chord([replaced, e(2)], pass())).await.exc_type, "ChordError");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_11_complex_headers_wedge_nobody() {
    let world = World::new().await;
    let mut results = Vec::new();
    // Far more at once than there are slots: an executor that waited for members would never be free for them.
    for _ in 0..40 {
        results.push(world.submit(chord([chain([e(1), group([pass(), pass()])]), e(2)], pass())).await);
        results.push(world.submit(chord([chain([e(1), group([ignored::partial(), pass()])]), e(2)], pass())).await);
        results.push(world.submit(chord([chord([e(1), e(1)], group([pair::partial().arg(0_i64), pass()])), e(2)], pass())).await);
    }
    let nested = Value::List(vec![ints(&[1, 1]), Value::Int(2)]);
    let deeper = Value::List(vec![Value::List(vec![Value::List(vec![ints(&[1, 1]), Value::Int(0)]), ints(&[1, 1])]), Value::Int(2)]);
    for (index, result) in results.into_iter().enumerate() {
        let value = result.value(LONG).await.unwrap();
        assert_eq!(value, if index % 3 == 2 { deeper.clone() } else { nested.clone() });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_12_errbacks_of_the_first_task_of_a_body_chain_are_called() {
    let world = World::new().await;
    let body = chain([pass().link_error(note::partial().arg("case 12")), pass()]);
    noted("the errback has been called", "case 12", 1, async { drop(world.error(chord([f()], body)).await) }).await;
    world.nothing_left_to_do().await;
    assert_eq!(notes("case 12").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_14_to_16_replacements_by_chains_and_maps() {
    let world = World::new().await;
    let replaced = |signature: Signature| become_::s(signature.to_value());
    world.value(replaced(chain([e(1), pass()])).link(note::partial().arg("case 14"))).await;
    world.nothing_left_to_do().await;
    assert_eq!(notes("case 14"), [Value::Int(1)]);
    let map = Signature::map(pass(), (1..3).map(Value::Int));
    assert_eq!(world.value(replaced(map.clone())).await, ints(&[1, 2]));
    assert_eq!(world.value(chord([replaced(map)], pass())).await, Value::List(vec![ints(&[1, 2])]));
    let ends_in_group = chain([e(1), group([pass(), pass()])]);
    assert_eq!(world.value(replaced(ends_in_group.clone())).await, ints(&[1, 1]));
    assert_eq!(world.value(chord([replaced(ends_in_group), e(2)], pass())).await, Value::List(vec![ints(&[1, 1]), Value::Int(2)]));
}
