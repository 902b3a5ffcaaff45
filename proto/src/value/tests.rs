//! Between Rust types and values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;
use crate::{Limits, codec::json};

fn read(text: &str) -> Value {
    json::parse(text.as_bytes(), Limits::default()).unwrap()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    note: Option<String>,
    lines: Vec<Line>,
    #[serde(default)]
    tags: BTreeMap<u32, bool>,
    rest: Value,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Empty,
    Text(String),
    Pair(i8, f32),
    Priced { price: f64 },
}

#[test]
fn a_type_becomes_a_value_and_comes_back() {
    let order = Order {
        id: u64::MAX,
        note: None,
        lines: vec![Line::Empty, Line::Text("a".into()), Line::Pair(-1, 0.5), Line::Priced { price: 1.0 }],
        tags: BTreeMap::from([(7, true)]),
        rest: read(r#"{"__type__":"decimal","__value__":"1.10"}"#),
    };
    let value = Value::from_serialize(&order).unwrap();
    let expected = r#"{"id":18446744073709551615,"note":null,"lines":["empty",{"text":"a"},{"pair":[-1,0.5]},{"priced":{"price":1.0}}],
        "tags":{"7":true},"rest":{"__type__":"decimal","__value__":"1.10"}}"#;
    assert_eq!(value, read(expected));
    assert_eq!(value.deserialize::<Order>().unwrap(), order);
}

#[test]
fn the_part_at_fault_is_named() {
    let cases = [
        (r#"{"id":1,"note":null,"lines":["empty",{"priced":{"price":"x"}}],"rest":1}"#, "lines[1].priced.price"),
        (r#"{"id":-1,"note":null,"lines":[],"rest":1}"#, "id"),
        (r#"{"id":1,"note":null,"lines":{},"rest":1}"#, "lines"),
        (r#"{"id":1,"note":7,"lines":[],"rest":1}"#, "note"),
        (r#"{"id":1,"note":null,"lines":[{"pair":[1,2,3]}],"rest":1}"#, "lines[0].pair[2]"),
        (r#"{"note":null,"lines":[],"rest":1}"#, "id"),
        (r#"{"id":1,"note":null,"lines":[],"tags":{"x":true},"rest":1}"#, "tags.x"),
        (r#"{"id":1,"note":null,"lines":[{"a":1,"b":2}],"rest":1}"#, "lines[0]"),
        ("[]", ""),
        ("null", ""),
    ];
    for (text, field) in cases {
        let error = read(text).deserialize::<Order>().unwrap_err();
        assert_eq!(error.field, field, "{text}: {error}");
    }
}

#[test]
fn errors_do_not_show_content() {
    let error = read(r#"["secret"]"#).deserialize::<Vec<u8>>().unwrap_err();
    assert_eq!(error.to_string(), "cannot decode [0]: must be u8, is text");
    let error = read("[4711]").deserialize::<Vec<u8>>().unwrap_err();
    assert_eq!(error.to_string(), "cannot decode [0]: must be u8, is an integer that is not");
    let error = read(r#"["secret"]"#).deserialize::<Vec<Line>>().unwrap_err();
    assert_eq!(error.to_string(), "cannot decode [0]: is not one of empty, text, pair, priced");
    let error = read("4711").deserialize::<String>().unwrap_err();
    assert_eq!(error.to_string(), "cannot decode the value: must be a string, is an integer");
}

#[test]
fn special_values_mean_what_kombu_means() {
    let text = |kind: &str, value: &str| read(&format!(r#"{{"__type__":"{kind}","__value__":{value}}}"#));
    assert_eq!(
        text("uuid", r#"{"hex":"00000000000000000000000000000007"}"#).deserialize::<uuid_text::Uuid>().unwrap().0,
        "00000000-0000-0000-0000-000000000007"
    );
    assert_eq!(text("base64", r#""//4=""#).deserialize::<Vec<u8>>().unwrap(), [0xff, 0xfe]);
    assert_eq!(text("decimal", r#""2.5""#).deserialize::<f64>().unwrap(), 2.5);
    assert_eq!(text("date", r#""2030-01-02""#).deserialize::<Option<String>>().unwrap().unwrap(), "2030-01-02");
    assert!(text("base64", r#""!""#).deserialize::<Vec<u8>>().is_err());
    assert!(text("uuid", "7").deserialize::<String>().is_err());
    // What nobody knows stays a map, and so does anything for one who asks for a value or a map.
    let unknown = text("money", "1");
    assert_eq!(unknown.clone().deserialize::<Map>().unwrap()["__type__"], Value::from("money"));
    assert_eq!(text("date", r#""2030-01-02""#).deserialize::<Value>().unwrap().special().unwrap().0, "date");
    assert_eq!(unknown.special().unwrap(), ("money", &Value::Int(1)));
}

/// A type that asks for text, as those of other crates do.
mod uuid_text {
    #[derive(serde::Deserialize)]
    pub(super) struct Uuid(pub(super) String);
}

#[test]
fn integers_have_no_bounds() {
    assert_eq!(read("170141183460469231731687303715884105727").deserialize::<i128>().unwrap(), i128::MAX);
    assert!(read("18446744073709551616").deserialize::<u64>().is_err());
    assert_eq!(read("18446744073709551616").deserialize::<f64>().unwrap(), 18_446_744_073_709_551_616.0);
    let huge = read("123456789012345678901234567890123456789012345");
    assert_eq!(vec![huge.clone()], Value::List(vec![huge.clone()]).deserialize::<Vec<Value>>().unwrap());
    assert_eq!(huge.clone().deserialize::<String>().unwrap(), "123456789012345678901234567890123456789012345");
    assert_eq!(Value::from_serialize(&huge).unwrap(), huge);
}

#[test]
fn keys_become_text_as_in_python() {
    assert_eq!(Value::from_serialize(&BTreeMap::from([(true, 1)])).unwrap(), read(r#"{"true":1}"#));
    assert_eq!(Value::from_serialize(&BTreeMap::from([(-3_i8, 'c')])).unwrap(), read(r#"{"-3":"c"}"#));
    assert!(Value::from_serialize(&BTreeMap::from([((1, 2), 1)])).is_err());
    assert!(Value::from_serialize(&BTreeMap::from([(None::<u8>, 1)])).is_err());
}
