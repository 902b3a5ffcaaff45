//! Delays and bounds of retries, from a fixture.

use super::*;
use crate::fixture::{cases, word};

fn bound(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn seconds(words: &str, name: &str) -> Option<f64> {
    word(words, name).map(|text| text.parse().unwrap())
}

#[test]
fn delays_are_what_the_fixture_says() {
    for (number, line) in cases(include_str!("../../testdata/retry.txt")) {
        let (case, expected) = line.split_once(" => ").unwrap();
        let [asked, options, state] = case.split(" | ").collect::<Vec<_>>()[..] else { panic!("line {number}") };
        let ask = Retry {
            automatic: asked.starts_with("auto"),
            countdown_secs: seconds(asked, "countdown"),
            max_retries: word(asked, "max").map(bound),
            ..Retry::default()
        };
        let mut spec = TaskSpec::new("t");
        spec.max_retries = bound(word(options, "max").unwrap());
        spec.retry_delay_secs = seconds(options, "delay").unwrap();
        spec.backoff = word(options, "backoff").and_then(|text| text.split_once('/')).map(|(factor, max)| Backoff {
            factor_secs: factor.parse().unwrap(),
            max_secs: max.parse().unwrap(),
            jitter: options.ends_with("jitter"),
        });
        let (retries, dice) = state.split_once(' ').unwrap();
        let found = match again(&ask, retries.parse().unwrap(), &spec, 0, dice.parse().unwrap()) {
            Again::At(at) => at.to_string(),
            Again::Exhausted => "exhausted".to_owned(),
        };
        assert_eq!(found, expected, "line {number}: {line}");
    }
}

#[test]
fn crashes_cost_growing_delays_up_to_a_minute() {
    let delays: Vec<Millis> = (0..8).map(|crashes| after_crash(crashes, 0)).collect();
    assert_eq!(delays, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    assert_eq!(after_crash(u32::MAX, 5), 60_005);
}

#[test]
fn absurd_delays_do_not_overflow() {
    assert_eq!(millis(f64::NAN), 0);
    assert_eq!(millis(f64::INFINITY), Millis::MAX);
    let ask = Retry { countdown_secs: Some(1e300), ..Retry::default() };
    assert_eq!(again(&ask, 0, &TaskSpec::new("t"), 5, 0.0), Again::At(Millis::MAX));
}
