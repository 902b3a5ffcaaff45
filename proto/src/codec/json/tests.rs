//! What Python's `json` reads and writes, and what it refuses.

use super::*;
use crate::{Limits, Map, Signature, Value};

fn read(text: &str) -> Value {
    parse(text.as_bytes(), Limits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn written(value: &Value) -> String {
    String::from_utf8(write(value)).unwrap()
}

#[test]
fn documents_come_back_as_they_were() {
    let documents = [
        "null",
        "true",
        "[]",
        "{}",
        "[1,-2,9223372036854775807]",
        "[18446744073709551616,-170141183460469231731687303715884105729]",
        "[1.0,1e+16,1e-05,-0.0]",
        "[NaN,Infinity,-Infinity]",
        r#"{"a":{"b":[null,{"c":"d"}]},"e":""}"#,
        r#""\u2603 \ud83d\ude00 \u007f \b\f\n\r\t \"\\ / \u0000""#,
    ];
    for document in documents {
        assert_eq!(written(&read(document)), document);
    }
}

#[test]
fn python_reads_more_than_it_writes() {
    assert_eq!(read(" \t\r\n[ 1 , 2 ] "), Value::List(vec![Value::Int(1), Value::Int(2)]));
    assert_eq!(read("\"\u{2603}\\/\""), Value::from("\u{2603}/"));
    assert_eq!(read("-0"), Value::Int(0));
    assert_eq!(read("1E2"), Value::Float(100.0));
    assert_eq!(read("1e999"), Value::Float(f64::INFINITY));
    let map = Map::from_iter([("a".to_owned(), Value::Int(3)), ("b".to_owned(), Value::Int(2))]);
    assert_eq!(read(r#"{"a":1,"b":2,"a":3}"#), Value::Map(map));
}

#[test]
fn halves_of_surrogate_pairs_come_back() {
    for text in [r#""\ud83d""#, r#""\ude00x""#, r#""\ud83dA""#, r#""\ud83d\n""#, r#""caf\udce9.txt""#, r#"{"\udce9":"\ud83d\ude00"}"#] {
        let value = read(text);
        assert_eq!(String::from_utf8(super::write(&value)).unwrap(), text);
        assert_eq!(read(text), value);
    }
    for text in ["\u{10ffff}", "a\u{10f800}b", "\u{10f7ff}"] {
        let literal = String::from_utf8(super::write(&read(&format!("\"{text}\"")))).unwrap();
        assert_eq!(serde_json::from_str::<String>(&literal).unwrap(), text, "a reader joins what was taken apart");
        assert_eq!(read(&literal), read(&format!("\"{text}\"")), "however it is written");
        let packed = crate::codec::msgpack::write(&read(&literal)).unwrap();
        assert_eq!(crate::codec::msgpack::parse(&packed, Limits::default()).unwrap(), read(&literal));
    }
    assert!(crate::codec::msgpack::write(&read(r#"{"\udce9":1}"#)).is_err());
    assert_ne!(read(r#""\udce9""#), read(r#""\udcea""#));
    assert_eq!(read(r#""\ud83d\ude00""#), Value::from("\u{1f600}"));
}

#[test]
fn what_is_no_json_is_refused() {
    let cases = [
        "",
        " ",
        "nul",
        "nan",
        "-NaN",
        "+1",
        "01",
        "1.",
        ".5",
        "1e",
        "-",
        "--1",
        "0x1",
        "[",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "1 1",
        "[1]]",
        "'a'",
        "{\"a\" 1}",
        "\u{feff}1",
    ];
    for text in cases {
        assert!(parse(text.as_bytes(), Limits::default()).is_err(), "{text:?}");
        let passed = Scanner::new(text.as_bytes(), 512).and_then(|mut scanner| scanner.skip().and_then(|_| scanner.end()));
        assert!(passed.is_err(), "{text:?}");
    }
    assert!(parse(b"\"\xff\"", Limits::default()).is_err());
}

#[test]
fn depth_and_size_are_bounded() {
    let limits = Limits { size_bytes: 1 << 22, depth: 8 };
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(nested(8).as_bytes(), limits).is_ok());
    assert_eq!(parse(nested(9).as_bytes(), limits).unwrap_err().reason, "nested deeper than 8 levels");
    assert!(Scanner::new(nested(9).as_bytes(), 8).unwrap().skip().is_err());
    let bomb = "[{\"a\":".repeat(1 << 19);
    assert!(parse(bomb.as_bytes(), limits).is_err());
    assert!(Scanner::new(bomb.as_bytes(), 512).unwrap().skip().is_err());
    assert!(parse(&[b' '; 9], Limits { size_bytes: 8, depth: 8 }).unwrap_err().reason.contains("limit of 8"));
}

#[test]
fn a_value_is_passed_without_building_it() {
    let mut scanner = Scanner::new(br#" {"a":[1,"]",{}]} , 2"#, 8).unwrap();
    assert_eq!(scanner.skip().unwrap(), 1..17);
    assert!(scanner.take(b','));
    assert_eq!(scanner.skip().unwrap(), 20..21);
    scanner.end().unwrap();
}

/// What is passed as a plain signature can be read as one; of what cannot be told nothing is passed.
#[test]
fn plain_signatures_are_passed_and_nothing_else() {
    let plain = [
        r#"{"task":"a","args":[],"kwargs":{},"options":{},"subtask_type":null,"immutable":false}"#,
        r#"{ "task": "a\n", "kwargs": null, "options": {"task_id": "x", "link": null, "stamped": [{"a": 1e5}]}, "immutable": null}"#,
        r#"{"immutable":true,"options":{"chain":null},"kwargs":{"b":[NaN]},"task":"a","chord_size":3,"args":null}"#,
    ];
    for text in plain {
        let document = format!(" {text},");
        let mut scanner = Scanner::new(document.as_bytes(), 4).unwrap();
        assert_eq!(scanner.plain_signature().map(|range| &document[range]), Some(text));
        assert!(scanner.take(b','), "{text}");
        assert!(Signature::from_value(&read(text)).is_ok(), "{text}");
    }
    let fields =
        |task: &str, options: &str, rest: &str| format!(r#"{{"task":{task},"kwargs":{{}},"options":{options},"immutable":true{rest}}}"#);
    let others = [
        fields("\"\"", "{}", ""),
        fields("1", "{}", ""),
        fields("\"a\"", "null", ""),
        fields("\"a\"", r#"{"link":[]}"#, ""),
        fields("\"a\"", r#"{"l\u0069nk":[3]}"#, ""),
        fields("\"a\"", r#"{"chord":{}}"#, ""),
        fields("\"a\"", "{}", r#","subtask_type":"chain""#),
        fields("\"a\"", "{}", r#","t\u0061sk":3"#),
        fields("\"a\"", "{}", r#","args":{}"#),
        fields("\"a\"", "{}", r#","args":[1,]"#),
        fields("\"a\"", r#"{"a":[[[]]]}"#, ""),
        fields("\"a\"", "{}", r#","kwargs":[]"#),
        fields("\"a\"", "{}", r#","immutable":0"#),
        fields("\"a\"", "{}", ",\"x\":nul"),
        fields("\"a\"", "{}", "").replace("\"immutable\":true", "\"x\":1"),
        fields("\"a\"", "{}", "").trim_end_matches('}').to_owned(),
        "[]".to_owned(),
        String::new(),
    ];
    for text in others {
        let mut scanner = Scanner::new(text.as_bytes(), 4).unwrap();
        assert_eq!(scanner.plain_signature(), None, "{text}");
        assert_eq!(scanner.at(), 0, "{text}");
    }
}

/// Goal: a list is read item by item as it would be as a whole, and what is not such a list is an error at the right place.
#[test]
fn items_are_read_one_by_one() {
    let all = |text: &str, depth| {
        let mut items = Items::new(text.as_bytes(), Limits { depth, ..Limits::default() })?;
        let read = (items.value()?, items.text()?.into_owned(), items.value()?);
        items.end().map(|()| read)
    };
    let read = all(" [ 1 , \"a\\n\\u00e9\",{\"k\": [2]}]\n", 3).unwrap();
    assert_eq!(read, (Value::Int(1), "a\né".to_owned(), parse(b"{\"k\": [2]}", Limits::default()).unwrap()));
    for wrong in
        ["", "{}", "[1]", "[1, 2, 3]", "[1, \"a\"]", "[1, \"a\", 2", "[1, \"a\", 2, 3]", "[1 \"a\", 2]", "[1, \"a\", 2] 3", "[,\"a\",2]"]
    {
        assert!(all(wrong, 3).is_err(), "{wrong}");
    }
    assert!(all("[1, \"a\", [[2]]]", 2).is_err(), "too deep");
    assert!(Items::new(b"[]", Limits { depth: 0, ..Limits::default() }).is_err());
    assert!(Items::new(b"[1]", Limits { size_bytes: 2, ..Limits::default() }).is_err());
}
