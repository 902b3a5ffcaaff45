//! Properties of the codecs, over values made at random.

use proptest::{collection::vec, prelude::*};

use crate::{
    Envelope, Event, Invocation, Limits, Map, ResultRecord, Signature, Timestamp, Value,
    codec::{Compression, Serializer, json, msgpack, record},
    inflate,
    message::Unacked,
    repr,
};

/// Any value, special ones included; `bytes` and `big` say whether those that one serializer lacks may be among them.
fn value(bytes: bool, big: bool) -> impl Strategy<Value = Value> {
    let text = prop_oneof![any::<String>(), "[a-z\"'\\\\\u{0}-\u{1f}\u{7f}é☃😀]{0,12}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-100_i64..100).prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        Just(Value::Float(f64::NAN)),
        Just(Value::Float(f64::NEG_INFINITY)),
        text.clone().prop_map(Value::Str),
        vec(any::<u8>(), 0..20).prop_map(move |some| if bytes { Value::Bytes(some) } else { Value::Null }),
        any::<u64>().prop_map(Value::from),
        "-?[1-9][0-9]{25,60}".prop_map(move |digits| if big { Value::BigInt(digits.into()) } else { Value::Null }),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::List),
            vec((text.clone(), inner), 0..6).prop_map(|entries| Value::Map(entries.into_iter().collect::<Map>())),
        ]
    })
}

fn limits() -> Limits {
    Limits { size_bytes: 1 << 20, depth: 64 }
}

proptest! {
    #[test]
    fn json_gives_back_what_it_was_given(value in value(false, true)) {
        let bytes = json::write(&value);
        prop_assert!(bytes.is_ascii());
        prop_assert_eq!(json::parse(&bytes, limits()).unwrap(), value);
        let mut scanner = json::Scanner::new(&bytes, 64).unwrap();
        prop_assert_eq!(scanner.skip().unwrap(), 0..bytes.len());
    }

    #[test]
    fn msgpack_gives_back_what_it_was_given(value in value(true, false)) {
        let bytes = msgpack::write(&value).unwrap();
        prop_assert_eq!(&msgpack::parse(&bytes, limits()).unwrap(), &value);
        prop_assert_eq!(msgpack::Scanner::new(&bytes, 64).skip().unwrap(), 0..bytes.len());
    }

    #[test]
    fn records_and_serde_give_back_what_they_were_given(value in value(true, true)) {
        let bytes = record::encode(1, &value).unwrap();
        prop_assert_eq!(&record::decode::<Value>(1, &bytes).unwrap(), &value);
        prop_assert_eq!(&Value::from_serialize(&value).unwrap(), &value);
        prop_assert_eq!(&value.clone().deserialize::<Value>().unwrap(), &value);
    }

    /// serde_json reads and writes the same, as far as it goes.
    #[test]
    fn serde_json_agrees(value in value(false, false)) {
        let written = json::write(&value);
        if let Ok(read) = serde_json::from_slice::<serde_json::Value>(&written) {
            let again = json::parse(&serde_json::to_vec(&read).unwrap(), limits()).unwrap();
            prop_assert!(near(&again, &json::parse(&written, limits()).unwrap()));
            prop_assert_eq!(&Value::from_serialize(&read).unwrap(), &again);
        }
    }

    #[test]
    fn bodies_are_cut_where_their_parts_are(
        args in vec(value(false, true), 0..4),
        kwargs in vec(("[a-z]{1,4}", value(false, true)), 0..4),
    ) {
        let kwargs: Map = kwargs.into_iter().collect();
        let task = Invocation::new("t".into(), "i".into(), &args, &kwargs).unwrap();
        let envelope = Envelope::from_kombu(&task.encode("tag", Some(Compression::Zlib)).unwrap().to_kombu(), limits()).unwrap();
        let read = Invocation::decode(&envelope, limits()).unwrap();
        prop_assert_eq!(read.arguments().unwrap(), (args, kwargs));
        prop_assert_eq!(read.headers.argsrepr, task.headers.argsrepr);
    }

    #[test]
    fn texts_are_cut_to_size(value in value(true, true)) {
        repr::repr(&value);
        // 1024, the ellipses of what was cut, and the brackets that were open.
        prop_assert!(repr::safe_repr(&value).chars().count() <= 2 * 1024 + 64);
    }

    /// No decoder panics, whatever it is given.
    #[test]
    fn no_bytes_are_too_strange(bytes in prop_oneof![vec(any::<u8>(), 0..200), "[\\[\\]{}:,\"\\\\0-9a-z.eE+ -]{0,80}".prop_map(String::into_bytes)]) {
        all_decoders(&bytes);
    }
}

/// Equality up to the last digits of floats, which serde_json does not always get right.
fn near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a == b || ((a - b) / b).abs() < 1e-12,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b)),
        (Value::Map(a), Value::Map(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| near(a, b))),
        _ => a == b,
    }
}

fn all_decoders(bytes: &[u8]) {
    let limits = limits();
    for serializer in [Serializer::Json, Serializer::Msgpack] {
        if let Ok(value) = serializer.decode(bytes, limits) {
            let _ = Signature::from_value(&value);
            let _ = ResultRecord::from_value(&value);
        }
        let _ = ResultRecord::from_stored(bytes, serializer, limits);
        let mut envelope = Envelope {
            body: bytes.to_vec().into(),
            content_type: serializer.content_type().to_owned(),
            content_encoding: String::new(),
            headers: Map::from_iter([("task".to_owned(), "t".into()), ("id".to_owned(), "i".into())]),
            properties: Map::new(),
        };
        let _ = Invocation::decode(&envelope, limits);
        envelope.headers.clear();
        let _ = Invocation::decode(&envelope, limits);
    }
    let _ = Envelope::from_kombu(bytes, limits);
    let _ = Unacked::from_json(bytes, limits);
    let _ = Event::parse(bytes, limits);
    let _ = inflate(bytes, limits);
    let _ = record::decode::<Value>(1, bytes);
    let _ = crate::NodeCard::decode(bytes);
    let _ = Timestamp::parse(&String::from_utf8_lossy(bytes));
    for compression in [Compression::Zlib, Compression::Bzip2, Compression::Xz, Compression::Brotli, Compression::Zstd] {
        let _ = compression.decompress(bytes, limits);
    }
}
