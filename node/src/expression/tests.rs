//! The notation: what it means, what its mistakes look like, and that what is printed reads back.

use proptest::prelude::*;
use umbel_proto::{Map, SubtaskType};

use super::*;

fn read(text: &str) -> Signature {
    parse(text, None).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn add(a: i64, b: i64) -> Signature {
    Signature::new("add").arg(a).arg(b)
}

fn named(name: &str) -> Signature {
    Signature::new(name)
}

fn list(items: &[i64]) -> Value {
    Value::List(items.iter().copied().map(Value::Int).collect())
}

#[test]
fn calls() {
    assert_eq!(read("add(2, 2)"), add(2, 2));
    assert_eq!(read(" add ( 2 ,\n2 , ) "), add(2, 2));
    assert_eq!(read("add.s(2, 2)"), add(2, 2));
    assert_eq!(read("add.si(2, 2)"), add(2, 2).immutable());
    assert_eq!(read("proj.tasks.add-all_2(x=1, \"odd name\"=2)"), named("proj.tasks.add-all_2").kwarg("x", 1_i64).kwarg("odd name", 2_i64));
    assert_eq!(read("'odd name'.si(1)"), named("odd name").arg(1_i64).immutable());
    assert_eq!(read("\"proj.s\"(1)"), named("proj.s").arg(1_i64));
    assert_eq!(read("tâche(1)"), named("tâche").arg(1_i64));
    assert_eq!(parse("proj.s(1)", Some(&["proj.s"])).unwrap(), named("proj.s").arg(1_i64), "a known task is not a method");
}

#[test]
fn values_in_both_spellings() {
    for (text, value) in [
        ("True", Value::Bool(true)),
        ("false", Value::Bool(false)),
        ("None", Value::Null),
        ("null", Value::Null),
        ("-7", Value::Int(-7)),
        ("+1_000", Value::Int(1000)),
        ("007", Value::Int(7)),
        ("-0", Value::Int(0)),
        ("-9223372036854775808", Value::Int(i64::MIN)),
        ("123456789012345678901234567890", Value::BigInt("123456789012345678901234567890".into())),
        ("1.5e-3", Value::Float(0.0015)),
        (".5", Value::Float(0.5)),
        ("nan", Value::Float(f64::NAN)),
        ("-Infinity", Value::Float(f64::NEG_INFINITY)),
        (r#""a\n\"\u00fc\x41\U0001f33f\\""#, Value::from("a\n\"üA\u{1F33F}\\")),
        ("'it\\'s \"x\"'", Value::from("it's \"x\"")),
        ("[1, 2,]", list(&[1, 2])),
        ("(1, 2)", list(&[1, 2])),
        ("(1,)", list(&[1])),
        ("()", list(&[])),
        ("(1)", Value::Int(1)),
        ("([1],)", Value::List(vec![list(&[1])])),
        ("{\"a\": {'b': []}}", Value::Map(Map::from_iter([("a".into(), Value::Map(Map::from_iter([("b".into(), list(&[]))])))]))),
    ] {
        assert_eq!(read(&format!("t({text})")).args, [value], "{text}");
    }
}

#[test]
fn workflows() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let steps = Signature::chain([a.clone(), b.clone(), c.clone()]);
    for text in [
        "a() | b() | c()",
        "(a() | b()) | c()",
        "chain(a(), b(), c())",
        "chain([a(), b(), c()])",
        "chain(a(), chain(b(), c()))",
        "a() | (b() | c())",
    ] {
        assert_eq!(read(text), steps, "{text}");
    }
    let sides = Signature::group([a.clone(), b.clone()]);
    assert_eq!(read("group(a(), b())"), sides);
    assert_eq!(read("group([a(), b(),])"), sides);
    assert_eq!(read("group()"), Signature::group([]));
    assert_eq!(read("group(a(), b()) | c()"), Signature::chain([sides, c.clone()]));
    let barrier = Signature::chord([a.clone(), b.clone()], c.clone());
    for text in ["chord([a(), b()], c())", "chord([a(), b()], body=c())", "chord([a(), b()])(c())", "chord(group(a(), b()), c(),)"] {
        assert_eq!(read(text), barrier, "{text}");
    }
    let seed = read("chord([count(\"a.txt\"), count(\"b.txt\")], merge())");
    assert_eq!(seed, Signature::chord([named("count").arg("a.txt"), named("count").arg("b.txt")], named("merge")));
    assert_eq!(read("chord([a() | b()], c() | c())").body().unwrap().unwrap().subtask_type, Some(SubtaskType::Chain));
}

#[test]
fn tasks_over_items() {
    let items = || [Value::Int(1), Value::Int(2)];
    let pairs = || [list(&[1, 2]), list(&[3, 4])];
    for text in ["add.map([1, 2])", "xmap(add(), [1, 2])", "xmap(add.s(), (1, 2))"] {
        assert_eq!(read(text), Signature::map(named("add"), items()), "{text}");
    }
    for text in ["add.starmap([(1, 2), [3, 4]])", "starmap(add(), [[1, 2], [3, 4]])", "xstarmap(add(), [[1, 2], [3, 4]])"] {
        assert_eq!(read(text), Signature::starmap(named("add"), pairs()), "{text}");
    }
    assert_eq!(read("add.chunks([[1, 2], [3, 4]], 10)"), Signature::chunks(named("add"), pairs(), 10));
    assert_eq!(read("chunks(add(), [[1, 2], [3, 4]], 10)"), Signature::chunks(named("add"), pairs(), 10));
}

#[test]
fn options_and_links() {
    let signature = read("add(2, 2).set(queue=\"q\", countdown=5).link(a()).link_error(b(), c())");
    assert_eq!(signature.options.queue().as_ref().map(|queue| queue.as_str()), Some("q"));
    assert_eq!(
        signature,
        add(2, 2).set("queue", "q").set("countdown", 5_i64).link(named("a")).link_error(named("b")).link_error(named("c"))
    );
    let whole = read("(a() | b()).link(c())");
    assert_eq!(whole, Signature::chain([named("a"), named("b")]).link(named("c")));
    assert_eq!(read("a() | b().link(c())"), Signature::chain([named("a"), named("b").link(named("c"))]));
    assert_eq!(read("(a() | b()).set(queue=\"q\") | c()").tasks().unwrap().len(), 2, "a chain with options stays one");
}

#[test]
fn mistakes_are_pointed_at() {
    for (text, message) in [
        ("", "column 1: expected a task, found the end\n  \n  ^"),
        ("add(2, 2", "column 9: expected ',' or ')', found the end\n  add(2, 2\n          ^"),
        ("add(2 2)", "column 7: expected ',' or ')', found a number\n  add(2 2)\n        ^"),
        ("add", "column 4: expected '(' after add, found the end\n  add\n     ^\na call is written add(…)"),
        ("add(2)) ", "column 7: expected \"|\" or the end, found ')'\n  add(2)) \n        ^"),
        ("a(), b()", "column 4: one expression is enough\n  a(), b()\n     ^\nside by side is group(…, …)"),
        ("a() | ", "column 7: expected a task, found the end\n  a() | \n        ^"),
        (
            "add(mul(2))",
            "column 5: a call cannot be an argument\n  add(mul(2))\n      ^\nits result can: mul(…) | …, or a chord for several",
        ),
        ("add(x)", "column 5: expected a value, found the name x\n  add(x)\n      ^\na text has quotes: \"x\""),
        ("add(x=1, 2)", "column 10: an argument without a name stands before those with one\n  add(x=1, 2)\n           ^"),
        ("add(x=1, x=2)", "column 10: x is given twice\n  add(x=1, x=2)\n           ^"),
        ("add({a: 1})", "column 6: a key has quotes\n  add({a: 1})\n       ^\nwrite {\"a\": …}"),
        ("add('x)", "column 5: this text is not closed\n  add('x)\n      ^\nclose it with '"),
        ("add('\\q')", "column 6: \\q is not an escape\n  add('\\q')\n       ^\nwrite \\\\ for a backslash"),
        ("add('\\ud800')", "column 6: \\ud800 is not a character\n  add('\\ud800')\n       ^"),
        ("add(1-2)", "column 5: 1-2 is not a number\n  add(1-2)\n      ^"),
        ("add(2).sett(x=1)", "column 8: a call has no .sett\n  add(2).sett(x=1)\n         ^\ndid you mean .set?"),
        ("add(2).set(1)", "column 8: options have names\n  add(2).set(1)\n         ^\nwrite .set(queue=\"name\")"),
        ("add.delay(2)", "column 1: delay would send it now\n  add.delay(2)\n  ^\nwrite add(…); it is sent when the whole is read"),
        ("chord([a()])", "column 1: a chord has a body\n  chord([a()])\n  ^\nwrite chord([…, …], body()); without a body it is a group"),
        ("chord(a(), b())", "column 1: the header of a chord is a list or a group\n  chord(a(), b())\n  ^\nwrite chord([…, …], body())"),
        ("chain()", "column 1: a chain has at least one step\n  chain()\n  ^"),
        (
            "add.starmap([1])",
            "column 13: each item is a list of arguments\n  add.starmap([1])\n              ^\nwrite [[1, 2], [3, 4]]; starmap calls the task with each",
        ),
        (
            "add.chunks([[1]], 0)",
            "column 19: expected the number of items in a chunk, at least 1\n  add.chunks([[1]], 0)\n                    ^",
        ),
        ("a(1)\n | b(\u{1b}", "column 11: '\\u{1b}' has no meaning here\n   | b(\u{fffd}\n       ^"),
        ("[a()]", "column 1: a list stands for nothing here\n  [a()]\n  ^\nside by side is group(…, …)"),
    ] {
        assert_eq!(parse(text, None).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn unknown_tasks_are_pointed_at() {
    let known = ["proj.tasks.add", "proj.tasks.mul"];
    let error = parse("proj.tasks.mul(2) | proj.tasks.ad.s(2)", Some(&known)).unwrap_err();
    assert_eq!(
        (error.column, error.problem.as_str(), error.hint.as_deref()),
        (21, "no task is called proj.tasks.ad", Some("did you mean proj.tasks.add?"))
    );
    assert!(parse("proj.tasks.add.map([1])", Some(&known)).is_ok());
    assert_eq!(parse("x(1)", Some(&[])).unwrap_err().hint.as_deref(), Some("see: node tasks ls"));
}

#[test]
fn everything_is_bounded() {
    let nested = |depth: usize| format!("t({}{})", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(DEPTH_MAX - 1), None).is_ok());
    let error = parse(&nested(1 << 16), None).unwrap_err();
    assert_eq!(error.problem, format!("this is nested deeper than {DEPTH_MAX} levels"));
    assert!(error.to_string().len() < 1000);
    for opening in ["(", "group(", "chord([", "a().link(", "xmap(", "t({\"\": ", "a() | ("] {
        assert!(parse(&opening.repeat(1 << 12), None).is_err(), "{opening}");
    }
    assert!(parse(&format!("t('{}')", "x".repeat(LENGTH_MAX)), None).unwrap_err().problem.contains("longer than"));
    let wide = format!("group({})", vec!["a(1)"; 10_000].join(", "));
    assert_eq!(read(&wide).tasks().unwrap().len(), 10_000);
}

#[test]
fn files_of_signatures() {
    let whole = read("chord([a(1), b()], c())");
    let json = umbel_proto::codec::json::write(&whole.to_value());
    assert_eq!(read_json(&json).unwrap(), std::slice::from_ref(&whole));
    let both = umbel_proto::codec::json::write(&Value::List(vec![whole.to_value(), named("d").to_value()]));
    assert_eq!(read_json(&both).unwrap(), [whole, named("d")]);
    assert_eq!(read_json(b"[]").unwrap(), []);
    assert!(read_json(b"[{}]").unwrap_err().field.starts_with("[0]"));
    assert!(read_json(b"nonsense").is_err());
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        "[1-9][0-9]{19,30}".prop_map(|digits| Value::BigInt(digits.into())),
        "\\PC{0,8}".prop_map(Value::Str),
        any::<String>().prop_map(Value::Str),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|pairs| Value::Map(pairs.into_iter().collect())),
        ]
    })
}

fn any_signature() -> impl Strategy<Value = Signature> {
    let name = prop_oneof!["[a-z]{1,4}(\\.[a-z_0-9-]{1,5}){0,2}", "\\PC{1,6}", Just("chain".to_owned()), Just("proj.si".to_owned())];
    let kwargs = || prop::collection::vec(("([a-z]{1,5}|\\PC{0,4})", any_value()), 0..3).prop_map(Map::from_iter);
    let call = (name, prop::collection::vec(any_value(), 0..3), kwargs(), any::<bool>(), kwargs()).prop_map(
        |(name, args, kwargs, immutable, set)| {
            let mut signature = Signature::new(name);
            (signature.args, signature.kwargs, signature.immutable) = (args, kwargs, immutable);
            signature
                .options
                .0
                .extend(set.into_iter().filter(|(name, _)| !["link", "link_error", "chord", "chain"].contains(&name.as_str())));
            signature
        },
    );
    call.prop_recursive(3, 16, 3, |inner| {
        let some = || prop::collection::vec(inner.clone(), 1..4);
        let items = || prop::collection::vec(any_value(), 0..3);
        prop_oneof![
            some().prop_map(Signature::group),
            (some(), inner.clone()).prop_map(|(header, body)| Signature::chord(header, body)),
            some().prop_map(|steps| {
                // Only chains that no chain is spliced into come out as they go in.
                Signature::chain(steps.into_iter().filter(|step| step.subtask_type != Some(SubtaskType::Chain)).chain([named("last")]))
            }),
            items().prop_map(|items| Signature::map(named("add"), items)),
            (items(), 1..9_usize)
                .prop_map(|(items, size)| { Signature::chunks(named("add"), items.into_iter().map(|item| Value::List(vec![item])), size) }),
            (inner.clone(), inner.clone(), any::<bool>())
                .prop_map(|(signature, other, error)| { if error { signature.link_error(other) } else { signature.link(other) } }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(signature in any_signature()) {
        let text = print(&signature);
        prop_assert_eq!(parse(&text, None).map_err(|error| error.to_string()), Ok(signature), "{}", text);
    }

    #[test]
    fn hostile_text_is_an_error_at_worst(text in any::<String>(), marks in "[-a-z0-9()\\[\\]{},=:|.'\"\\\\ ]{0,60}") {
        for text in [text, marks] {
            match parse(&text, Some(&["a"])) {
                Ok(signature) => drop(print(&signature)),
                Err(error) => prop_assert!(error.to_string().len() < 2000),
            }
            if let Ok(signature) = parse(&text, None) {
                prop_assert_eq!(parse(&print(&signature), None).map_err(|error| error.to_string()), Ok(signature));
            }
        }
    }
}
