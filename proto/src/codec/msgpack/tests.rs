//! Bytes that msgpack-python 1.1 wrote, and bytes that nobody should believe.

use super::*;
use crate::{Limits, Value};

fn limits(depth: usize) -> Limits {
    Limits { size_bytes: 1 << 20, depth }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_python_writes_is_read_and_written() {
    // packb(…, use_bin_type=True) of the value as it stands in JSON; bytes have no JSON and come last.
    let vectors = [
        ("c0", "null"),
        ("c3", "true"),
        ("7f", "127"),
        ("e0", "-32"),
        ("cc80", "128"),
        ("cd0100", "256"),
        ("ce00010000", "65536"),
        ("cf0000000100000000", "4294967296"),
        ("cfffffffffffffffff", "18446744073709551615"),
        ("d0df", "-33"),
        ("d18000", "-32768"),
        ("d280000000", "-2147483648"),
        ("d38000000000000000", "-9223372036854775808"),
        ("cb3ff0000000000000", "1.0"),
        ("cb7ff0000000000000", "Infinity"),
        ("a161", "\"a\""),
        ("a3e29883", "\"\\u2603\""),
        ("9301920280c0", "[1,[2,{}],null]"),
        ("81a16b9101", "{\"k\":[1]}"),
    ];
    for (bytes, text) in vectors {
        let value = crate::codec::json::parse(text.as_bytes(), limits(8)).unwrap();
        assert_eq!(parse(&hex(bytes), limits(8)).unwrap(), value, "{text}");
        assert_eq!(write(&value).unwrap(), hex(bytes), "{text}");
    }
    assert_eq!(parse(&hex("c402fffe"), limits(8)).unwrap(), Value::Bytes(vec![0xff, 0xfe]));
    assert_eq!(parse(&hex("ca3fc00000"), limits(8)).unwrap(), Value::Float(1.5));
}

#[test]
fn integers_beyond_64_bits_are_for_records_only() {
    let big = Value::List(vec![Value::BigInt("-123456789012345678901234567890".into())]);
    assert_eq!(write(&big).unwrap_err().what, "integer");
    let record = write_record(&big).unwrap();
    assert_eq!(parse_record(&record, limits(8)).unwrap(), big);
    assert!(parse(&record, limits(8)).is_err());
}

#[test]
fn lies_are_refused() {
    let cases = ["", "92c0", "dd7fffffff", "df7fffffff", "dbffffffff", "c6ffffffff00", "c1", "a1ff", "8101c0", "c0c0", "d6ff00000000"];
    for bytes in cases {
        assert!(parse(&hex(bytes), limits(8)).is_err(), "{bytes}");
        let mut scanner = Scanner::new(&[], 8);
        assert!(scanner.skip().is_err());
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| [vec![0x91; levels - 1], vec![0x90]].concat();
    // An empty list inside has no inside of its own to enter.
    assert!(parse(&nested(9), limits(8)).is_ok());
    let error = parse(&nested(10), limits(8)).unwrap_err();
    assert_eq!(error.reason, "nested deeper than 8 levels");
    assert!(Scanner::new(&nested(9), 8).skip().is_ok());
    assert!(Scanner::new(&nested(10), 8).skip().is_err());
    let bomb = vec![0x91; 1 << 20];
    assert!(parse(&bomb, limits(512)).is_err());
}
