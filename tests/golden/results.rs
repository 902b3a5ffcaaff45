//! Results and chord parts.

use base64::{Engine, engine::general_purpose::STANDARD};
use umbel_proto::{
    Limits, ResultRecord, State, Value,
    codec::{Compression, Serializer},
    inflate,
};

use super::{assert_equal, captures, parse, without_nulls};

fn record(from: &str, serializer: Serializer, bytes: &[u8]) -> ResultRecord {
    let limits = Limits::default();
    let record = ResultRecord::from_stored(bytes, serializer, limits).unwrap_or_else(|error| panic!("{from}: {error}"));
    let written = record.to_stored(serializer, None).unwrap();
    let read = |bytes: &[u8]| without_nulls(&serializer.decode(bytes, limits).unwrap());
    let plain = inflate(bytes, limits).unwrap().map_or_else(|| bytes.to_vec(), |plain| plain.to_vec());
    assert_equal(from, &read(&plain), &read(&written));
    record
}

#[test]
fn results() {
    let mut opaque = 0;
    let mut states = std::collections::BTreeMap::new();
    for (version, count) in [("5.6", 203), ("5.7", 34)] {
        for capture in captures(version, "results", count) {
            let serializer = Serializer::by_name(capture.text("serializer")).unwrap();
            let bytes = match capture.get("b64") {
                Some(text) => STANDARD.decode(text.as_str().unwrap()).unwrap(),
                None => capture.raw().as_bytes().to_vec(),
            };
            if serializer.is_opaque() {
                assert!(ResultRecord::from_stored(&bytes, serializer, Limits::default()).is_err());
                opaque += 1;
                continue;
            }
            let record = record(capture.from(), serializer, &bytes);
            let failed = matches!(record.status, State::Failure | State::Revoked) && !record.result.is_null();
            assert_eq!(
                record.error().is_some(),
                failed || (record.status == State::Retry && !record.result.is_null()),
                "{}",
                capture.from()
            );
            *states.entry(record.status.as_str().to_owned()).or_insert(0) += 1;
        }
    }
    assert_eq!(opaque, 4);
    let states: Vec<(&str, i32)> = states.iter().map(|(state, count)| (state.as_str(), *count)).collect();
    assert_eq!(states, [("FAILURE", 56), ("PROGRESS", 1), ("RETRY", 8), ("REVOKED", 16), ("STARTED", 2), ("SUCCESS", 150)]);
}

#[test]
fn compressed_payloads() {
    let mut parts = 0;
    for capture in captures("5.7", "compressed", 5) {
        let bytes = STANDARD.decode(capture.text("b64")).unwrap();
        let plain = inflate(&bytes, Limits::default()).unwrap().unwrap();
        let value = Serializer::Json.decode(&plain, Limits::default()).unwrap();
        if value.as_list().is_some() {
            parts += 1;
            continue;
        }
        let record = record(capture.from(), Serializer::Json, &bytes);
        for compression in [Compression::Zlib, Compression::Zstd] {
            let stored = record.to_stored(Serializer::Json, Some(compression)).unwrap();
            assert_eq!(ResultRecord::from_stored(&stored, Serializer::Json, Limits::default()).unwrap(), record);
        }
    }
    assert_eq!(parts, 2);
}

/// `[1, task id, state, result]`: a JSON list like any other; what matters is that its results come back as they were.
#[test]
fn chord_parts() {
    for (version, count) in [("5.6", 50), ("5.7", 151)] {
        for capture in captures(version, "parts", count) {
            let part = parse(capture.raw());
            assert_equal(capture.from(), &part, &parse(std::str::from_utf8(&Serializer::Json.encode(&part).unwrap()).unwrap()));
            let Some([Value::Int(1), Value::Str(_), Value::Str(state), result]) = part.as_list() else { panic!("{part:?}") };
            let error = umbel_proto::TaskError::from_value(result);
            assert_eq!(error.is_ok(), state != "SUCCESS", "{}", capture.from());
        }
    }
}
