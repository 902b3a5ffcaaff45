//! Messages and results made by hand to be wrong, and what Umbel makes of each.
//!
//! Celery 5.6.3 exits, reconnects, drops the message or fails the task after having run it over most of them; Umbel names
//! the field and leaves everything else alone. What Celery tolerates is taken.

use umbel_proto::{DecodeError, Envelope, Invocation, Limits, ResultRecord, State, codec::Serializer};

use super::{captures, messages::there_and_back};

/// The fault of each message that has one; all others are taken.
const FAULTS: [(&str, &str); 17] = [
    ("kwargs_null", "body[1]"),
    ("args_as_object", "body[0]"),
    ("no_content_type", "content-type"),
    ("no_delivery_info", "properties.delivery_info"),
    ("no_delivery_tag", "properties.delivery_tag"),
    ("no_id_header", "headers.id"),
    ("no_task_header", "headers.task"),
    ("eta_epoch_number", "headers.eta"),
    ("eta_empty_string", "headers.eta"),
    ("eta_garbage", "headers.eta"),
    ("headers_null", "headers.task"),
    ("not_json", "envelope"),
    ("body_garbage", "body"),
    ("body_not_triple", "body"),
    ("empty_task_id", "headers.id"),
    ("int_task_id", "headers.id"),
    ("callbacks_single_object_not_list", "body[2].callbacks"),
];

/// A chain element that lacks what Celery needs to fail it.
const CHAIN_FAULT: (&str, &str) = ("chain_not_reversed_shape_min_sig", "body[2].chain[0].options");

fn read(raw: &str) -> Result<(Envelope, Invocation), DecodeError> {
    let envelope = Envelope::from_kombu(raw.as_bytes(), Limits::default())?;
    let invocation = Invocation::decode(&envelope, Limits::default())?;
    Ok((envelope, invocation))
}

#[test]
fn messages() {
    let mut refused = 0;
    for capture in captures("5.6", "hostile", 42) {
        let name = capture.from();
        let fault = FAULTS.iter().chain([&CHAIN_FAULT]).find(|(of, _)| *of == name);
        match (read(capture.raw()), fault) {
            (Err(error), Some((_, field))) => {
                assert_eq!(error.field, *field, "{name}: {error}");
                refused += 1;
            }
            // Numbers that came as text are sent on as numbers; otherwise nothing changes.
            (Ok((_, task)), None) if matches!(name, "retries_string" | "timelimit_strings") => {
                assert_eq!(Invocation::decode(&task.encode("tag", None).unwrap(), Limits::default()).unwrap(), task);
            }
            (Ok((envelope, _)), None) => drop(there_and_back(name, &envelope)),
            (Err(error), None) => panic!("{name} is tolerated by Celery: {error}"),
            (Ok(_), Some((_, field))) => panic!("{name} was taken, but {field} is at fault"),
        }
    }
    assert_eq!(refused, 18);
}

#[test]
fn tolerated_values_are_understood() {
    let captures = captures("5.6", "hostile", 42);
    let headers = |name: &str| read(captures.iter().find(|capture| capture.from() == name).unwrap().raw()).unwrap().1.headers;
    assert_eq!(headers("retries_string").retries, 3);
    let limit = headers("timelimit_strings").timelimit;
    assert_eq!((limit.hard_secs, limit.soft_secs), (Some(5.0), Some(3.0)));
    assert_eq!(headers("eta_offset_space").eta.unwrap().millis(), 1_577_927_045_000);
    assert_eq!(headers("eta_nanoseconds").eta.unwrap().millis(), 1_577_934_245_123);
    assert!(headers("extra_unknown_header_list").other.contains_key("umbel.trace"));
    assert_eq!(headers("json_dict_v1").id.as_str(), "v1-id");
}

#[test]
fn results() {
    for capture in captures("5.6", "foreign_results", 31) {
        let record = ResultRecord::from_stored(capture.raw().as_bytes(), Serializer::Json, Limits::default());
        match (capture.from(), record) {
            ("no_task_id", record) => assert_eq!(record.unwrap_err().field, "result meta.task_id"),
            ("no_status", record) => assert_eq!(record.unwrap_err().field, "result meta.status"),
            ("no_result", record) => assert_eq!(record.unwrap_err().field, "result meta.result"),
            ("lowercase_status", record) => assert_eq!(record.unwrap().status, State::Custom("success".to_owned())),
            ("fail_msg_string", record) => assert_eq!(record.unwrap().error().unwrap().exc_message, ["bad".into()]),
            ("fail_result_string" | "fail_result_null", record) => assert_eq!(record.unwrap().error(), None),
            (name, record) => drop(record.unwrap_or_else(|error| panic!("{name}: {error}"))),
        }
    }
}
