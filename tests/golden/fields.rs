//! What a hand-picked set of captures says, field by field.

use umbel_proto::{Invocation, Limits, Signature, SubtaskType, TimeLimit, Value, codec::Serializer};

use super::{captures, messages::envelope, parse};

/// The messages that a client published in one scenario, oldest last.
fn published(scenario: &str, count: usize) -> Vec<Invocation> {
    let prefix = format!("redis-task-messages.{scenario}.");
    let messages: Vec<Invocation> = captures("5.6", "tasks", 226)
        .iter()
        .filter(|capture| capture.from().starts_with(&prefix))
        .map(|capture| Invocation::decode(&envelope(capture), Limits::default()).unwrap())
        .collect();
    assert_eq!(messages.len(), count, "{scenario}");
    messages
}

fn one(scenario: &str) -> Invocation {
    published(scenario, 1).remove(0)
}

fn names(signatures: &[Signature]) -> Vec<&str> {
    signatures.iter().map(|signature| signature.task.as_str()).collect()
}

#[test]
fn a_plain_task() {
    let task = one("default_add_2_2");
    let headers = &task.headers;
    assert_eq!((headers.task.as_str(), headers.lang.as_str()), ("capp.add", "py"));
    assert_eq!(headers.id.as_str(), "07f12740-720e-4b1d-8f35-cd8824bdef44");
    assert_eq!(headers.root_id.as_ref(), Some(&headers.id));
    assert_eq!((headers.retries, headers.ignore_result, headers.argsrepr.as_deref()), (0, Some(false), Some("(2, 2)")));
    assert_eq!((task.properties.routing_key.as_str(), task.properties.exchange.as_str()), ("celery", ""));
    assert_eq!((task.properties.priority, task.properties.redelivered), (Some(0), false));
    assert_eq!(task.properties.correlation_id.as_deref(), Some(headers.id.as_str()));
    let (args, kwargs) = task.arguments().unwrap();
    assert_eq!((args, kwargs.len()), (vec![Value::Int(2), Value::Int(2)], 0));
    assert!(task.embed().is_empty());
}

#[test]
fn times_limits_and_headers() {
    assert_eq!(one("countdown_10").headers.eta.unwrap().millis(), 1_795_239_941_350);
    let expiring = one("expires_60");
    assert_eq!(expiring.headers.expires.unwrap().as_str(), "2026-11-21T05:46:31.359951+00:00");
    assert_eq!(expiring.properties.other["expiration"], Value::from("60000"));
    assert_eq!(one("priority_10").properties.priority, Some(10));
    let limited = one("timelimits_shadow_ignore").headers;
    assert_eq!(limited.timelimit, TimeLimit { hard_secs: Some(30.0), soft_secs: Some(20.0) });
    assert_eq!((limited.shadow.as_deref(), limited.ignore_result), (Some("pretty.name"), Some(true)));
    let custom = one("custom_headers").headers.other;
    assert_eq!((&custom["x-trace"], &custom["n"]), (&Value::from("abc"), &Value::Int(5)));
    let stamped = one("stamped").headers;
    assert_eq!(stamped.stamped_headers.unwrap(), ["customer", "monitoring_id"]);
    assert_eq!(stamped.stamps["monitoring_id"], parse(r#"["a","b"]"#));
}

#[test]
fn other_serializers_and_compressions() {
    let (args, kwargs) = one("serializer_msgpack").arguments().unwrap();
    assert_eq!(Value::List(args), parse(r#"[1,"a",2.5,null,true,[1],{"k":"v"}]"#));
    assert_eq!(kwargs["kw"], Value::from("é"));
    for scenario in ["zlib", "gzip", "bzip2", "brotli", "lzma", "xz", "zstd"] {
        let (args, _) = one(&format!("compression_{scenario}")).arguments().unwrap();
        assert_eq!(args, [Value::Int(2), Value::Int(2)], "{scenario}");
    }
    for (scenario, expected) in [("serializer_pickle", Serializer::Pickle), ("serializer_yaml", Serializer::Yaml)] {
        let task = one(scenario);
        assert!(task.arguments().is_err() && task.embed().is_empty());
        assert!(matches!(task.body, umbel_proto::Body::Opaque { content_type, .. } if content_type == expected.content_type()));
    }
}

/// What a Rust task that takes text, bytes and numbers is given for Python's richer types.
#[test]
fn special_values_become_rust_types() {
    let (args, _) = one("special_types").arguments().unwrap();
    let text = |index: usize| args[index].clone().deserialize::<String>().unwrap();
    let texts = ["2030-01-02T03:04:05.678901", "2030-01-02T03:04:05+00:00", "2030-01-02", "03:04:05.000006", "1.10"];
    assert_eq!([0, 1, 2, 3, 4].map(text), texts);
    assert_eq!(text(5), "00000000-0000-0000-0000-000000000007");
    assert_eq!(args[4].clone().deserialize::<f64>().unwrap(), 1.1);
    let bytes = |index: usize| args[index].clone().deserialize::<Vec<u8>>().unwrap();
    assert_eq!((bytes(6), bytes(7)), (b"utf8-ok".to_vec(), vec![0xff, 0xfe]));
    assert_eq!(args[0].special().unwrap().0, "datetime");
    assert_eq!(args[9], Value::Float(f64::INFINITY));
    assert_eq!(args[11].clone().deserialize::<u128>().unwrap(), 1_180_591_620_717_411_303_424);
}

#[test]
fn what_follows() {
    let linked = one("link_and_link_error");
    assert_eq!(names(&linked.embed().callbacks), ["capp.mul"]);
    assert_eq!(names(&linked.embed().errbacks), ["capp.eb_old", "capp.eb_new"]);

    let chained = one("chain3");
    let next = chained.embed().chain.last().unwrap();
    assert_eq!(
        (chained.embed().chain.iter().map(|step| step.task.as_str()).collect::<Vec<_>>(), &next.args[..]),
        (vec!["capp.mul", "capp.add"], &[Value::Int(3)][..])
    );
    assert_eq!(next.options.task_id().unwrap().as_str(), "e4565c81-01e4-4808-b00f-8c214c1ac9b8");

    for (index, member) in published("chord", 2).iter().rev().enumerate() {
        let body = member.embed().chord.as_ref().unwrap();
        assert_eq!(body.task.as_str(), "capp.xsum");
        assert_eq!(body.options.group_id(), member.headers.group);
        assert_eq!(member.headers.group_index, i64::try_from(index).ok());
    }
}

#[test]
fn composites() {
    let upgraded = one("chain_group_task");
    assert_eq!(upgraded.embed().chain.len(), 1);
    let chord = &upgraded.embed().chain[0];
    assert_eq!(chord.subtask_type, Some(SubtaskType::Chord));
    assert_eq!(names(&chord.tasks().unwrap()), ["capp.add", "capp.add"]);
    let body = chord.body().unwrap().unwrap();
    assert_eq!((body.subtask_type, names(&body.tasks().unwrap())), (Some(SubtaskType::Chain), vec!["capp.xsum", "capp.add"]));

    let of_chains = &published("chord_header_of_chains", 2)[1];
    let last = &of_chains.embed().chain[0].options;
    assert_eq!((last.group_index(), last.chord().unwrap().unwrap().task.as_str()), (Some(0), "capp.xsum"));
    assert!(of_chains.headers.group.is_none());
}

#[test]
fn protocol_1_is_upgraded() {
    let captures = captures("5.6", "amqp", 32);
    let capture = captures.iter().find(|capture| capture.from() == "amqp-task-messages.protocol1").unwrap();
    let message = umbel_proto::Envelope {
        body: capture.text("body").as_bytes().to_vec().into(),
        content_type: "application/json".to_owned(),
        content_encoding: "utf-8".to_owned(),
        headers: umbel_proto::Map::new(),
        properties: umbel_proto::Map::new(),
    };
    let task = Invocation::decode(&message, Limits::default()).unwrap();
    assert_eq!(task.headers.task.as_str(), "capp.add");
    assert_eq!(task.headers.eta.as_ref().unwrap().millis(), 1_795_240_560_264);
    assert_eq!(names(&task.embed().callbacks), ["capp.mul"]);
    assert_eq!(task.arguments().unwrap().0, [Value::Int(1), Value::Int(2)]);
    // Sent on, it is a message of protocol 2.
    assert_eq!(task.encode("tag", None).unwrap().headers["task"], Value::from("capp.add"));
}
