//! Events.

use std::collections::BTreeMap;

use umbel_proto::{Event, Limits, Value};

use super::{assert_equal, captures, parse, without_nulls};

#[test]
fn events() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (version, count) in [("5.6", 513), ("5.7", 96)] {
        for capture in captures(version, "events", count) {
            let events =
                Event::parse(capture.raw().as_bytes(), Limits::default()).unwrap_or_else(|error| panic!("{}: {error}", capture.from()));
            let raw = parse(capture.raw());
            let before = match &raw {
                Value::List(events) => events.clone(),
                single => vec![single.clone()],
            };
            assert_eq!(events.len(), before.len());
            for (event, before) in events.iter().zip(&before) {
                assert_equal(capture.from(), &without_nulls(before), &without_nulls(&event.to_value()));
                assert!(event.extra.is_empty(), "{} has fields not known here: {:?}", capture.from(), event.extra);
                *kinds.entry(event.action.kind().to_owned()).or_default() += 1;
            }
            let written = if raw.as_list().is_some() { Event::write_all(&events) } else { events[0].write() };
            assert_eq!(Event::parse(&written, Limits::default()).unwrap(), events);
        }
    }
    let kinds: Vec<(&str, usize)> = kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(
        kinds,
        [
            ("task-failed", 43),
            ("task-received", 186),
            ("task-rejected", 3),
            ("task-retried", 11),
            ("task-revoked", 5),
            ("task-sent", 25),
            ("task-started", 179),
            ("task-succeeded", 114),
            ("worker-elect", 4),
            ("worker-elect-ack", 8),
            ("worker-heartbeat", 25),
            ("worker-offline", 5),
            ("worker-online", 5),
        ]
    );
}
