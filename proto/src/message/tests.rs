//! A message there and back.
use super::*;

const ENVELOPE: &[u8] = br#"{"body": "W1syLCAyXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "capp.add", "id": "07f12740", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "07f12740", "parent_id": null, "argsrepr": "(2, 2)", "kwargsrepr": "{}", "origin": "gen@vm", "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}, "properties": {"correlation_id": "07f12740", "reply_to": "524c", "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "35aa"}}"#;

#[test]
fn a_message_is_read_and_written() {
    let envelope = Envelope::from_kombu(ENVELOPE, Limits::default()).unwrap();
    assert_eq!(Envelope::from_kombu(&envelope.to_kombu(), Limits::default()).unwrap(), envelope);
    let invocation = Invocation::decode(&envelope, Limits::default()).unwrap();
    assert_eq!(invocation.headers.task.as_str(), "capp.add");
    assert_eq!(invocation.properties.routing_key, "celery");
    assert_eq!(invocation.arguments().unwrap().0, vec![Value::Int(2), Value::Int(2)]);
    assert!(invocation.embed().is_empty());
    let again = Invocation::decode(&invocation.encode("35aa", None).unwrap(), Limits::default()).unwrap();
    assert_eq!(again, invocation);
    assert_eq!(invocation.encode("35aa", None).unwrap().headers, envelope.headers);
}

fn envelope() -> Envelope {
    Envelope::from_kombu(ENVELOPE, Limits::default()).unwrap()
}

fn fault(change: impl FnOnce(&mut Envelope)) -> String {
    let mut envelope = envelope();
    change(&mut envelope);
    Invocation::decode(&envelope, Limits { size_bytes: 4096, depth: 16 }).unwrap_err().field
}

#[test]
fn faults_of_messages_are_named() {
    let header = |name: &str, value: Value| fault(|envelope| drop(envelope.headers.insert(name.to_owned(), value)));
    let body = |text: &str| fault(|envelope| envelope.body = text.as_bytes().to_vec().into());
    assert_eq!(header("retries", (-1).into()), "headers.retries");
    assert_eq!(header("timelimit", Value::List(vec![Value::Null])), "headers.timelimit");
    assert_eq!(header("timelimit", Value::List(vec![f64::NAN.into(), Value::Null])), "headers.timelimit");
    assert_eq!(header("stamped_headers", Value::List(vec![1.into()])), "headers.stamped_headers[0]");
    assert_eq!(header("expires", "".into()), "headers.expires");
    assert_eq!(header("compression", "lz4".into()), "headers.compression");
    assert_eq!(header("compression", "zlib".into()), "body");
    assert_eq!(header("group", 1.into()), "headers.group");
    assert_eq!(fault(|envelope| envelope.content_type = String::new()), "content-type");
    assert_eq!(fault(|envelope| envelope.content_encoding = "utf-16".into()), "content-encoding");
    assert_eq!(fault(|envelope| drop(envelope.properties.insert("reply_to".into(), true.into()))), "properties.reply_to");
    assert_eq!(body(&" ".repeat(5000)), "body");
    assert_eq!(body("[[],{},{}] x"), "body");
    assert_eq!(body("[[],{},{},{}]"), "body");
    assert_eq!(body("[[1,,2],{},{}]"), "body[0]");
    assert_eq!(body("[[],{\"a\"},{}]"), "body[1]");
    assert_eq!(body("[[],{},7]"), "body[2]");
    assert_eq!(body(&format!("[{}{},{{}},{{}}]", "[".repeat(16), "]".repeat(16))), "body[0]");
    assert_eq!(
        body(r#"[[],{},{"chord":{"task":"a","kwargs":{},"options":{"chord":[]},"immutable":true}}]"#),
        "body[2].chord.options.chord"
    );
}

/// What an application has registered with kombu goes on as it came.
#[test]
fn other_serializers_are_kept_closed() {
    let mut envelope = envelope();
    envelope.content_type = "application/x-own".to_owned();
    let own = Invocation::decode(&envelope, Limits::default()).unwrap();
    assert!(own.arguments().is_err() && own.embed().is_empty());
    let again = own.encode("", None).unwrap();
    assert_eq!((again.content_type, again.content_encoding), ("application/x-own".to_owned(), "utf-8".to_owned()));
    assert_eq!(again.body, envelope.body);
}

#[test]
fn faults_of_protocol_1_are_named() {
    let body = |text: &str| {
        fault(|envelope| {
            envelope.headers.clear();
            envelope.body = text.as_bytes().to_vec().into();
        })
    };
    assert_eq!(body("[]"), "headers.task");
    assert_eq!(body(r#"{"task":"a"}"#), "body.id");
    assert_eq!(body(r#"{"task":"a","id":"b","args":{}}"#), "body.args");
    assert_eq!(body(r#"{"task":"a","id":"b","kwargs":null}"#), "body.kwargs");
    assert_eq!(body(r#"{"task":"a","id":"b","eta":""}"#), "body.eta");
    assert_eq!(body(r#"{"task":"a","id":"b","callbacks":[{}]}"#), "body.callbacks[0].task");
}

#[test]
fn headers_of_earlier_deaths_are_not_sent_on() {
    let mut envelope = envelope();
    for name in ["x-death", "x-first-death-queue", "x-last-death-reason", "x-trace"] {
        envelope.headers.insert(name.to_owned(), "a".into());
    }
    let invocation = Invocation::decode(&envelope, Limits::default()).unwrap();
    assert_eq!(invocation.headers.other.len(), 4);
    let sent = invocation.encode("tag", None).unwrap().headers;
    assert_eq!(sent.keys().filter(|name| name.starts_with("x-")).collect::<Vec<_>>(), ["x-trace"]);
}

#[test]
fn what_follows_is_kept_with_keys_nobody_knows() {
    let mut envelope = envelope();
    let body =
        br#"[[1],{},{"chain":[{"task":"a","args":[],"kwargs":{},"options":{},"subtask_type":null,"immutable":true,"z":1}],"later":[2]}]"#;
    envelope.body = Bytes::from_static(body);
    let invocation = Invocation::decode(&envelope, Limits::default()).unwrap();
    assert_eq!(invocation.embed().other["later"], Value::List(vec![Value::Int(2)]));
    let sent = invocation.encode("tag", Some(crate::codec::Compression::Zstd)).unwrap();
    assert_eq!(Invocation::decode(&sent, Limits::default()).unwrap(), invocation);
}

/// Steps of a chain are handed on as they came, whatever else changes.
#[test]
fn steps_are_written_as_they_came() {
    let step = |name: &str| {
        format!(r#"{{"task": "{name}", "args": [1e2, "\u00e9é"], "kwargs": {{}}, "options": {{}}, "immutable": false,  "z": null}}"#)
    };
    let body = format!(r#" [[], {{}}, {{"callbacks": null, "ch\u0061in" : [ {} , {}], "chord": null}}]"#, step("last"), step("next"));
    let envelope = Envelope { body: body.into(), ..envelope() };
    let mut invocation = Invocation::decode(&envelope, Limits::default()).unwrap();
    let Body::Parts { embed, .. } = &mut invocation.body else { panic!("parts") };
    let (next, rest) = embed.chain.split_last().unwrap();
    assert_eq!((next.task.as_str(), rest.len(), rest[0].task.as_str()), ("next", 1, "last"));
    embed.chain = rest;
    embed.callbacks.push(Signature::new("callback"));
    let sent = invocation.encode("tag", None).unwrap();
    assert!(std::str::from_utf8(&sent.body).unwrap().contains(&format!(r#""chain":[{}],"chord":null"#, step("last"))));
    assert_eq!(Invocation::decode(&sent, Limits::default()).unwrap(), invocation);

    // What is not JSON is written anew.
    let Body::Parts { args, kwargs, .. } = &mut invocation.body else { panic!("parts") };
    *args = Raw { serializer: Serializer::Msgpack, bytes: Serializer::Msgpack.encode(&Value::List(Vec::new())).unwrap() };
    *kwargs = Raw { serializer: Serializer::Msgpack, bytes: Serializer::Msgpack.encode(&Value::Map(Map::new())).unwrap() };
    let sent = invocation.encode("tag", None).unwrap();
    assert_eq!(Invocation::decode(&sent, Limits::default()).unwrap().embed().chain, invocation.embed().chain);
}

/// Of equal keys the last wins, as for Python.
#[test]
fn the_last_of_two_chains_counts() {
    let step = r#"{"task":"a","args":[],"kwargs":{},"options":{},"immutable":true}"#;
    let body = |embed: &str| Envelope { body: format!("[[],{{}},{{{embed}}}]").into(), ..envelope() };
    let read = |embed: &str| Invocation::decode(&body(embed), Limits::default()).map(|read| read.embed().chain.len());
    assert_eq!(read(&format!(r#""chain":[{step}],"chain":null"#)).unwrap(), 0);
    assert_eq!(read(&format!(r#""chain":null,"chain":[{step},{step}]"#)).unwrap(), 2);
    assert_eq!(read(r#""chain":[]"#).unwrap(), 0);
    assert_eq!(read(r#""chain":{}"#).unwrap_err().field, "body[2].chain");
    assert_eq!(read(&format!(r#""chain":[{step},{{"task":""}}]"#)).unwrap_err().field, "body[2].chain[1].task");
}

#[test]
fn arguments_of_another_serializer_are_written_again() {
    let mut invocation = Invocation::new("t".into(), "i".into(), &[Value::Int(1)], &Map::new()).unwrap();
    let Body::Parts { args, .. } = &mut invocation.body else { panic!("parts") };
    *args = Raw { serializer: Serializer::Msgpack, bytes: Serializer::Msgpack.encode(&Value::List(vec![2.into()])).unwrap() };
    let sent = invocation.encode("tag", None).unwrap();
    assert_eq!((sent.content_type.as_str(), sent.content_encoding.as_str()), ("application/x-msgpack", "binary"));
    let read = Invocation::decode(&sent, Limits::default()).unwrap();
    assert_eq!(read.arguments().unwrap(), (vec![Value::Int(2)], Map::new()));
}
