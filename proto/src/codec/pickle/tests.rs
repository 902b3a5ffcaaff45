//! Goal: what Python pickles of plain data is read and written as Python does, and nothing else does harm.

use super::*;
use crate::{Limits, Map, Value};

/// `pickle.dumps({"t": ["a", ("a", -3)], "n": 2**40, "f": 0.5, "x": [None, True, False, 255, 300]}, protocol)`.
const PROTOCOL_2: &[u8] = b"\x80\x02}q\x00(X\x01\x00\x00\x00tq\x01]q\x02(X\x01\x00\x00\x00aq\x03h\x03J\xfd\xff\xff\xff\x86q\x04eX\x01\x00\x00\x00nq\x05\x8a\x06\x00\x00\x00\x00\x00\x01X\x01\x00\x00\x00fq\x06G?\xe0\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00xq\x07]q\x08(N\x88\x89K\xffM,\x01eu.";
const PROTOCOL_4: &[u8] = b"\x80\x04\x95\x3f\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01t\x94]\x94(\x8c\x01a\x94h\x03J\xfd\xff\xff\xff\x86\x94e\x8c\x01n\x94\x8a\x06\x00\x00\x00\x00\x00\x01\x8c\x01f\x94G?\xe0\x00\x00\x00\x00\x00\x00\x8c\x01x\x94]\x94(N\x88\x89K\xffM,\x01eu.";

fn read(bytes: &[u8]) -> Result<Value, crate::DecodeError> {
    parse(bytes, Limits { size_bytes: 1 << 20, depth: 16 })
}

fn list<const N: usize>(items: [Value; N]) -> Value {
    Value::List(items.into())
}

fn plain() -> Value {
    Value::Map(Map::from_iter([
        ("t".to_owned(), list(["a".into(), list(["a".into(), (-3).into()])])),
        ("n".to_owned(), (1i64 << 40).into()),
        ("f".to_owned(), Value::Float(0.5)),
        ("x".to_owned(), list([Value::Null, true.into(), false.into(), 255.into(), 300.into()])),
    ]))
}

#[test]
fn what_python_writes_is_read() {
    assert_eq!(read(PROTOCOL_2).unwrap(), plain());
    assert_eq!(read(PROTOCOL_4).unwrap(), plain());
}

#[test]
fn what_is_written_is_read_again() {
    let Value::Map(mut map) = plain() else { unreachable!() };
    map.insert("bytes".to_owned(), Value::Bytes(vec![0, 255]));
    map.insert("least".to_owned(), i64::MIN.into());
    let value = Value::Map(map);
    assert_eq!(read(&write(&value).unwrap()).unwrap(), value);
    assert!(write(&Value::BigInt("99999999999999999999".into())).is_err());
    let half = crate::codec::json::parse(br#""\udce9""#, Limits::default()).unwrap();
    assert!(write(&half).is_err(), "no command is answered with one");
}

#[test]
fn nothing_but_plain_data_is_read() {
    let refused = |bytes: &[u8], word: &str| {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(b"\x80\x02c__builtin__\nprint\nq\x00.", "opcode 0x63");
    refused(b"", "ends in the middle");
    refused(b"\x80\x02N", "ends in the middle");
    refused(b"\x80\x02.", "in the middle of a value");
    refused(b"\x80\x02(.", "in the middle of a value");
    refused(b"\x80\x02NN.", "in the middle of a value");
    refused(b"\x80\x02X\xff\xff\xff\xff.", "ends in the middle");
    refused(b"\x80\x02X\x01\x00\x00\x00\xff.", "UTF-8");
    refused(b"\x80\x02}NNs.", "no text");
    refused(b"\x80\x02Na.", "no list");
    refused(b"\x80\x02e.", "mark");
    refused(b"\x80\x02q\x05.", "not the next");
    refused(b"\x80\x02]q\x00h\x00.", "shared");
    refused(b"\x80\x02\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", "64 bits");
    let deep = [b"\x80\x02".as_slice(), &b"]".repeat(20), &b"a".repeat(19), b"."].concat();
    refused(&deep, "nested");
    // A bomb: one text, and many references to it.
    let text = [b"\x80\x02X\x00\x00\x01\x00".as_slice(), &b"x".repeat(65_536), b"q\x00](", &b"h\x00".repeat(100), b"e."].concat();
    refused(&text, "repeats");
    let kept = [b"\x80\x02X\x00\x00\x01\x00".as_slice(), &b"x".repeat(65_536), &b"\x94".repeat(1_000), b"."].concat();
    refused(&kept, "keeps");
    assert!(parse(&[0; 100], Limits { size_bytes: 10, depth: 4 }).is_err());
}

/// Every beginning of a pickle is an error, whatever comes of its bytes.
#[test]
fn parts_are_errors() {
    for end in 0..PROTOCOL_2.len() {
        assert!(read(&PROTOCOL_2[..end]).is_err());
    }
}
