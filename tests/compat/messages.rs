//! Task messages.

use serde_json::{Value as Json, json};
use umbel_proto::{
    Body, Embed, Envelope, Invocation, Map, Raw, Signature, TaskId, TaskName, TimeLimit, Value,
    codec::{Compression, Serializer},
};

use super::{VERSIONS, run};

fn id(text: &str) -> TaskId {
    TaskId::from(text)
}

/// A call of the task that tells what it sees.
fn call(task_id: &str, args: &[Value], kwargs: &Map) -> Invocation {
    let mut invocation = Invocation::new(TaskName::from("seen"), id(task_id), args, kwargs).unwrap();
    invocation.properties.routing_key = "celery".to_owned();
    invocation
}

fn encoded(invocation: &Invocation, compression: Option<Compression>) -> Envelope {
    invocation.encode(&format!("tag-{}", invocation.headers.id), compression).unwrap()
}

fn following(invocation: &mut Invocation, follow: impl FnOnce(&mut Embed)) {
    match &mut invocation.body {
        Body::Parts { embed, .. } => follow(embed),
        Body::Opaque { .. } => panic!("a call made here can be looked into"),
    }
}

/// Arguments of every kind arrive as what they are in Python, whatever the serializer and the compression.
#[test]
fn arguments_arrive() {
    let kwargs = Map::from_iter([("naïve key".to_owned(), Value::from("wörld \u{1F41F} \u{0} \" \\ \n"))]);
    let args = [
        Value::Null,
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Float(0.1),
        Value::Float(1e300),
        Value::from(""),
        Value::List(vec![Value::List(vec![]), Value::Map(Map::new())]),
    ];
    let expected_args = json!([null, true, i64::MIN, 0.1, 1e300, "", [[], {}]]);
    let expected_kwargs = json!({ "naïve key": "wörld \u{1F41F} \u{0} \" \\ \n" });
    let (mut messages, mut ids) = (Vec::new(), Vec::new());
    let compressions = [None, Some(Compression::Zlib), Some(Compression::Bzip2), Some(Compression::Xz)];
    for (index, compression) in compressions.into_iter().enumerate() {
        for serializer in [Serializer::Json, Serializer::Msgpack] {
            let task_id = format!("{serializer:?}-{index}");
            let mut invocation = call(&task_id, &args, &kwargs);
            let write = |value: &Value| Raw { serializer, bytes: serializer.encode(value).unwrap() };
            invocation.body = Body::Parts {
                args: write(&Value::List(args.to_vec())),
                kwargs: write(&Value::Map(kwargs.clone())),
                embed: Embed::default(),
            };
            messages.push(encoded(&invocation, compression));
            ids.push(id(&task_id));
        }
    }
    let ids: Vec<&TaskId> = ids.iter().collect();
    for version in VERSIONS {
        for told in run(version, &messages, &ids) {
            assert_eq!(told["args"], expected_args, "celery {version}: {told}");
            assert_eq!(told["kwargs"], expected_kwargs, "celery {version}: {told}");
        }
    }
}

/// What JSON cannot hold, Python's does: numbers that are none, integers of any size, bytes.
#[test]
fn values_beyond_json_arrive() {
    let args = [
        Value::Float(f64::NAN),
        Value::Float(f64::NEG_INFINITY),
        Value::BigInt("123456789012345678901234567890".into()),
        Value::Bytes(vec![0, 255, 10]),
    ];
    // As text, because JSON has no form for them.
    let shape: Vec<Value> = args.to_vec();
    let message = encoded(&call("beyond", &shape, &Map::new()), None);
    for version in VERSIONS {
        let told = run_text(version, &message, "beyond");
        assert!(told.contains(r#""args": [NaN, -Infinity, 123456789012345678901234567890, {"bytes": [0, 255, 10]}]"#), "{version}: {told}");
    }
}

/// Everything the headers say reaches the task's request.
#[test]
fn headers_arrive() {
    let mut invocation = call("headers", &[], &Map::new());
    let headers = &mut invocation.headers;
    headers.root_id = Some(id("root"));
    headers.parent_id = Some(id("parent"));
    headers.group = Some("group".into());
    headers.group_index = Some(3);
    headers.retries = 2;
    headers.timelimit = TimeLimit { hard_secs: Some(60.0), soft_secs: Some(30.5) };
    headers.other.insert("x-tenant".to_owned(), Value::from("a"));
    invocation.properties.priority = Some(7);
    for version in VERSIONS {
        let told = &run(version, &[encoded(&invocation, None)], &[&id("headers")])[0];
        let expected = json!({
            "id": "headers", "args": [], "kwargs": {}, "retries": 2, "root_id": "root", "parent_id": "parent",
            "group": "group", "group_index": 3, "timelimit": [60, 30.5], "priority": 7, "stamps": {},
            "headers": { "x-tenant": "a" },
        });
        let differing: Vec<(&String, &Json)> =
            told.as_object().unwrap().iter().filter(|(name, value)| !same(&expected[name.as_str()], value)).collect();
        assert!(differing.is_empty(), "celery {version}: {differing:?}");
    }
}

/// What follows a task is sent by Celery: callbacks, the rest of a chain in its order, errbacks.
#[test]
fn what_follows_is_followed() {
    let step = |task_id: &str| Signature::new("seen").set("task_id", task_id);
    let mut first = call("first", &[Value::Int(1)], &Map::new());
    following(&mut first, |embed| {
        embed.callbacks = vec![step("callback").arg("own")];
        // The next step is the last of the list.
        embed.chain = vec![step("third").immutable(), step("second")].into();
    });
    let mut failing = call("failing", &[], &Map::from_iter([("fail".to_owned(), Value::Bool(true))]));
    following(&mut failing, |embed| embed.errbacks = vec![step("errback").arg("own").immutable()]);
    let messages = [encoded(&first, None), encoded(&failing, None)];
    let ids = ["first", "callback", "second", "third", "failing", "errback"].map(id);
    for version in VERSIONS {
        let told = run(version, &messages, &ids.each_ref());
        let args: Vec<&Json> = told.iter().map(|told| &told["args"]).collect();
        assert_eq!(json!(args), json!([[1], [[1], "own"], [[1]], [], [], ["own"]]), "celery {version}");
        assert_eq!(told[3]["parent_id"], "second", "celery {version}");
        assert_eq!(told[2]["root_id"], "first", "celery {version}");
    }
}

/// Equality of JSON where 60 is 60.0.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn run_text(version: &str, message: &Envelope, task_id: &str) -> String {
    super::run_lines(version, std::slice::from_ref(message), &[&id(task_id)]).remove(0)
}
