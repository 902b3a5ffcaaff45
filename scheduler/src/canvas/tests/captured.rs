//! Messages that Celery's own clients sent, 5.6.3 and 5.7.0 side by side: both mean the same here.

use umbel_proto::{Limits, Map, Signature, State, Value, codec::json};

use super::*;
use crate::{Commit, Effect, Fence, OpenChord};

/// Puts the captured messages of one workflow into a model, with the chords the client has opened for them.
fn load(messages: &[Value], change: impl Fn(Signature) -> Signature) -> Model {
    let mut model = Model::default();
    let signatures: Vec<Signature> = messages.iter().map(|message| change(signature(message.as_map().unwrap()))).collect();
    let mut size = u32::try_from(signatures.len()).unwrap();
    let mut member = signatures[0].clone();
    // A body that is itself a header member is one of an outer chord of the client's.
    while let (Some(body), Some(group)) = (member.options.chord().unwrap(), member.options.group_id()) {
        let opened = Effect::OpenChord(Box::new(OpenChord { group, size, body: body.clone() }));
        model.commit(Commit { fence: Fence::Open, effects: vec![opened] }, None);
        (member, size) = (body, 1);
    }
    for signature in &signatures {
        model.submit(signature).unwrap();
    }
    model
}

/// A message as the call it came from.
fn signature(message: &Map) -> Signature {
    let body = message["body"].as_list().unwrap();
    let mut signature = Signature::new(message["task"].as_str().unwrap().trim_start_matches("capp."));
    signature.args = body[0].as_list().unwrap().to_vec();
    let embed = body[2].as_map().unwrap();
    let places = [("task_id", "id"), ("group_id", "group"), ("group_index", "group_index")].map(|(option, key)| (option, message.get(key)));
    let follows = [("link", "callbacks"), ("link_error", "errbacks"), ("chain", "chain"), ("chord", "chord")];
    let follows = follows.map(|(option, key)| (option, embed.get(key)));
    for (option, value) in places.into_iter().chain(follows) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            signature = signature.set(option, value.clone());
        }
    }
    signature
}

fn fails(mut signature: Signature) -> Signature {
    signature.kwargs.insert("fail".to_owned(), true.into());
    signature
}

/// The form and both clients' messages for it.
fn forms() -> Vec<(String, Vec<Vec<Value>>)> {
    let text = include_bytes!("../../../testdata/celery-canvas.json");
    let parsed = json::parse(text, Limits::default()).unwrap();
    let forms = parsed.as_map().unwrap()["forms"].as_map().unwrap().clone();
    let versions = |form: Value| form.as_map().unwrap().values().map(|messages| messages.as_list().unwrap().to_vec()).collect();
    forms.into_iter().map(|(name, form)| (name, versions(form))).collect()
}

/// Names of what ran, in order, with its arguments.
fn runs(model: &Model) -> Vec<String> {
    let mut runs: Vec<String> =
        model.endings.iter().map(|(message, _)| called(message.headers.task.as_str(), &message.arguments().unwrap().0)).collect();
    runs.sort();
    runs
}

/// What the workflow comes to, `A` and `B` being the values of its first two tasks.
fn meaning(form: &str) -> &'static str {
    match form {
        "chain_group_task_task" | "chain_with_chord_element" => "capp.inc(capp.xsum([capp.inc(A),capp.inc(A)]))",
        "chain_link_error_with_chord" => "capp.xsum([capp.inc(A),capp.inc(A)])",
        "chord_body_chord" => "capp.ident([capp.ident([A,B]),capp.ident([A,B])])",
        "chord_body_group" => "capp.ident([A,B])",
        "nested_chord_header" => "capp.xsum([capp.xsum([A,B])])",
        "two_chords_in_chain" => "capp.xsum([capp.inc(capp.xsum([A,B])),capp.inc(capp.xsum([A,B]))])",
        other => panic!("{other}"),
    }
}

#[test]
fn both_clients_messages_come_to_the_same() {
    for (name, versions) in forms() {
        assert_eq!(versions.len(), 2);
        for messages in &versions {
            let mut model = load(messages, |signature| signature);
            model.run_in_order(&mut behave);
            if name == "chain_empty_group" {
                // 5.7's client drops the empty group, 5.6's sends a chord without a header.
                assert_eq!(model.endings.len(), 2);
                continue;
            }
            let expected = meaning(&name).replace('A', "add(Int(1),Int(1))").replace('B', "add(Int(2),Int(2))");
            let found = show(&model.results.values().map(|record| record.result.clone()).max_by_key(|value| show(value).len()).unwrap());
            assert_eq!(found, expected, "{name}");
            assert!(model.chords.values().all(|chord| chord.concluded), "{name}");
        }
    }
}

/// Every id in the messages, whoever holds it, ends when the first task fails.
#[test]
fn no_id_in_either_clients_messages_stays_open_after_a_failure() {
    for (name, versions) in forms() {
        for messages in &versions {
            let mut model = load(messages, fails);
            model.run_in_order(&mut behave);
            assert!(runs(&model).iter().all(|run| run.starts_with("add(") || run.starts_with("capp.eb(")), "{name}: {:?}", runs(&model));
            let mut ids = Vec::new();
            messages.iter().for_each(|message| task_ids(message, &mut ids));
            for id in ids {
                let record = model.record(&id).unwrap_or_else(|| panic!("{name}: {id} stays open"));
                assert_eq!(record.status, State::Failure, "{name}: {id}");
            }
        }
    }
}

/// The ids of plain signatures anywhere in a message.
fn task_ids(value: &Value, ids: &mut Vec<String>) {
    match value {
        Value::List(list) => list.iter().for_each(|value| task_ids(value, ids)),
        Value::Map(map) => {
            let plain = map.get("subtask_type").is_some_and(Value::is_null);
            if let (true, Some(options)) = (plain, map.get("options").and_then(Value::as_map)) {
                ids.extend(options.get("task_id").and_then(Value::as_str).map(str::to_owned));
            }
            map.values().for_each(|value| task_ids(value, ids));
        }
        _ => {}
    }
}
