//! Events that no capture has.

use super::*;
use crate::TaskId;

const HEARTBEAT: &str = r#"{"hostname":"celery@vm","utcoffset":0,"pid":7,"clock":12,"freq":2.0,"active":1,"processed":3,
    "loadavg":[0.1,2,0.3],"sw_ident":"py-celery","sw_ver":"5.6.3","sw_sys":"Linux","timestamp":1.5,"type":"worker-heartbeat"}"#;

#[test]
fn one_event_and_a_list_are_read() {
    let [event] = &Event::parse(HEARTBEAT.as_bytes(), Limits::default()).unwrap()[..] else { panic!("one event") };
    let Action::WorkerHeartbeat(state) = &event.action else { panic!("{event:?}") };
    assert_eq!((state.processed, &state.loadavg[..]), (3, &[0.1, 2.0, 0.3][..]));
    assert_eq!(event.routing_key(), "worker.heartbeat");

    let started = Event {
        action: Action::TaskStarted(TaskUuid { uuid: TaskId::from("a") }),
        extra: Map::from_iter([("own".to_owned(), Value::Int(1))]),
        ..event.clone()
    };
    let both = [event.clone(), started];
    assert_eq!(Event::parse(&Event::write_all(&both), Limits::default()).unwrap(), both);
    assert_eq!(Event::parse(&both[1].write(), Limits::default()).unwrap(), both[1..]);
}

#[test]
fn types_of_ones_own_are_kept() {
    let text = br#"{"hostname":"a","utcoffset":-5.5,"type":"task-progress","percent":50}"#;
    let [event] = &Event::parse(text, Limits::default()).unwrap()[..] else { panic!("one event") };
    assert_eq!((event.action.kind(), event.utcoffset, event.clock), ("task-progress", -5.5, None));
    assert_eq!(event.extra.get("percent"), Some(&Value::Int(50)));
}

#[test]
fn faults_are_named() {
    let cases = [
        ("[1]", "event[0]"),
        ("7", "event"),
        ("{}", "event.type"),
        (r#"{"type":"worker-online"}"#, "event.hostname"),
        (r#"{"type":"task-started","hostname":"a"}"#, "event.uuid"),
        (r#"[{"type":"task-started","hostname":"a","uuid":1}]"#, "event[0].uuid"),
        (r#"{"type":"x","hostname":"a","clock":"b"}"#, "event.clock"),
    ];
    for (text, field) in cases {
        assert_eq!(Event::parse(text.as_bytes(), Limits::default()).unwrap_err().field, field);
    }
}
