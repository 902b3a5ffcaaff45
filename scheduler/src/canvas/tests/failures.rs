//! Rules 11 and 16 to 22: retries and failures.

use umbel_proto::{ResultRecord, Signature, State, Value};

use super::*;
use crate::{Effect, canvas::Launched, settlement::Ending};

fn t(name: &str) -> Signature {
    task(name)
}

fn record<'a>(model: &'a Model, id: &str) -> &'a ResultRecord {
    model.record(id).unwrap_or_else(|| panic!("{id} stays open"))
}

/// State and exception text of the result a client waits for.
fn failure(model: &Model, launched: &Launched) -> (State, String) {
    text(record(model, &launched.result.id))
}

fn text(record: &ResultRecord) -> (State, String) {
    let error = record.error().unwrap();
    (record.status.clone(), format!("{}: {}", error.exc_type, show(&error.exc_message[0])))
}

/// The calls of tasks by this name, each with its arguments.
fn calls(model: &Model, name: &str) -> Vec<String> {
    let named = model.endings.iter().filter(|(message, _)| message.headers.task.as_str() == name);
    named.map(|(message, _)| called(name, &message.arguments().unwrap().0)).collect()
}

fn id_of(model: &Model, name: &str) -> String {
    model.endings.iter().map(|(message, _)| &message.headers).find(|headers| headers.task.as_str() == name).unwrap().id.to_string()
}

#[test]
fn rule_11_retries_keep_everything_and_count_once() {
    let retrying = t("a").arg("x").kwarg("retry", 3i64).link(t("l")).link_error(t("e"));
    let (model, launched) = run(&Signature::chord([retrying, t("b")], t("c")));
    assert_eq!(show(&model.value(&launched.result).unwrap()), "c([a(x),b()])");
    let runs: Vec<_> = model.endings.iter().filter(|(message, _)| message.headers.task.as_str() == "a").collect();
    assert_eq!(runs.iter().map(|(message, _)| message.headers.retries).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let (first, last) = (&runs[0].0, &runs[3].0);
    assert_eq!((&first.body, &first.headers.id, &first.headers.root_id), (&last.body, &last.headers.id, &last.headers.root_id));
    assert_eq!(last.headers.parent_id.as_ref(), Some(&first.headers.id), "a retry is its own parent, as for Celery");
    assert_eq!((calls(&model, "l").len(), calls(&model, "e").len()), (1, 0));
    let states: Vec<&State> =
        model.stored.iter().filter(|stored| stored.task_id == first.headers.id).map(|stored| &stored.status).collect();
    assert_eq!(states, [&State::Retry, &State::Retry, &State::Retry, &State::Success]);
}

#[test]
fn rule_11_exhausted_retries_fail_once() {
    let (model, launched) = run(&Signature::chord([t("a").kwarg("retry", 9i64).link_error(t("e"))], t("c")));
    assert_eq!(calls(&model, "a").len(), 4, "three retries are four runs");
    assert_eq!(calls(&model, "e").len(), 1);
    let id = id_of(&model, "a");
    let expected = format!("MaxRetriesExceededError: Can't retry a[{id}] args:() kwargs:{{'retry': 9}}");
    assert_eq!(text(record(&model, &id)), (State::Failure, expected));
    assert_eq!(failure(&model, &launched).0, State::Failure);
}

#[test]
fn rule_16_every_later_step_fails_with_the_same_exception() {
    let (model, launched) = run(&Signature::chain([t("a"), failing("f"), t("b"), t("c")]));
    let mut result = Some(&launched.result);
    for _ in ["c", "b", "f"] {
        let at = result.unwrap();
        assert_eq!(text(record(&model, &at.id)), (State::Failure, "ValueError: f".to_owned()));
        result = at.parent.as_deref();
    }
    assert_eq!(model.endings.len(), 2, "nothing runs after the failure");
}

#[test]
fn rule_17_all_members_run_and_the_first_failure_in_header_order_is_named() {
    let mut model = Model::default();
    let launched = model.submit(&Signature::chord([t("a"), failing("f"), failing("g"), t("b")], t("c"))).unwrap();
    model.run(&mut behave, &mut |n| n - 1);
    assert_eq!(model.endings.len(), 4);
    let f = id_of(&model, "f");
    assert_eq!(failure(&model, &launched), (State::Failure, format!("ChordError: Dependency {f} raised ValueError('f')")));
    assert_eq!(record(&model, &launched.result.id).error().unwrap().exc_module.as_deref(), Some("celery.exceptions"));
}

#[test]
fn rule_17_not_before_all_members_have_ended() {
    let mut model = Model::default();
    let launched = model.submit(&Signature::chord([failing("f"), t("a")], t("c"))).unwrap();
    assert!(model.step(&mut behave, &mut |_| 0));
    assert_eq!((model.ready.len(), model.record(&launched.result.id)), (0, None));
    model.run_in_order(&mut behave);
    assert_eq!(failure(&model, &launched).0, State::Failure);
}

#[test]
fn rule_17_nested_lists_and_failing_bodies() {
    let nested = Signature::chain([t("a"), Signature::group([failing("f"), t("b")])]);
    let (model, launched) = run(&Signature::chord([nested, t("c")], t("d")));
    assert_eq!(failure(&model, &launched), (State::Failure, "ChordError: Join error: ValueError('f')".to_owned()));
    let (model, launched) = run(&Signature::chord([t("a")], failing("f")));
    assert_eq!(failure(&model, &launched), (State::Failure, "ValueError: f".to_owned()));
}

#[test]
fn rule_18_expired_is_revoked_without_callbacks_or_errbacks() {
    let expired = |name: &str| t(name).set("expires", -1.0);
    let linked = expired("a").link(t("l")).link_error(t("e"));
    let (model, launched) = run(&Signature::group([linked, t("b")]));
    let members = launched.result.children.unwrap();
    assert_eq!(text(record(&model, &members[0].id)), (State::Revoked, "TaskRevokedError: expired".to_owned()));
    assert_eq!(record(&model, &members[1].id).status, State::Success);
    assert_eq!((calls(&model, "l").len(), calls(&model, "e").len()), (0, 0));
    assert!(matches!(model.endings[0].1, Ending::Revoked { expired: true, terminated: false, .. }));

    let (model, launched) = run(&Signature::chord([expired("a")], t("b")));
    let a = id_of(&model, "a");
    let expected = format!("ChordError: Dependency {a} raised TaskRevokedError('expired')");
    assert_eq!(failure(&model, &launched), (State::Failure, expected));
    let (model, launched) = run(&Signature::chord([t("a")], expired("b")));
    assert_eq!(failure(&model, &launched), (State::Revoked, "TaskRevokedError: expired".to_owned()));
}

#[test]
fn rule_19_links_run_once_after_success_with_the_value_first() {
    let (model, _) = run(&t("a").link(t("l").arg("own")).link(t("m").immutable()).kwarg("retry", 1i64));
    assert_eq!((calls(&model, "l"), calls(&model, "m")), (vec!["l(a(),own)".to_owned()], vec!["m()".to_owned()]));
    let (model, launched) = run(&t("a").link(failing("l").link_error(t("e"))).link_error(t("x")));
    assert_eq!(record(&model, &launched.result.id).status, State::Success, "a failing link leaves its parent alone");
    assert_eq!((calls(&model, "e").len(), calls(&model, "x").len()), (1, 0));
    let (model, _) = run(&Signature::chain([t("a"), t("b")]).link(t("l")));
    assert_eq!(calls(&model, "l"), ["l(b(a()))"]);
    let (model, _) = run(&Signature::chord([t("a")], Signature::chain([t("b"), t("c")])).link(t("l")));
    assert_eq!(calls(&model, "l"), ["l(c(b([a()])))"]);
    let (model, _) = run(&Signature::chord([t("a")], Signature::group([t("b"), t("c")])).link(t("l")));
    assert_eq!(calls(&model, "l"), ["l()"], "the first member of a body group, without its value");
}

#[test]
fn rule_20_each_errback_is_called_once_with_the_failed_id() {
    let (model, launched) = run(&failing("f").kwarg("retry", 2i64).link_error(t("e")).link_error(t("g").immutable()));
    assert_eq!(calls(&model, "e"), [format!("e({})", launched.result.id)]);
    assert_eq!(calls(&model, "g"), ["g()"]);
    let (message, _) = model.endings.iter().find(|(message, _)| message.headers.task.as_str() == "e").unwrap();
    assert_eq!(message.headers.parent_id.as_ref().unwrap().as_str(), launched.result.id);
    assert_eq!((message.headers.group.is_some(), message.headers.group_index), (true, Some(0)));
    assert!(message.embed().chord.is_none());
}

#[test]
fn rule_21_errbacks_of_chains_groups_and_chords() {
    for steps in [[failing("f"), t("a"), t("b")], [t("a"), failing("f"), t("b")], [t("a"), t("b"), failing("f")]] {
        let (model, _) = run(&Signature::chain(steps).link_error(t("e")));
        assert_eq!(calls(&model, "e"), [format!("e({})", id_of(&model, "f"))], "whichever step fails, once");
    }
    let (model, _) = run(&Signature::group([failing("f"), t("a"), failing("g")]).link_error(t("e")));
    assert_eq!(calls(&model, "e").len(), 2, "each failing member of a group");
    let header = [failing("f").link_error(t("own")), failing("g")];
    let (model, launched) = run(&Signature::chord(header, t("b")).link_error(t("e")));
    assert_eq!(calls(&model, "e"), [format!("e({})", launched.result.id)], "one call with the body's id");
    assert_eq!(calls(&model, "own").len(), 1, "a member's own errbacks are called as well");
    let (model, launched) = run(&Signature::chord([t("a")], failing("f")).link_error(t("e")));
    assert_eq!(calls(&model, "e"), [format!("e({})", launched.result.id)]);
    let (model, _) = run(&Signature::chain([t("a").link_error(t("x")), failing("f"), t("b").link_error(t("y"))]));
    assert_eq!((calls(&model, "x").len(), calls(&model, "y").len()), (0, 0), "not those of other steps");
}

#[test]
fn rule_22_errbacks_of_a_replaced_task() {
    let replaced = |with: Signature| t("r").kwarg("replace", with.to_value()).link_error(t("e"));
    let (model, _) = run(&replaced(Signature::chain([t("a"), failing("f"), t("b")])));
    assert_eq!(calls(&model, "e"), [format!("e({})", id_of(&model, "f"))], "the failing step of a chain");
    for with in [Signature::group([failing("f"), failing("g")]), Signature::chord([failing("f")], t("b"))] {
        let (model, launched) = run(&replaced(with));
        assert_eq!(calls(&model, "e"), [format!("e({})", launched.result.id)], "one call with the replaced task's id");
    }
}

#[test]
fn a_value_without_a_form_on_the_wire_fails_its_task() {
    let odd: umbel_proto::Map =
        [("__type__".to_owned(), Value::from("nonsense")), ("__value__".to_owned(), 1i64.into())].into_iter().collect();
    for signature in [t("a"), Signature::chain([t("a"), t("b")])] {
        let mut model = Model::default();
        let launched = model.submit(&signature).unwrap();
        model.run_in_order(&mut |_| Outcome::Success { value: vec![Value::Map(odd.clone())].into(), children: Vec::new() });
        let error = record(&model, &launched.result.id).error().unwrap();
        assert_eq!((error.exc_type.as_str(), error.exc_module.as_deref()), ("EncodeError", Some("kombu.exceptions")));
    }
}

#[test]
fn a_body_that_cannot_be_sent_fails_with_a_callback_error() {
    let mut model = Model::default();
    let launched = model.submit(&Signature::chord([t("a")], t("b").set("eta", "soon"))).unwrap();
    model.run_in_order(&mut behave);
    let (state, text) = failure(&model, &launched);
    assert_eq!(state, State::Failure);
    assert!(text.starts_with("ChordError: Callback error: "), "{text}");
}

#[test]
fn a_revoked_workflow_ends_everywhere() {
    let mut model = Model::default();
    let workflow = Signature::chain([t("a"), Signature::chord([t("b"), t("c")], t("d")), Signature::group([t("e"), t("f")])]);
    let launched = model.submit(&workflow).unwrap();
    assert!(model.step(&mut behave, &mut |_| 0));
    model.revoked.insert(crate::revocation::Revocation::Workflow(launched.root()), model.now);
    model.run_in_order(&mut behave);
    assert_eq!(model.endings.len(), 3, "a ran, b and c were refused, nothing else was sent");
    for member in launched.result.children.unwrap() {
        assert_eq!(record(&model, &member.id).status, State::Failure);
    }
}

#[test]
fn one_bad_errback_does_not_keep_the_others_from_being_called() {
    let (model, _) = run(&failing("f").link_error(t("bad").set("eta", "soon")).link_error(t("e")));
    assert_eq!((calls(&model, "e").len(), calls(&model, "bad").len()), (1, 0));
    assert!(matches!(model.endings[0].1, Ending::Failed { .. }));
}

#[test]
fn an_ending_comes_in_celerys_order() {
    let mut model = Model::default();
    let member = Signature::chain([t("a"), failing("f").link_error(t("e")), t("z")]);
    model.submit(&Signature::chord([member], t("b"))).unwrap();
    let message = model.queue[0].invocation.clone();
    let settings = crate::Settings::default();
    let spec = crate::TaskSpec::new("a");
    let context = crate::settlement::tests::context(&spec, &settings, &model.specs);
    let settlement = crate::settlement::settle(&message, Outcome::Success { value: Value::Null, children: vec![] }, context);
    let kinds: Vec<&str> = settlement.effects.iter().map(kind).collect();
    assert_eq!(kinds, ["publish", "store", "release"]);
    let Effect::Publish(next) = &settlement.effects[0] else { unreachable!("looked at") };
    let settlement = crate::settlement::settle(&next.invocation, Outcome::Failure(raised("f")), context);
    let kinds: Vec<&str> = settlement.effects.iter().map(kind).collect();
    assert_eq!(kinds, ["store", "store", "part", "publish", "release"]);
}

fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::Publish(_) => "publish",
        Effect::Store(_) => "store",
        Effect::StoredBefore => "stored",
        Effect::OpenChord(_) => "open",
        Effect::GrowChord { .. } => "grow",
        Effect::Part(_) => "part",
        Effect::Release(_) => "release",
    }
}
