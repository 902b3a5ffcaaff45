//! Signatures made here look as Celery's do; those that are wrong are found out.

use super::*;
use crate::{Limits, codec::json};

fn read(text: &str) -> Value {
    json::parse(text.as_bytes(), Limits::default()).unwrap()
}

fn add(number: i64) -> Signature {
    Signature::new("add").arg(number)
}

const ADD_1: &str = r#"{"task":"add","args":[1],"kwargs":{},"options":{},"subtask_type":null,"immutable":false}"#;

#[test]
fn a_call_looks_as_in_celery() {
    assert_eq!(add(1).to_value(), read(ADD_1));
    let full = add(1).kwarg("b", 2).set("queue", "q").immutable();
    let expected = r#"{"task":"add","args":[1],"kwargs":{"b":2},"options":{"queue":"q"},"subtask_type":null,"immutable":true}"#;
    assert_eq!(full.to_value(), read(expected));
    assert_eq!(full.options.queue().unwrap().as_str(), "q");
    assert_eq!(Signature::from_value(&full.to_value()).unwrap(), full);
}

#[test]
fn links_are_added_one_by_one() {
    let linked = add(1).link(add(2)).link(add(3)).link_error(add(4));
    assert_eq!(linked.options.link().unwrap(), [add(2), add(3)]);
    assert_eq!(linked.options.link_error().unwrap(), [add(4)]);
    // Celery also has a single one outside of a list.
    let single = Signature::from_value(&add(1).set("link", add(2).to_value()).to_value()).unwrap();
    assert_eq!(single.options.link().unwrap(), [add(2)]);
    assert_eq!(single.link(add(3)).options.link().unwrap(), [add(2), add(3)]);
}

#[test]
fn composites_look_as_in_celery() {
    let composite = |task: &str, kwargs: &str, kind: &str| {
        read(&format!(r#"{{"task":"{task}","args":[],"kwargs":{kwargs},"options":{{}},"subtask_type":"{kind}","immutable":false}}"#))
    };
    let tasks = format!(r#"{{"tasks":[{ADD_1}]}}"#);
    assert_eq!(Signature::chain([add(1)]).to_value(), composite("celery.chain", &tasks, "chain"));
    let group = composite("celery.group", &tasks, "group");
    assert_eq!(Signature::group([add(1)]).to_value(), group);
    let group = String::from_utf8(json::write(&group)).unwrap();
    let chord = Signature::chord([add(1)], add(1));
    assert_eq!(chord.to_value(), composite("celery.chord", &format!(r#"{{"kwargs":{{}},"header":{group},"body":{ADD_1}}}"#), "chord"));
    assert_eq!((chord.tasks().unwrap(), chord.body().unwrap()), (vec![add(1)], Some(add(1))));
    let items = || [Value::Int(1), Value::Int(2)];
    let it = format!(r#"{{"task":{ADD_1},"it":[1,2]}}"#);
    assert_eq!(Signature::map(add(1), items()).to_value(), composite("celery.map", &it, "xmap"));
    assert_eq!(Signature::starmap(add(1), items()).to_value(), composite("celery.starmap", &it, "xstarmap"));
    let chunks = format!(r#"{{"task":{ADD_1},"it":[1,2],"n":3}}"#);
    assert_eq!(Signature::chunks(add(1), items(), 3).to_value(), composite("celery.chunks", &chunks, "chunks"));
    for kind in ["chain", "group", "chord", "xmap", "xstarmap", "chunks"] {
        assert_eq!(SubtaskType::by_name(kind).unwrap().as_str(), kind);
    }
}

#[test]
fn a_bad_signature_is_found_however_deep_it_is() {
    let broken = |text: &str| Signature::from_value(&read(text)).unwrap_err().field;
    assert_eq!(broken("[]"), "");
    assert_eq!(broken("{}"), "task");
    assert_eq!(broken(r#"{"task":""}"#), "task");
    assert_eq!(broken(r#"{"task":"a","args":[]}"#), "options");
    assert_eq!(broken(r#"{"task":"a","options":{},"kwargs":{}}"#), "immutable");
    assert_eq!(broken(r#"{"task":"a","options":{},"kwargs":{},"immutable":1}"#), "immutable");
    assert_eq!(broken(r#"{"task":"a","options":{},"kwargs":{},"immutable":false,"subtask_type":"mob"}"#), "subtask_type");
    assert_eq!(broken(r#"{"task":"a","options":{"link":[1]},"kwargs":{},"immutable":false}"#), "options.link[0]");
    assert_eq!(broken(r#"{"task":"a","options":{},"kwargs":{},"immutable":false,"subtask_type":"chord"}"#), "kwargs.header");

    let bad = Value::Map(Map::from_iter([("task".to_owned(), Value::Int(1))]));
    let mut chain = Signature::chain([add(1)]);
    chain.kwargs.insert("tasks".to_owned(), Value::List(vec![add(1).to_value(), bad]));
    let chord = Signature::chord([Signature::group([chain])], add(1));
    let error = Signature::from_value(&add(1).set("chord", chord.to_value()).to_value()).unwrap_err();
    assert_eq!(error.field, "options.chord.kwargs.header.kwargs.tasks[0].kwargs.tasks[0].kwargs.tasks[1].task");
}

#[test]
fn what_is_not_known_is_kept() {
    let text = r#"{"task":"a","args":null,"kwargs":{},"options":{"stamp":["x"],"link":null},"immutable":false,"chord_size":3}"#;
    let signature = Signature::from_value(&read(text)).unwrap();
    assert_eq!((&signature.extra["chord_size"], signature.args.len()), (&Value::Int(3), 0));
    assert_eq!(signature.options.0["stamp"], read(r#"["x"]"#));
    assert_eq!(Signature::from_value(&signature.to_value()).unwrap(), signature);
}
