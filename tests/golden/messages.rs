//! Task messages, envelopes and unacked entries.

use bytes::Bytes;
use umbel_proto::{
    Body, Envelope, Invocation, Limits, Map, Value,
    codec::{Compression, Serializer},
    message::Unacked,
};

use super::{Capture, assert_equal, captures, parse, without_nulls};

/// The header table without what stands for its default: an absent header and a default one are the same to every reader.
fn essential(headers: &Map) -> Value {
    let defaults = parse(r#"{"lang":"py","retries":0,"timelimit":[null,null],"replaced_task_nesting":0,"stamps":{}}"#);
    let defaults = defaults.as_map().unwrap();
    let essential: Map = headers
        .iter()
        .filter(|(name, value)| defaults.get(*name) != Some(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    without_nulls(&Value::Map(essential))
}

/// A body of three parts without what says that nothing follows, in one of the ways there are to say so.
fn plain(body: Value) -> Value {
    let Value::List(mut parts) = body else { panic!("{body:?} is no list") };
    let empty = Value::List(Vec::new());
    let embed = match parts.pop().unwrap() {
        Value::Map(map) => map.into_iter().filter(|(_, value)| !value.is_null() && *value != empty).collect::<Map>(),
        Value::Null => Map::new(),
        other => panic!("{other:?} follows"),
    };
    parts.push(Value::Map(embed));
    Value::List(parts)
}

fn compression(headers: &Map) -> Option<Compression> {
    headers.get("compression").map(|name| Compression::by_name(name.as_str().unwrap()).unwrap())
}

fn decompressed(envelope: &Envelope) -> Bytes {
    compression(&envelope.headers)
        .map_or_else(|| envelope.body.clone(), |compression| compression.decompress(&envelope.body, Limits::default()).unwrap())
}

/// Decodes the task in `envelope`, encodes it and compares all there is.
pub(super) fn there_and_back(from: &str, envelope: &Envelope) -> Invocation {
    let limits = Limits::default();
    let invocation = Invocation::decode(envelope, limits).unwrap_or_else(|error| panic!("{from}: {error}"));
    let tag = envelope.properties.get("delivery_tag").and_then(Value::as_str).unwrap_or("tag");
    let again = invocation.encode(tag, compression(&envelope.headers)).unwrap();
    assert_eq!((&again.content_type, &again.content_encoding), (&envelope.content_type, &envelope.content_encoding), "{from}");

    let (before, after) = (decompressed(envelope), decompressed(&again));
    if envelope.headers.contains_key("task") {
        assert_equal(from, &essential(&envelope.headers), &essential(&again.headers));
        match &invocation.body {
            Body::Parts { args, .. } => {
                let read = |bytes: &[u8]| plain(args.serializer.decode(bytes, limits).unwrap());
                assert_equal(from, &read(&before), &read(&after));
            }
            Body::Opaque { .. } => assert_eq!(before, after, "{from}"),
        }
    }
    let mut properties = envelope.properties.clone();
    properties.insert("delivery_tag".to_owned(), tag.into());
    let mut delivery = properties["delivery_info"].as_map().unwrap().clone();
    // That a message has not been delivered before is also said by saying nothing.
    if delivery.get("redelivered") == Some(&Value::Bool(false)) {
        delivery.shift_remove("redelivered");
        properties.insert("delivery_info".to_owned(), Value::Map(delivery));
    }
    assert_equal(from, &without_nulls(&properties.into()), &again.properties.clone().into());
    assert_eq!(Invocation::decode(&again, limits).unwrap(), invocation, "{from}");
    invocation
}

/// Reads an envelope as kombu wrote it and checks that writing it changes nothing.
pub(super) fn envelope(capture: &Capture) -> Envelope {
    let limits = Limits::default();
    let envelope = Envelope::from_kombu(capture.raw().as_bytes(), limits).unwrap_or_else(|error| panic!("{}: {error}", capture.from()));
    let written = String::from_utf8(envelope.to_kombu()).unwrap();
    assert_equal(capture.from(), &parse(capture.raw()), &parse(&written));
    envelope
}

#[test]
fn task_messages_on_redis() {
    let mut serializers = [0; 4];
    let mut compressed = 0;
    for capture in captures("5.6", "tasks", 226) {
        let envelope = envelope(&capture);
        let invocation = there_and_back(capture.from(), &envelope);
        compressed += usize::from(envelope.headers.contains_key("compression"));
        let serializer = match invocation.body {
            Body::Parts { args, .. } => args.serializer,
            Body::Opaque { content_type, .. } => Serializer::by_name(&content_type).unwrap(),
        };
        let all = [Serializer::Json, Serializer::Msgpack, Serializer::Yaml, Serializer::Pickle];
        serializers[all.iter().position(|one| *one == serializer).unwrap()] += 1;
    }
    assert_eq!((serializers, compressed), ([223, 1, 1, 1], 7));
}

#[test]
fn task_messages_on_rabbitmq() {
    for capture in captures("5.6", "amqp", 32) {
        let map = |name: &str| capture.get(name).unwrap().as_map().unwrap().clone();
        let body = match capture.get("body_hex") {
            Some(hex) => unhex(hex.as_str().unwrap()),
            None => capture.text("body").as_bytes().to_vec(),
        };
        let envelope = Envelope {
            body: body.into(),
            content_type: capture.text("content_type").to_owned(),
            content_encoding: capture.text("content_encoding").to_owned(),
            headers: map("headers"),
            properties: map("properties"),
        };
        there_and_back(capture.from(), &envelope);
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn unacked_entries() {
    for capture in captures("5.6", "unacked", 148) {
        let unacked = Unacked::from_json(capture.raw().as_bytes(), Limits::default()).unwrap();
        let written = String::from_utf8(unacked.to_json()).unwrap();
        assert_equal(capture.from(), &parse(capture.raw()), &parse(&written));
        there_and_back(capture.from(), &unacked.envelope);
    }
}

#[test]
fn envelopes_of_control_and_events() {
    for capture in captures("5.6", "control", 106) {
        let envelope = envelope(&capture);
        assert!(Invocation::decode(&envelope, Limits::default()).is_err(), "{} is no task", capture.from());
    }
}

/// The bodies of the workflows that 5.7 publishes in another form than 5.6, in both forms.
#[test]
fn bodies_of_workflows() {
    for capture in captures("5.7", "bodies", 27) {
        let headers = parse(r#"{"task":"t","id":"i"}"#);
        let properties = parse(r#"{"delivery_info":{"exchange":"","routing_key":"q"},"delivery_mode":2}"#);
        let envelope = Envelope {
            body: capture.raw().as_bytes().to_vec().into(),
            content_type: "application/json".to_owned(),
            content_encoding: "utf-8".to_owned(),
            headers: headers.as_map().unwrap().clone(),
            properties: properties.as_map().unwrap().clone(),
        };
        there_and_back(capture.from(), &envelope);
    }
}
