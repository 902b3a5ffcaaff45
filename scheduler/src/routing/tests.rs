//! Queues, exchanges and routing keys, from a fixture.

use umbel_proto::{Options, Signature};

use super::*;
use crate::{
    Settings,
    fixture::{cases, word},
};

fn options(words: &str) -> Options {
    let named = [("queue", "queue"), ("exchange", "exchange"), ("key", "routing_key")];
    let set = |signature: Signature, (word_name, option): (&str, &str)| match word(words, word_name) {
        Some(value) => signature.set(option, value),
        None => signature,
    };
    named.into_iter().fold(Signature::new("any"), set).options
}

#[test]
fn calls_go_where_the_fixture_says() {
    let mut settings = Settings::default();
    let mut specs: Vec<TaskSpec> = Vec::new();
    let mut calls = 0;
    for (number, line) in cases(include_str!("../../testdata/routing.txt")) {
        let (verb, rest) = line.split_once(' ').unwrap();
        match verb {
            "default" => settings.default_queue = rest.into(),
            "route" => {
                let (pattern, target) = rest.split_once(" -> ").unwrap();
                let text = |name| word(target, name).map(str::to_owned);
                let priority = word(target, "priority").map(|priority| priority.parse().unwrap());
                let target = Target { queue: text("queue"), exchange: text("exchange"), routing_key: text("key"), priority };
                settings.routes.add(pattern, target).unwrap();
            }
            "task" => {
                let mut spec = TaskSpec::new(rest.split_whitespace().next().unwrap());
                spec.queue = word(rest, "queue").map(Into::into);
                specs.push(spec);
            }
            "call" => {
                let (call, expected) = rest.split_once(" => ").unwrap();
                let name = TaskName::from(call.split_whitespace().next().unwrap());
                let spec = specs.iter().find(|spec| spec.name == name);
                let route = route(&name, &options(call), spec, &settings);
                let found = format!("{} via {:?} key {:?}", route.queue, route.exchange, route.routing_key);
                assert_eq!(found, expected, "line {number}: {line}");
                calls += 1;
            }
            other => panic!("line {number}: {other}"),
        }
    }
    assert!(calls > 15);
    assert_eq!(settings.routes.find(&"feed.refresh".into()).unwrap().priority, Some(3));
}

#[test]
fn a_pattern_that_is_none_is_refused_by_name() {
    let error = Routes::default().add("/(/", Target::default()).unwrap_err();
    assert!(error.contains("\"/(/\""), "{error}");
}

#[test]
fn routes_are_equal_by_what_they_say() {
    let routes = |pattern: &str| {
        let mut routes = Routes::default();
        routes.add(pattern, Target { queue: Some("q".into()), ..Target::default() }).unwrap();
        routes
    };
    assert_eq!(routes("a.*"), routes("a.*"));
    assert_ne!(routes("a.*"), routes("b.*"));
}
