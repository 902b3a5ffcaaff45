//! Rates from texts, and the spacing of starts.

use proptest::prelude::*;

use super::*;
use crate::fixture::cases;

#[test]
fn texts_mean_what_the_fixture_says() {
    for (number, line) in cases(include_str!("../../testdata/rate_limit.txt")) {
        let (text, expected) = line.rsplit_once(" => ").unwrap();
        let text = text.trim_matches('"');
        let found = match Rate::parse(text) {
            Ok(None) => "none".to_owned(),
            Ok(Some(rate)) => rate.per_second().to_string(),
            Err(named) => {
                assert_eq!(named, text);
                "error".to_owned()
            }
        };
        assert_eq!(found, expected, "line {number}");
    }
}

fn bucket(text: &str) -> Bucket {
    Bucket::new(Rate::parse(text).unwrap().unwrap(), 0)
}

#[test]
fn starts_are_spaced_and_idle_time_is_not_saved_up() {
    let mut ten_a_minute = bucket("10/m");
    assert_eq!(ten_a_minute.take(0), Ok(()));
    assert_eq!(ten_a_minute.take(0), Err(6_000));
    assert_eq!(ten_a_minute.take(5_999), Err(6_000));
    assert_eq!(ten_a_minute.take(60_000), Ok(()));
    assert!(ten_a_minute.take(60_001).is_err(), "an idle minute saves up one token, not ten");
}

#[test]
fn a_rate_beyond_the_clocks_grain_is_kept() {
    let mut fast = bucket("5000/s");
    let taken: usize = (0..1_000).map(|now| (0..100).take_while(|_| fast.take(now).is_ok()).count()).sum();
    assert!((4_990..=5_010).contains(&taken), "{taken}");
}

proptest! {
    #[test]
    fn never_faster_than_the_rate(per_minute in 1u32..6_000, steps in proptest::collection::vec(0i64..500, 1..200)) {
        let mut bucket = bucket(&format!("{per_minute}/m"));
        let (mut now, mut taken) = (0i64, 0u32);
        for step in steps {
            now += step;
            match bucket.take(now) {
                Ok(()) => taken += 1,
                Err(next) => prop_assert!(next > now),
            }
        }
        let allowed = f64::from(per_minute) * (now as f64 + 1.0) / 60_000.0 + 1.0;
        prop_assert!(f64::from(taken) <= allowed.ceil(), "{taken} of {allowed}");
    }
}

#[test]
fn rates_are_shown_as_they_were_written() {
    for (text, shown) in [("10", "10/s"), ("10/m", "10/m"), ("7/h", "7/h"), ("0.5/s", "0.5/s"), ("100/m", "100/m")] {
        assert_eq!(Rate::parse(text).unwrap().unwrap().to_string(), shown);
    }
    assert_eq!(Rate::parse("120/m").unwrap(), Rate::parse("2/s").unwrap());
}
