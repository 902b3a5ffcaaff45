//! Random workflows, random order, random mishaps: the model comes to what the evaluator says, every body runs exactly once,
//! and no id that a client can hold stays open.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use umbel_proto::{ResultTuple, Signature, State, Value};

use super::{
    behave, called,
    evaluator::{End, Linked, Plain, Shape, Trace, evaluate, steps},
    show, task,
};
use crate::{
    canvas::{Launched, node::ACCUMULATE},
    model::Model,
    settlement::Ending,
};

fn plain() -> impl Strategy<Value = Plain> {
    let flags = (prop::bool::weighted(0.15), prop::bool::weighted(0.05), prop::bool::weighted(0.15), prop::bool::weighted(0.15));
    let more = (0..=2u32, 0..=2usize, 0..=1usize, any::<bool>());
    (flags, more).prop_map(|((fails, expired, ignored, immutable), (retries, links, errbacks, own))| Plain {
        own: own.then(|| "own".to_owned()),
        fails,
        expired,
        retries,
        ignored,
        immutable,
        links: vec![String::new(); links],
        errbacks: vec![String::new(); errbacks],
        ..Plain::default()
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = plain().prop_map(|plain| Shape::Task(Box::new(plain)));
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            4 => vec(inner.clone(), 0..4).prop_map(Shape::Chain),
            4 => vec(inner.clone(), 0..4).prop_map(Shape::Group),
            3 => (vec(inner.clone(), 0..4), inner.clone()).prop_map(|(header, body)| Shape::Chord(header, Box::new(body))),
            1 => (plain(), inner).prop_map(|(mut plain, inner)| {
                plain.replaced = Some(inner);
                Shape::Task(Box::new(plain))
            }),
        ]
    })
}

/// Gives every task, callback and errback a name of its own, and every chord a body.
fn name(shape: &mut Shape, count: &mut usize) {
    let mut next = |prefix: &str| {
        *count += 1;
        format!("{prefix}{count}")
    };
    match shape {
        Shape::Task(plain) => {
            plain.name = next("t");
            plain.links.iter_mut().for_each(|link| *link = next("l"));
            plain.errbacks.iter_mut().for_each(|errback| *errback = next("e"));
            if let Some(replacement) = &mut plain.replaced {
                name(replacement, count);
            }
        }
        Shape::Chain(parts) | Shape::Group(parts) => parts.iter_mut().for_each(|part| name(part, count)),
        Shape::Chord(header, body) => {
            header.iter_mut().for_each(|part| name(part, count));
            if steps(body).is_empty() {
                **body = Shape::Task(Box::default());
            }
            name(body, count);
        }
    }
}

fn signature(shape: &Shape) -> Signature {
    match shape {
        Shape::Task(plain) => {
            let mut sig = task(&plain.name);
            sig.immutable = plain.immutable;
            sig.args.extend(plain.own.as_deref().map(Value::from));
            if plain.fails {
                sig = sig.kwarg("fail", true);
            }
            if plain.retries > 0 {
                sig = sig.kwarg("retry", i64::from(plain.retries));
            }
            if let Some(replacement) = &plain.replaced {
                sig = sig.kwarg("replace", signature(replacement).to_value());
            }
            if plain.ignored {
                sig = sig.set("ignore_result", true);
            }
            if plain.expired {
                sig = sig.set("expires", -1.0);
            }
            let linked = plain.links.iter().fold(sig, |sig, link| sig.link(task(link)));
            plain.errbacks.iter().fold(linked, |sig, errback| sig.link_error(task(errback)))
        }
        Shape::Chain(parts) => Signature::chain(parts.iter().map(signature)),
        Shape::Group(parts) => Signature::group(parts.iter().map(signature)),
        Shape::Chord(header, body) => Signature::chord(header.iter().map(signature), signature(body)),
    }
}

/// Runs it, with what `choices` says happening next.
fn play(shape: &Shape, linked: &Linked, choices: &[u8]) -> (Model, Launched) {
    let sig = linked.links.iter().fold(signature(shape), |sig, link| sig.link(task(link)));
    let sig = linked.errbacks.iter().fold(sig, |sig, errback| sig.link_error(task(errback)));
    let mut model = Model::default();
    let launched = model.submit(&sig).unwrap();
    let mut choices = choices.iter().cycle();
    model.run(&mut behave, &mut |n| choices.next().map_or(0, |choice| usize::from(*choice)) % n);
    (model, launched)
}

/// Runs that counted, callbacks included, and errbacks by name.
fn history(model: &Model) -> (Vec<String>, Vec<String>) {
    let (mut runs, mut errbacks) = (Vec::new(), Vec::new());
    for (invocation, ending) in &model.endings {
        let name = invocation.headers.task.as_str();
        let (args, _) = invocation.arguments().unwrap();
        let skipped = matches!(ending, Ending::Retried { .. } | Ending::Revoked { .. }) || name == ACCUMULATE;
        match name.starts_with('e') {
            true => errbacks.push(name.to_owned()),
            false if !skipped => runs.push(called(name, &args)),
            false => {}
        }
    }
    runs.sort();
    errbacks.sort();
    (runs, errbacks)
}

/// Texts differ in ids only.
fn without_ids(text: &str) -> String {
    let id = fancy_regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    id.replace_all(text, "<id>").into_owned()
}

fn compare(model: &Model, result: &ResultTuple, end: &End) {
    match (end, &result.children) {
        (End::Many(ends) | End::Never(ends, _), Some(members)) => {
            assert_eq!(members.len(), ends.len(), "members of {}", result.id);
            members.iter().zip(ends).for_each(|(member, end)| compare(model, member, end));
        }
        (End::One { ignored: true, .. }, None) => {
            let ready = model.record(&result.id).is_some_and(|record| record.status.is_ready());
            assert!(!ready, "the result of {} is ignored", result.id);
        }
        (End::One { result: expected, .. }, None) => {
            let record = model.record(&result.id).unwrap_or_else(|| panic!("{} hangs", result.id));
            match expected {
                Ok(value) => {
                    assert_eq!(record.status, State::Success, "{record:?}");
                    assert_eq!(show(&record.result), show(value));
                }
                Err(fault) => {
                    let (mut stored, expected) = (record.error().unwrap(), fault.error());
                    let text = stored.exc_message[0].as_str().map(without_ids).unwrap();
                    stored.exc_message[0] = text.into();
                    assert_eq!(stored.exc_message, expected.exc_message);
                    assert_eq!(stored.exc_type, expected.exc_type);
                    assert_eq!(record.status, fault.state());
                }
            }
        }
        (end, _) => panic!("{end:?} is not what {result:?} holds"),
    }
}

/// Every task in a result and its parents has ended, but for those whose result is ignored.
fn all_ready(model: &Model, result: &ResultTuple, ignored: &BTreeSet<String>) {
    match &result.children {
        Some(members) => members.iter().for_each(|member| all_ready(model, member, ignored)),
        None => {
            let ready = model.record(&result.id).is_some_and(|record| record.status.is_ready());
            assert!(ready || ignored.contains(&result.id), "{} stays open", result.id);
        }
    }
    if let Some(parent) = &result.parent {
        all_ready(model, parent, ignored);
    }
}

/// The ids of tasks with ignored results, run or never run.
fn ignored_ids(value: &Value, ids: &mut BTreeSet<String>) {
    match value {
        Value::List(list) => list.iter().for_each(|value| ignored_ids(value, ids)),
        Value::Map(map) => {
            if let (Some(Value::Str(id)), Some(Value::Bool(true))) = (map.get("task_id"), map.get("ignore_result")) {
                ids.insert(id.clone());
            }
            map.values().for_each(|value| ignored_ids(value, ids));
        }
        _ => {}
    }
}

fn ignored_in(model: &Model, launched: &Launched) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for effect in &launched.effects {
        if let crate::Effect::OpenChord(open) = effect {
            ignored_ids(&open.body.to_value(), &mut ids);
        }
    }
    let published = launched.effects.iter().filter_map(|effect| match effect {
        crate::Effect::Publish(publish) => Some(&publish.invocation),
        _ => None,
    });
    for invocation in published.chain(model.endings.iter().map(|(invocation, _)| invocation)) {
        if invocation.headers.ignore_result == Some(true) {
            ids.insert(invocation.headers.id.to_string());
        }
        let embed = invocation.embed();
        embed.chain.iter().chain(embed.chord.as_deref()).for_each(|sig| ignored_ids(&sig.to_value(), &mut ids));
    }
    ids
}

fn check(mut shape: Shape, links: usize, errbacks: usize, choices: &[u8]) {
    name(&mut shape, &mut 0);
    let linked = Linked {
        links: (0..links).map(|index| format!("root_l{index}")).collect(),
        errbacks: (0..errbacks).map(|index| format!("e_root{index}")).collect(),
    };
    let (model, launched) = play(&shape, &linked, choices);
    let mut trace = Trace::default();
    let steps = steps(&shape);
    let mut end = evaluate(&steps, &[], &linked, &mut trace);
    if let (End::Many(members), [Shape::Group(_)]) = (&end, &*steps)
        && let [End::Many(_) | End::Never(..)] = members[..]
    {
        end = members[0].clone();
    }
    trace.runs.sort();
    trace.errbacks.sort();
    let (runs, errbacks) = history(&model);
    assert_eq!(runs, trace.runs);
    assert_eq!(errbacks, trace.errbacks);
    compare(&model, &launched.result, &end);
    all_ready(&model, &launched.result, &ignored_in(&model, &launched));
    assert!(model.chords.values().all(|chord| chord.concluded), "a chord was never concluded");
    assert!(model.dead.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_workflow_means_what_it_should(
        shape in shape(),
        links in 0..=1usize,
        errbacks in 0..=1usize,
        choices in vec(any::<u8>(), 1..64),
    ) {
        check(shape, links, errbacks, &choices);
    }
}
