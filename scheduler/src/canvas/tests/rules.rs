//! Rules 1 to 10, 12 to 15 and 23: values, completion and the tree of results.

use umbel_proto::{Map, ResultTuple, Signature, State, Value};

use super::*;
use crate::{Effect, settlement::Ending};

/// The value a client reads, as text.
fn value(model: &Model, launched: &super::super::Launched) -> String {
    show(&model.value(&launched.result).expect("the workflow has ended well"))
}

fn meaning(signature: &Signature) -> String {
    let (model, launched) = run(signature);
    value(&model, &launched)
}

fn chain(steps: impl IntoIterator<Item = Signature>) -> Signature {
    Signature::chain(steps)
}

fn group(members: impl IntoIterator<Item = Signature>) -> Signature {
    Signature::group(members)
}

fn t(name: &str) -> Signature {
    task(name)
}

#[test]
fn rule_01_call_arguments_come_first_and_immutable_takes_none() {
    let own = t("a").arg("own").kwarg("x", "own").kwarg("y", "own");
    let call: Map = [("x".to_owned(), Value::from("call"))].into_iter().collect();
    let (model, _) = run_with(&own, &["call".into()], &call);
    let (args, kwargs) = model.endings[0].0.arguments().unwrap();
    assert_eq!(args, ["call".into(), "own".into()]);
    assert_eq!((kwargs["x"].as_str(), kwargs["y"].as_str()), (Some("call"), Some("own")));

    let (model, _) = run_with(&own.immutable(), &["call".into()], &call);
    let (args, kwargs) = model.endings[0].0.arguments().unwrap();
    assert_eq!((args.len(), kwargs["x"].as_str()), (1, Some("own")));
}

#[test]
fn rule_02_chain_hands_on_one_value_and_its_result_is_the_last_step() {
    assert_eq!(meaning(&chain([t("a"), t("b"), t("c")])), "c(b(a()))");
    assert_eq!(meaning(&chain([t("a"), t("b").immutable(), t("c")])), "c(b())");
    let (model, launched) = run_with(&chain([t("a"), t("b")]), &["x".into()], &Map::new());
    assert_eq!(value(&model, &launched), "b(a(x))");
    let parent = launched.result.parent.as_deref().unwrap();
    assert_eq!(show(&model.record(&parent.id).unwrap().result), "a(x)");
    assert_eq!(launched.root().as_str(), parent.id);
}

#[test]
fn rule_03_nested_chains_splice() {
    let nested = chain([t("a"), chain([t("b"), chain([t("c"), t("d")])])]);
    assert_eq!(meaning(&nested), "d(c(b(a())))");
    let linked = chain([t("a"), chain([t("b"), t("c")]).link(t("l")), t("d")]);
    let (model, _) = run(&linked);
    let names: Vec<&str> = model.endings.iter().map(|(message, _)| message.headers.task.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "l", "d"], "a link of an inner chain stays on that chain's last task");
}

#[test]
fn rule_04_group_gives_a_list_in_member_order() {
    let (model, launched) = run_with(&group([t("a"), t("b").immutable(), t("a")]), &["x".into()], &Map::new());
    assert_eq!(value(&model, &launched), "[a(x),b(),a(x)]");
    assert_eq!(model.endings.len(), 3, "the same signature twice is two runs");

    let (model, launched) = run(&group([]));
    assert_eq!(value(&model, &launched), "[]");
    assert!(model.endings.is_empty());
    assert_eq!(meaning(&group([t("a"), group([t("b"), group([t("c")])]), t("d")])), "[a(),b(),c(),d()]");
}

#[test]
fn rule_04_members_have_one_position_each() {
    let (model, launched) = run(&group([t("a"), group([t("b"), t("c")]), t("d")]));
    let places: Vec<_> = model.endings.iter().map(|(message, _)| message.headers.group_index).collect();
    assert_eq!(places, [Some(0), Some(1), Some(2), Some(3)]);
    assert!(model.endings.iter().all(|(message, _)| message.headers.group.as_ref().unwrap().as_str() == launched.result.id));
}

#[test]
fn rule_05_group_then_task_is_a_barrier() {
    assert_eq!(meaning(&chain([group([t("a"), t("b")]), t("c").arg("own")])), "c([a(),b()],own)");
    assert_eq!(meaning(&chain([group([t("a"), t("b")]), t("c").immutable()])), "c()");
    assert_eq!(meaning(&chain([group([t("a")]), t("b")])), "b([a()])");
    assert_eq!(meaning(&Signature::chord([], t("a"))), "a([])");
    assert_eq!(meaning(&chain([t("a"), group([]), t("c")])), "c([])");
    let (model, launched) = run(&chain([t("a"), group([])]));
    assert_eq!((value(&model, &launched).as_str(), model.endings.len()), ("[]", 1));
}

#[test]
fn rule_05_body_gets_results_in_header_order_whatever_finishes_first() {
    let mut model = Model::default();
    let launched = model.submit(&Signature::chord([t("a"), t("b"), t("c")], t("d"))).unwrap();
    model.run(&mut behave, &mut |n| n - 1);
    assert_eq!(model.endings[0].0.headers.task.as_str(), "c");
    assert_eq!(value(&model, &launched), "d([a(),b(),c()])");
}

#[test]
fn rule_06_group_then_group_is_header_and_body() {
    let (ab, cd) = (group([t("a"), t("b")]), group([t("c"), t("d")]));
    assert_eq!(meaning(&chain([ab.clone(), cd.clone()])), "[c([a(),b()]),d([a(),b()])]");
    assert_eq!(meaning(&chain([ab, cd, t("e")])), "e([c([a(),b()]),d([a(),b()])])");
}

#[test]
fn rule_07_header_members_count_for_one_value() {
    let members = [
        chain([t("a"), t("b")]),
        Signature::chord([t("c")], t("d")),
        chain([t("e"), group([t("f"), t("g")])]),
        Signature::chord([t("h")], group([t("i"), t("j")])),
        group([group([]), t("k")]),
    ];
    let expected = "z([b(a()),d([c()]),[f(e()),g(e())],[i([h()]),j([h()])],k()])";
    assert_eq!(meaning(&Signature::chord(members, t("z"))), expected);
    let deep = Signature::chord([Signature::chord([Signature::chord([t("a")], t("b"))], t("c"))], t("d"));
    assert_eq!(meaning(&deep), "d([c([b([a()])])])");
}

#[test]
fn rule_08_root_group_keeps_nesting_but_drops_an_outer_level_of_one() {
    let nested = chain([t("a"), group([t("b"), t("c")])]);
    assert_eq!(meaning(&group([nested.clone(), t("d")])), "[[b(a()),c(a())],d()]");
    assert_eq!(meaning(&group([nested])), "[b(a()),c(a())]");
}

#[test]
fn rule_09_map_and_starmap_are_one_task_that_ignores_what_came_before() {
    let items = || [Value::from(1i64), Value::from(2i64)];
    let (model, _) = run(&chain([t("a"), Signature::map(t("m"), items()), t("b")]));
    let (message, _) = &model.endings[1];
    assert_eq!(message.headers.task.as_str(), "celery.map");
    let (args, kwargs) = message.arguments().unwrap();
    assert_eq!((args.len(), kwargs["it"].as_list().map(<[_]>::len)), (0, Some(2)));
    let (model, _) = run(&Signature::chord([Signature::starmap(t("m"), items()), t("a")], t("b")));
    assert_eq!(model.endings.len(), 3);

    let chunks = Signature::chunks(t("m"), [1i64, 2, 3].map(Value::from), 2);
    let (model, launched) = run(&chunks);
    assert_eq!(launched.result.children.as_deref().map(<[_]>::len), Some(2));
    assert!(model.endings.iter().all(|(message, _)| message.headers.task.as_str() == "celery.starmap"));
    // As a step, chunks are the group they stand for.
    assert_eq!(run(&chain([chunks, t("a")])).0.endings.len(), 3);
}

#[test]
fn rule_09_a_map_goes_where_its_task_goes() {
    let mut model = Model::default();
    let mut spec = crate::TaskSpec::new("m");
    spec.queue = Some("media".into());
    model.specs.tasks.insert("m".into(), spec);
    model.submit(&Signature::map(t("m"), [Value::Null])).unwrap();
    assert_eq!(model.queue[0].queue.as_str(), "media");
}

#[test]
fn rule_10_body_runs_once_after_all_members() {
    let mut model = Model::default();
    model.submit(&Signature::chord((0..20).map(|n| t(&format!("h{n}"))), t("body"))).unwrap();
    let mut draws = 0;
    model.run(&mut behave, &mut |n| {
        draws += 1;
        (draws * 7) % n
    });
    let bodies: Vec<usize> = (0..model.endings.len()).filter(|at| model.endings[*at].0.headers.task.as_str() == "body").collect();
    assert_eq!(bodies, [20], "once, and after all twenty");
}

#[test]
fn rule_12_ignored_results_stay_pending_but_flow_on() {
    let ignored = |name| t(name).set("ignore_result", true);
    let (model, launched) = run(&chain([ignored("a"), t("b")]));
    assert_eq!(value(&model, &launched), "b(a())");
    assert_eq!(model.record(&launched.result.parent.as_ref().unwrap().id), None);
    assert_eq!(meaning(&Signature::chord([ignored("a"), t("b")], t("c"))), "c([a(),b()])");
    let (model, launched) = run(&ignored("a"));
    assert_eq!(model.record(&launched.result.id), None);

    let (model, launched) = run(&Signature::chord([ignored("a").kwarg("fail", true).link_error(t("e"))], t("c")));
    assert_eq!(model.record(&launched.result.id).unwrap().status, State::Failure);
    assert!(model.endings.iter().any(|(message, _)| message.headers.task.as_str() == "e"));
}

#[test]
fn rule_12_what_a_task_says_counts_unless_the_call_says_otherwise() {
    let mut model = Model::default();
    let mut spec = crate::TaskSpec::new("a");
    spec.ignore_result = true;
    model.specs.tasks.insert("a".into(), spec.clone());
    let ignored = model.submit(&t("a")).unwrap();
    let wanted = model.submit(&t("a").set("ignore_result", false)).unwrap();
    spec.name = "f".into();
    spec.store_errors_even_if_ignored = true;
    model.specs.tasks.insert("f".into(), spec);
    let kept = model.submit(&failing("f")).unwrap();
    model.run_in_order(&mut behave);
    assert_eq!(model.record(&ignored.result.id), None);
    assert_eq!(model.record(&wanted.result.id).unwrap().status, State::Success);
    assert_eq!(model.record(&kept.result.id).unwrap().status, State::Failure);
}

fn replaced(name: &str, with: &Signature) -> Signature {
    t(name).kwarg("replace", with.to_value())
}

#[test]
fn rule_13_the_replacement_gives_the_replaced_id_its_value() {
    let (model, launched) = run(&chain([replaced("r", &chain([t("a"), t("b")])).link(t("l")), t("c")]));
    assert_eq!(value(&model, &launched), "c(b(a()))");
    let id = &launched.result.parent.as_ref().unwrap().id;
    assert_eq!(show(&model.record(id).unwrap().result), "b(a())");
    assert_eq!(model.endings.iter().filter(|(message, _)| message.headers.task.as_str() == "l").count(), 1);

    assert_eq!(meaning(&replaced("r", &group([t("a"), t("b")]))), "[a(),b()]");
    assert_eq!(meaning(&chain([replaced("r", &group([t("a"), t("b")])), t("c")])), "c([a(),b()])");
    assert_eq!(meaning(&replaced("r", &group([]))), "[]");
    assert_eq!(meaning(&replaced("r", &replaced("s", &t("a")))), "a()");
    let header = [replaced("r", &t("a").kwarg("retry", 2i64)), replaced("s", &group([t("b")])), t("c")];
    assert_eq!(meaning(&Signature::chord(header, t("d"))), "d([a(),[b()],c()])");
    assert_eq!(meaning(&Signature::chord([t("h")], replaced("r", &group([t("a")])))), "[a()]");
}

#[test]
fn rule_13_replacements_count_how_deep_they_are() {
    let (model, _) = run(&chain([replaced("r", &replaced("s", &t("a"))), t("c")]));
    let nesting: Vec<u32> = model.endings.iter().map(|(message, _)| message.headers.replaced_task_nesting).collect();
    assert_eq!(nesting, [0, 1, 2, 2]);
}

#[test]
fn rule_14_what_a_task_spawns_is_listed_and_nothing_more() {
    let spawned = ResultTuple { id: "spawned".into(), parent: None, children: None };
    let mut model = Model::default();
    let launched = model.submit(&t("a")).unwrap();
    let children = vec![spawned.clone()];
    model.run_in_order(&mut |_| Outcome::Success { value: Value::Null, children: children.clone() });
    let record = model.record(&launched.result.id).unwrap();
    assert_eq!((&record.status, &record.children), (&State::Success, &Some(vec![spawned])));
}

#[test]
fn rule_15_large_ones_are_right_and_delays_change_nothing_but_time() {
    let many = |prefix: &str| (0..200).map(|n| t(&format!("{prefix}{n}"))).collect::<Vec<_>>();
    let listed = |prefix: &str, args: &str| (0..200).map(|n| format!("{prefix}{n}({args})")).collect::<Vec<_>>().join(",");
    assert_eq!(meaning(&group(many("g"))), format!("[{}]", listed("g", "")));
    assert_eq!(meaning(&chain([t("a"), group(many("g")), t("z")])), format!("z([{}])", listed("g", "a()")));
    let deep = (1..30).fold("s0()".to_owned(), |inner, n| format!("s{n}({inner})"));
    assert_eq!(meaning(&chain((0..30).map(|n| t(&format!("s{n}"))))), deep);
    let delayed = chain([t("a").set("countdown", 5.0), Signature::chord([t("b")], t("c")).set("countdown", 9.0)]);
    let (model, launched) = run(&delayed);
    assert_eq!(value(&model, &launched), "c([b(a())])");
    assert_eq!(model.now - Model::default().now, 14_000, "a chord's delay holds its header back, not its body");
}

#[test]
fn rule_23_children_are_the_next_step_or_the_header_and_never_the_body() {
    let (model, launched) = run(&chain([t("a"), group([t("b")]), t("c"), t("d")]));
    let c = launched.result.parent.as_deref().unwrap();
    let header = c.parent.as_deref().unwrap();
    let a = header.parent.as_deref().unwrap();
    let children = |id: &str| model.record(id).unwrap().children.clone().unwrap();
    assert_eq!(children(&a.id)[0].id, header.id);
    assert!(children(&a.id)[0].children.is_some());
    assert!(children(&header.children.as_ref().unwrap()[0].id).is_empty(), "the body is no child of a header task");
    assert_eq!(children(&c.id)[0].id, launched.result.id);
}

#[test]
fn rule_23_links_show_alone_or_as_one_group() {
    let (model, launched) = run(&t("a").link(t("l")));
    let one = model.record(&launched.result.id).unwrap().children.clone().unwrap();
    assert_eq!((one.len(), &one[0].children), (1, &None));
    for linked in [t("a").link(t("l")).link(t("m")), t("a").link(group([t("l"), t("m")]))] {
        let (model, launched) = run(&linked);
        let children = model.record(&launched.result.id).unwrap().children.clone().unwrap();
        assert_eq!((children.len(), children[0].children.as_ref().map(Vec::len)), (1, Some(2)));
    }
}

#[test]
fn rule_23_inner_steps_of_a_body_written_as_a_chain_are_not_parents() {
    let (_, launched) = run(&Signature::chord([t("a")], chain([t("b"), t("c")])));
    let parent = launched.result.parent.unwrap();
    assert!(parent.children.is_some() && parent.parent.is_none());
}

#[test]
fn rule_23_replaced_by_a_group_and_failed_steps_have_no_children() {
    let (model, launched) = run(&chain([failing("f"), t("b")]));
    let failed = launched.result.parent.unwrap();
    assert_eq!(model.record(&failed.id).unwrap().children, Some(vec![]));
    let (model, launched) = run(&replaced("r", &group([t("a"), t("b")])));
    assert_eq!(model.record(&launched.result.id).unwrap().children, Some(vec![]));
}

#[test]
fn parents_and_roots_are_handed_down() {
    let (model, launched) = run(&chain([t("a"), Signature::chord([t("b")], t("c")), t("d")]));
    let of = |name: &str| model.endings.iter().map(|(message, _)| message).find(|message| message.headers.task.as_str() == name).unwrap();
    for (child, parent) in [("b", "a"), ("c", "b"), ("d", "c")] {
        assert_eq!(of(child).headers.parent_id.as_ref(), Some(&of(parent).headers.id), "{child}");
    }
    for name in ["a", "b", "c", "d"] {
        assert_eq!(of(name).headers.root_id.as_ref(), Some(&launched.root()), "{name}");
    }
}

#[test]
fn composites_are_never_sent_as_tasks() {
    let everything = chain([t("a").link(group([t("l"), chain([t("m"), group([t("n")])])])), Signature::chord([t("b")], group([t("c")]))]);
    let (model, _) = run(&everything);
    for (message, ending) in &model.endings {
        assert!(!message.headers.task.as_str().starts_with("celery."), "{}", message.headers.task);
        assert!(matches!(ending, Ending::Succeeded { .. }));
    }
}

#[test]
fn equal_seeds_give_equal_ids_and_other_seeds_others() {
    let workflow = Signature::chord([chain([t("a"), group([t("b")])])], chain([t("c"), t("d")]));
    let settings = crate::Settings::default();
    let specs = crate::model::Known::default();
    let none = Map::new();
    let with = |seed| {
        let ask = Launch { settings: &settings, specs: &specs, args: &[], kwargs: &none, sender: None, seed, now: 0 };
        launch(&workflow, ask).unwrap()
    };
    assert_eq!(with("one"), with("one"));
    assert_ne!(with("one").result, with("two").result);
}

#[test]
fn too_many_tasks_are_refused() {
    let beyond = vec![Value::Null; super::super::MAX_TASKS + 1];
    let chunks = Signature::chunks(t("m"), beyond.clone(), 1);
    assert_eq!(Model::default().submit(&chunks), Err(CanvasError::TooLarge));
    let mut large = group([]);
    large.kwargs.insert("tasks".to_owned(), Value::List(beyond));
    assert_eq!(Model::default().submit(&large), Err(CanvasError::TooLarge));
}

#[test]
fn a_workflow_too_deep_to_be_read_again_is_refused() {
    let nested = |levels: usize| (0..levels).fold(t("a"), |inner, _| Signature::chord([inner], t("b")));
    let refused = Model::default().submit(&nested(150)).unwrap_err();
    assert!(refused.to_string().contains("nested"), "{refused}");
    assert!(meaning(&nested(50)).starts_with("b([b(["));
    // What is not refused can be read again.
    let mut model = Model::default();
    model.submit(&nested(90)).unwrap();
    let envelope = model.queue[0].invocation.encode("tag", None).unwrap();
    let read = umbel_proto::Invocation::decode(&envelope, umbel_proto::Limits::default()).unwrap();
    assert_eq!(read.embed().chord, model.queue[0].invocation.embed().chord);
}

#[test]
fn a_signature_that_cannot_be_read_is_an_error_that_names_the_field() {
    let mut broken = chain([t("a")]);
    broken.kwargs.insert("tasks".to_owned(), Value::List(vec![Value::Int(1)]));
    let error = Model::default().submit(&broken).unwrap_err();
    assert!(error.to_string().contains("tasks"), "{error}");
    let eta = Model::default().submit(&t("a").set("eta", "soon")).unwrap_err();
    assert!(eta.to_string().contains("eta"), "{eta}");
}

#[test]
fn a_header_is_opened_before_its_messages_and_carries_its_body() {
    let mut model = Model::default();
    let launched = model.submit(&Signature::chord([t("a"), t("b")], t("c"))).unwrap();
    let Effect::OpenChord(open) = &launched.effects[0] else { panic!("{:?}", launched.effects[0]) };
    assert_eq!(open.size, 2);
    for effect in &launched.effects[1..] {
        let Effect::Publish(publish) = effect else { panic!("{effect:?}") };
        assert_eq!(publish.invocation.embed().chord.as_deref(), Some(&open.body));
    }
    assert_eq!(open.body.options.task_id().unwrap().as_str(), launched.result.id);
    assert_eq!(open.body.options.group_id().as_ref(), Some(&open.group));
}
