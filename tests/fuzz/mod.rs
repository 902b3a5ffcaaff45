//! Decoders fed with captures that have been damaged at random.
//!
//! Not a coverage-guided fuzzer (those need a nightly compiler), but the same question: is there an input that makes a
//! decoder panic, or that comes out of it and cannot be written again? The inputs are the captures of `tests/golden`, changed
//! by a few random steps; the numbers are drawn from a fixed seed, so that a failure is found again by running the test again.
//! `UMBEL_FUZZ_ITERATIONS` sets how many inputs are tried; the default takes a few seconds.

mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::{Engine, engine::general_purpose::STANDARD};
use mutate::{Dice, mutated};
use umbel_proto::{
    Body, Envelope, Event, Invocation, Limits, Map, ResultRecord, Signature, Timestamp, Value,
    codec::{Serializer, json},
    inflate,
    message::Unacked,
};

use crate::golden::captures;

/// Inputs tried unless `UMBEL_FUZZ_ITERATIONS` says otherwise.
const ITERATIONS: u64 = 30_000;

/// Small enough that an input cannot be slow, large enough that captures pass.
const LIMITS: Limits = Limits { size_bytes: 1 << 20, depth: 128 };

/// What reads an input.
#[derive(Debug, Clone, Copy)]
enum Target {
    Envelope,
    Unacked,
    Event,
    Result(Serializer),
    Body(Serializer),
    Headers,
    Compressed,
    Time,
}

/// The first inputs: all captures, and what is inside of them.
fn corpus() -> Vec<(Target, Vec<u8>)> {
    let mut corpus: Vec<(Target, Vec<u8>)> = Vec::new();
    let raw = |version: &str, kind: &str, count: usize| -> Vec<Vec<u8>> {
        captures(version, kind, count).iter().map(|capture| capture.raw().as_bytes().to_vec()).collect()
    };
    for bytes in raw("5.6", "tasks", 226).into_iter().chain(raw("5.6", "hostile", 42)) {
        if let Ok(envelope) = Envelope::from_kombu(&bytes, LIMITS) {
            corpus.push((Target::Headers, json::write(&Value::Map(envelope.headers.clone()))));
            corpus.extend(envelope.headers.get("eta").and_then(Value::as_str).map(|eta| (Target::Time, eta.as_bytes().to_vec())));
            if let Ok(value) = Serializer::Json.decode(&envelope.body, LIMITS) {
                corpus.extend(Serializer::Msgpack.encode_as_is(&value).ok().map(|body| (Target::Body(Serializer::Msgpack), body.to_vec())));
                corpus.push((Target::Body(Serializer::Json), envelope.body.to_vec()));
            }
        }
        corpus.push((Target::Envelope, bytes));
    }
    corpus.extend(raw("5.6", "unacked", 148).into_iter().map(|bytes| (Target::Unacked, bytes)));
    corpus.extend(raw("5.7", "events", 96).into_iter().map(|bytes| (Target::Event, bytes)));
    corpus.extend(raw("5.7", "bodies", 27).into_iter().map(|bytes| (Target::Body(Serializer::Json), bytes)));
    for bytes in raw("5.6", "foreign_results", 31).into_iter().chain(raw("5.7", "results", 34)) {
        let value = Serializer::Json.decode(&bytes, LIMITS).unwrap();
        corpus.push((Target::Result(Serializer::Msgpack), Serializer::Msgpack.encode_as_is(&value).unwrap().to_vec()));
        corpus.push((Target::Result(Serializer::Json), bytes));
    }
    let compressed = captures("5.7", "compressed", 5);
    corpus.extend(compressed.iter().map(|capture| (Target::Compressed, STANDARD.decode(capture.text("b64")).unwrap())));
    corpus
}

/// Reads `bytes`; what can be read must come out the same when it is written and read again.
fn check(target: Target, bytes: &[u8]) {
    match target {
        Target::Envelope => {
            if let Ok(envelope) = Envelope::from_kombu(bytes, LIMITS) {
                let again = Envelope::from_kombu(&envelope.to_kombu(), Limits::default()).unwrap();
                assert_eq!(again, envelope);
                task(&envelope);
            }
        }
        Target::Unacked => {
            if let Ok(unacked) = Unacked::from_json(bytes, LIMITS) {
                assert_eq!(Unacked::from_json(&unacked.to_json(), Limits::default()).unwrap(), unacked);
                task(&unacked.envelope);
            }
        }
        Target::Event => {
            let values = |events: &[Event]| events.iter().map(Event::to_value).collect::<Vec<_>>();
            if let Ok(events) = Event::parse(bytes, LIMITS) {
                let again = Event::parse(&Event::write_all(&events), Limits::default()).unwrap();
                assert_eq!(values(&again), values(&events));
            }
        }
        Target::Result(serializer) => {
            if let Ok(record) = ResultRecord::from_stored(bytes, serializer, LIMITS) {
                let _ = record.error();
                let stored = record.to_stored(serializer, None).unwrap();
                assert_eq!(ResultRecord::from_stored(&stored, serializer, Limits::default()).unwrap(), record);
            }
        }
        Target::Body(serializer) => {
            let headers = Map::from_iter([("task".to_owned(), "t".into()), ("id".to_owned(), "i".into())]);
            for headers in [headers, Map::new()] {
                task(&Envelope {
                    body: bytes.to_vec().into(),
                    content_type: serializer.content_type().to_owned(),
                    content_encoding: serializer.content_encoding().to_owned(),
                    headers,
                    properties: Map::new(),
                });
            }
        }
        Target::Headers => {
            if let Ok(Value::Map(headers)) = json::parse(bytes, LIMITS) {
                let signature = Value::Map(headers.clone());
                let _ = Signature::from_value(&signature);
                task(&Envelope {
                    body: b"[[],{},null]".to_vec().into(),
                    content_type: "application/json".to_owned(),
                    content_encoding: "utf-8".to_owned(),
                    headers,
                    properties: Map::new(),
                });
            }
        }
        Target::Compressed => drop(inflate(bytes, LIMITS)),
        Target::Time => {
            if let Ok(time) = std::str::from_utf8(bytes).map_err(drop).and_then(|text| Timestamp::parse(text).map_err(drop)) {
                let written = Timestamp::from_millis(time.millis());
                assert_eq!(Timestamp::parse(written.as_str()).unwrap().millis(), written.millis());
            }
        }
    }
}

fn task(envelope: &Envelope) {
    let Ok(mut task) = Invocation::decode(envelope, LIMITS) else { return };
    // What a broker says of earlier deaths is not sent on.
    task.headers.other.retain(|name, _| !name.starts_with("x-"));
    let again = task.encode("tag", None).unwrap();
    assert_eq!(Invocation::decode(&again, Limits::default()).unwrap(), task);
    if matches!(task.body, Body::Parts { .. }) {
        task.arguments().unwrap();
    }
}

#[test]
fn damaged_captures_are_read_or_refused() {
    let iterations = std::env::var("UMBEL_FUZZ_ITERATIONS").map_or(ITERATIONS, |count| count.parse().unwrap());
    let corpus = corpus();
    assert!(corpus.len() > 1000, "{} first inputs", corpus.len());
    for (target, bytes) in &corpus {
        check(*target, bytes);
    }
    let mut dice = Dice::new(0x5eed);
    for iteration in 0..iterations {
        let (target, bytes) = dice.one_of(&corpus);
        let (_, other) = dice.one_of(&corpus);
        let input = mutated(bytes, other, &mut dice);
        if catch_unwind(AssertUnwindSafe(|| check(*target, &input))).is_err() {
            panic!("input {iteration} breaks {target:?}: {}", input.escape_ascii());
        }
    }
}
