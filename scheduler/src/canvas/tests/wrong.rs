//! The W cases, where Celery hangs, loses failures or wedges its workers, and the P cases that are decided here.

use umbel_proto::{Signature, State, Value};

use super::*;
use crate::canvas::Launched;

fn t(name: &str) -> Signature {
    task(name)
}

fn chain(steps: impl IntoIterator<Item = Signature>) -> Signature {
    Signature::chain(steps)
}

fn group(members: impl IntoIterator<Item = Signature>) -> Signature {
    Signature::group(members)
}

fn replaced(name: &str, with: &Signature) -> Signature {
    t(name).kwarg("replace", with.to_value())
}

fn calls(model: &Model, name: &str) -> usize {
    model.endings.iter().filter(|(message, _)| message.headers.task.as_str() == name).count()
}

/// Every id that the client holds, with its state and exception.
fn leaves(model: &Model, launched: &Launched) -> Vec<(State, String)> {
    fn walk(model: &Model, result: &umbel_proto::ResultTuple, found: &mut Vec<(State, String)>) {
        match &result.children {
            Some(members) => members.iter().for_each(|member| walk(model, member, found)),
            None => {
                let record = model.record(&result.id).unwrap_or_else(|| panic!("{} stays open", result.id));
                let error = record.error().map(|error| format!("{}: {}", error.exc_type, show(&error.exc_message[0])));
                found.push((record.status.clone(), error.unwrap_or_default()));
            }
        }
        if let Some(parent) = &result.parent {
            walk(model, parent, found);
        }
    }
    let mut found = Vec::new();
    walk(model, &launched.result, &mut found);
    found
}

/// Runs a workflow of which everything that the client holds must end, and gives the result's own exception.
fn ends_with(signature: &Signature) -> (Model, String) {
    let (model, launched) = run(signature);
    let text = leaves(&model, &launched).swap_remove(0).1;
    (model, text)
}

fn is_chord_error(text: &str) -> bool {
    text.starts_with("ChordError: Dependency ") || text.starts_with("ChordError: Join error: ")
}

#[test]
fn w01_a_failing_step_in_front_of_composites_fails_them_all() {
    for workflow in [
        chain([failing("f"), group([t("b"), t("c")])]),
        chain([failing("f"), group([t("b"), t("c")]), t("d")]),
        chain([failing("f"), t("b"), Signature::chord([t("c")], group([t("d"), t("e")]))]),
    ] {
        let (model, launched) = run(&workflow);
        for (state, text) in leaves(&model, &launched) {
            assert_eq!((state, text.as_str()), (State::Failure, "ValueError: f"));
        }
        let (model, _) = run(&Signature::chord([workflow, t("x")], t("y").link_error(t("e"))));
        assert_eq!((calls(&model, "y"), calls(&model, "e")), (0, 1), "as a header member it fails the outer body");
    }
}

/// Header members as a client has placed them in a chord that will now never be opened: nobody counts them.
#[test]
fn w01_members_of_a_chord_that_is_never_opened_are_no_parts() {
    let body = t("z").set("task_id", "z").set("group_id", "header");
    let member = t("b").set("task_id", "b").set("group_id", "header").set("group_index", 0i64).set("chord", body.to_value());
    let chord = Signature::chord([member], body).set("task_id", "header");
    let (model, _) = run(&failing("f").set("chain", vec![chord.to_value()]));
    assert!(model.chords.is_empty());
    for id in ["b", "z"] {
        assert_eq!(model.record(id).unwrap().status, State::Failure, "{id}");
    }
}

#[test]
fn w02_an_inner_header_failure_reaches_the_outer_chord() {
    let inner = Signature::chord([failing("f"), t("a")], t("b"));
    for outer in [Signature::chord([inner.clone(), t("c")], t("d")), chain([group([inner, t("c")]), t("d")])] {
        let (_, text) = ends_with(&outer);
        assert!(text.contains("raised ChordError(") && text.contains("ValueError('f')"), "{text}");
    }
}

#[test]
fn w03_a_later_barrier_with_more_than_one_step_after_it_fails_them_all() {
    for workflow in [
        chain([t("a"), group([failing("f"), t("b")]), t("c"), t("d")]),
        chain([group([failing("f"), t("b")]), t("c"), t("d")]),
        chain([t("a"), Signature::chord([failing("f"), t("b")], chain([t("c"), t("d")]))]),
        chain([Signature::chord([failing("f")], t("b")), t("c")]),
        chain([group([failing("f"), t("a")]), t("b"), chain([t("c")])]),
    ] {
        let (model, text) = ends_with(&workflow.link_error(t("e")));
        assert!(is_chord_error(&text), "{text}");
        assert_eq!(calls(&model, "e"), 1, "the chain's errback is called once");
    }
}

#[test]
fn w04_a_header_failure_in_front_of_a_chord_or_group_ends_it() {
    for workflow in [
        chain([group([failing("f"), t("b")]), group([t("c"), t("d")]), t("e")]),
        Signature::chord([failing("f")], chain([t("a"), group([t("b"), t("c")])])),
        Signature::chord([failing("f")], Signature::chord([t("a")], t("b"))),
    ] {
        let (_, text) = ends_with(&workflow);
        assert!(is_chord_error(&text), "{text}");
    }
}

#[test]
fn w05_members_of_a_body_group_fail_with_the_original_exception_and_call_their_errbacks() {
    let body = group([t("b").link_error(t("own")), t("c")]);
    let (model, launched) = run(&Signature::chord([failing("f"), t("a")], body).link_error(t("e")));
    for (state, text) in leaves(&model, &launched).into_iter().take(2) {
        assert_eq!((state, is_chord_error(&text)), (State::Failure, false), "{text}");
    }
    assert_eq!((calls(&model, "own"), calls(&model, "e")), (1, 2), "the chord's is each member's");

    let nested = Signature::chord([failing("f")], group([t("b").link_error(t("own"))]));
    let (model, _) = run(&Signature::chord([nested], t("c")));
    assert_eq!(calls(&model, "own"), 1, "within a header as well");
}

/// Goal: what a client links to a chord, and so to the chord in its header, is called once in all, unless its words differ by an id.
#[test]
fn w02_an_errback_of_both_chords_is_called_once() {
    for (errback, count) in [(t("e").immutable(), 1), (t("e"), 2)] {
        let inner = Signature::chord([failing("f"), t("a")], t("b")).link_error(errback.clone());
        let (model, _) = run(&Signature::chord([t("c"), inner], t("d")).link_error(errback));
        assert_eq!(calls(&model, "e"), count);
    }
}

#[test]
fn w06_an_expired_step_revokes_all_that_follows_it() {
    let expired = t("x").set("expires", -1.0);
    let (model, launched) = run(&chain([t("a"), expired.clone(), t("b"), group([t("c"), t("d")]), t("e")]).link_error(t("eb")));
    let states: Vec<State> = leaves(&model, &launched).into_iter().map(|(state, _)| state).collect();
    let (last, before) = states.split_last().unwrap();
    assert!(before.iter().all(|state| *state == State::Revoked) && *last == State::Success, "{states:?}");
    assert_eq!(calls(&model, "eb"), 0);
    let (_, text) = ends_with(&Signature::chord([chain([expired, t("a")]), t("b")], t("c")));
    assert!(text.ends_with("raised TaskRevokedError('expired')"), "{text}");
}

#[test]
fn w07_a_failing_step_with_an_ignored_result_still_fails_what_follows() {
    let (model, launched) = run(&chain([failing("f").set("ignore_result", true), t("b"), t("c")]));
    assert_eq!(model.record(&launched.result.id).unwrap().status, State::Failure);
    assert_eq!(model.record(&launched.result.parent.as_ref().unwrap().id).unwrap().status, State::Failure);
}

#[test]
fn w08_a_link_on_a_chain_that_ends_in_a_barrier_goes_to_the_body() {
    let (model, launched) = run(&chain([t("a"), group([t("b"), t("c")]), t("d")]).link(t("e")));
    assert_eq!(show(&model.value(&launched.result).unwrap()), "d([b(a()),c(a())])");
    assert_eq!(calls(&model, "e"), 1);
}

/// The same as Celery's clients write it: the link on the chord that stands in the chain.
#[test]
fn w08_in_a_clients_message_too() {
    let chord =
        Signature::chord([t("b"), t("c")], t("d").set("task_id", "body")).set("task_id", "header").set("link", vec![t("e").to_value()]);
    let (model, _) = run(&t("a").set("chain", vec![chord.to_value()]));
    assert_eq!(show(&model.record("body").unwrap().result), "d([b(a()),c(a())])");
    assert_eq!(calls(&model, "e"), 1);
}

#[test]
fn w09_a_member_that_ends_in_an_empty_group_gives_an_empty_list() {
    let (model, launched) = run(&Signature::chord([chain([t("a"), group([])]), t("d")], t("e")));
    assert_eq!(show(&model.value(&launched.result).unwrap()), "e([[],d()])");
    assert_eq!((calls(&model, "a"), model.endings.len()), (1, 3), "only the user's tasks run");
}

#[test]
fn w10_a_member_replaced_by_a_failing_group_fails_its_chord() {
    for with in [group([failing("f"), t("b")]), chain([t("a"), group([failing("f"), t("b")])]), chain([failing("f"), group([t("b")])])] {
        let (_, text) = ends_with(&Signature::chord([replaced("r", &with), t("c")], t("d")));
        assert!(is_chord_error(&text), "{text}");
    }
}

/// Nothing is ever joined by waiting: each member is one part, and a nested list is put together without a run of anything.
#[test]
fn w11_nested_lists_need_no_waiting() {
    let ignored = t("i").set("ignore_result", true);
    let (model, launched) = run(&Signature::chord([chain([t("a"), group([ignored, t("b")])]), t("c")], t("d")));
    assert_eq!(show(&model.value(&launched.result).unwrap()), "d([[i(a()),b(a())],c()])");
    assert_eq!(model.endings.len(), 5, "only the user's tasks run");
    let deep = Signature::chord([Signature::chord([t("a"), t("b")], group([t("c"), chain([t("d"), group([t("e")])])])), t("f")], t("g"));
    let (model, launched) = run(&deep);
    assert_eq!(show(&model.value(&launched.result).unwrap()), "g([[c([a(),b()]),[e(d([a(),b()]))]],f()])");
}

#[test]
fn w12_all_errbacks_that_a_failed_header_concerns_are_called_once() {
    let first = t("b").link_error(t("e_first"));
    let (model, _) = run(&Signature::chord([failing("f")], chain([first.clone(), t("c")])));
    assert_eq!(calls(&model, "e_first"), 1);
    let body = chain([first, t("c")]).link_error(t("e_chain"));
    let (model, _) = run(&Signature::chord([failing("f")], body).link_error(t("e_chord")));
    for name in ["e_first", "e_chain", "e_chord"] {
        assert_eq!(calls(&model, name), 1, "{name}");
    }
    let (model, _) = run(&chain([Signature::chord([failing("f")], t("b").link_error(t("e"))), t("c")]).link_error(t("g")));
    assert_eq!((calls(&model, "e"), calls(&model, "g")), (1, 1));
}

/// A body chain as Celery 5.6 writes it, with ids only inside.
#[test]
fn w12_in_a_clients_message_too() {
    let step = |name: &str| t(name).set("task_id", name);
    let body = chain([step("b").link_error(t("e")), step("c")]).set("task_id", "c");
    let chord = Signature::chord([failing("f").set("task_id", "f")], body).set("task_id", "header");
    let (model, _) = run(&t("a").set("chain", vec![chord.to_value()]));
    for id in ["b", "c"] {
        assert_eq!(model.record(id).unwrap().status, State::Failure, "{id}");
    }
    assert_eq!(calls(&model, "e"), 1);
}

#[test]
fn p13_retry_and_replace_keep_ignore_result() {
    for signature in [t("a").kwarg("retry", 2i64), replaced("r", &t("a")), replaced("r", &group([t("a")]))] {
        let (model, launched) = run(&signature.set("ignore_result", true));
        assert_eq!(model.record(&launched.result.id), None);
    }
}

#[test]
fn p14_callbacks_of_a_task_replaced_by_a_chain_run_once() {
    for with in [chain([t("b"), t("c")]), t("b"), group([t("b"), t("c")]), Signature::chord([t("b")], t("c"))] {
        let (model, _) = run(&replaced("r", &with).link(t("d")));
        assert_eq!(calls(&model, "d"), 1);
    }
}

#[test]
fn p15_replaced_by_a_map_the_id_is_kept() {
    let map = Signature::map(t("m"), [Value::Null]);
    let (model, launched) = run(&Signature::chord([replaced("r", &map), t("a")], t("b")));
    assert_eq!(model.record(&launched.result.id).unwrap().status, State::Success);
    let (model, launched) = run(&replaced("r", &map).link(t("l")));
    assert_eq!((model.record(&launched.result.id).unwrap().status.clone(), calls(&model, "l")), (State::Success, 1));
}

#[test]
fn p16_replaced_by_a_chain_that_ends_in_a_group() {
    let with = chain([t("a"), group([t("b"), t("c")])]);
    let (model, launched) = run(&replaced("r", &with));
    assert_eq!(show(&model.value(&launched.result).unwrap()), "[b(a()),c(a())]");
    let mut model = Model::default();
    let launched = model.submit(&Signature::chord([replaced("r", &with), t("d")], t("e"))).unwrap();
    model.run(&mut behave, &mut |n| n - 1);
    assert_eq!(show(&model.value(&launched.result).unwrap()), "e([[b(a()),c(a())],d()])");
}

/// Whoever ran the replaced task takes from its queue, and can run the collector.
#[test]
fn p16_the_collector_goes_to_the_replaced_tasks_queue() {
    let mut model = Model::default();
    model.submit(&replaced("r", &group([t("a")])).set("queue", "media")).unwrap();
    let mut queues = Vec::new();
    while model.step(&mut behave, &mut |_| 0) {
        let collectors = model.queue.iter().filter(|message| message.invocation.headers.task.as_str() == super::super::node::ACCUMULATE);
        queues.extend(collectors.map(|message| message.queue.to_string()));
    }
    assert_eq!(queues, ["media"]);
}

/// What the client library has built is sent as it says, odd as it is.
#[test]
fn c18_members_a_client_has_reversed_stay_reversed() {
    let frozen = |name: &str, index: i64| t(name).set("task_id", name).set("group_index", index);
    let chord = Signature::chord([frozen("c", 0), frozen("b", 1)], t("d").set("task_id", "d")).set("task_id", "header");
    let (model, _) = run(&t("a").set("chain", vec![chord.to_value()]));
    assert_eq!(show(&model.record("d").unwrap().result), "d([c(a()),b(a())])");
}

#[test]
fn c22_steps_behind_a_group_in_a_message_run_once_per_member() {
    let members = group([t("b").set("task_id", "b"), t("c").set("task_id", "c")]).set("task_id", "g");
    let (model, _) = run(&t("a").set("chain", vec![t("d").set("task_id", "d").to_value(), members.to_value()]));
    assert_eq!(calls(&model, "d"), 2);
}

#[test]
fn c23_a_link_on_a_chain_that_ends_in_a_group_is_called_by_each_member() {
    let (model, _) = run(&chain([t("a"), group([t("b"), t("c")])]).link(t("d")));
    assert_eq!(calls(&model, "d"), 2);
}

/// In a chord that is opened here, places that a client has written down for its own count do not hold: a nested list is one part.
#[test]
fn a_chord_opened_here_counts_by_its_own_places() {
    let body = t("z").set("task_id", "z");
    let placed = |name: &str, index: i64| {
        t(name).set("task_id", name).set("group_id", "header").set("group_index", index).set("chord", body.to_value())
    };
    let nested = group([placed("b", 0), placed("c", 1)]).set("task_id", "inner").set("group_id", "header").set("chord", body.to_value());
    let member = t("a").set("task_id", "a").set("chain", vec![nested.to_value()]);
    let chord = Signature::chord([member, placed("d", 1)], body.clone()).set("task_id", "header");
    let (model, _) = run(&t("first").set("chain", vec![chord.to_value()]));
    assert_eq!(show(&model.record("z").unwrap().result), "z([[b(a(first())),c(a(first()))],d(first())])");
    assert!(model.chords.values().all(|chord| chord.concluded));
}

/// Members of a nested group that a client has placed in the outer chord themselves are parts of it themselves: the client has
/// counted them so.
#[test]
fn members_that_a_client_has_placed_keep_their_places() {
    let body = t("z").set("task_id", "z").set("group_id", "outer");
    let placed = |name: &str, index: i64| {
        let member = t(name).set("task_id", name).set("group_id", "outer").set("group_index", index);
        member.set("chord", body.to_value())
    };
    let nested = group([placed("b", 0), placed("c", 1)]).set("task_id", "inner").set("group_id", "outer").set("chord", body.to_value());
    for (first, expected) in [(t("a"), State::Success), (failing("a"), State::Failure)] {
        let mut model = Model::default();
        let open = crate::OpenChord { group: "outer".into(), size: 3, body: body.clone() };
        let opened = crate::Effect::OpenChord(Box::new(open));
        model.commit(crate::Commit { fence: crate::Fence::Open, effects: vec![opened] }, None);
        model.submit(&first.set("chain", vec![nested.to_value()])).unwrap();
        model.submit(&placed("d", 2)).unwrap();
        model.run_in_order(&mut behave);
        assert_eq!(model.record("z").unwrap().status, expected);
        assert_eq!(model.chords.len(), 1, "no chord of this node's own");
    }
}
