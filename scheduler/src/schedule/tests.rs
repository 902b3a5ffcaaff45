//! Schedules of every kind, against Celery's own answers and PyEphem's.

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::fixture::cases;

fn vectors(name: &str) -> Vec<Json> {
    let all: Json = serde_json::from_str(include_str!("../../testdata/beat.json")).unwrap();
    all[name].as_array().unwrap().clone()
}

// Tests may read files.
#[allow(clippy::disallowed_methods)]
fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn every(every_ms: i64, relative: bool, zone: TimeZone) -> Schedule {
    Schedule::new(&When::Every { every_ms, relative }, zone).unwrap()
}

/// Goal: distances, plain and relative, are due when Celery says so.
#[test]
fn distances_are_celerys() {
    for vector in vectors("interval") {
        let every_ms = (vector["every_s"].as_f64().unwrap() * 1000.0) as i64;
        let relative = vector["relative"].as_bool().unwrap();
        let schedule = every(every_ms, relative, TimeZone::UTC);
        let instant = |name: &str| vector[name].as_str().unwrap().parse::<Timestamp>().unwrap().as_millisecond();
        let (last, now) = (instant("last"), instant("now"));
        let next = schedule.after(last).unwrap();
        assert_eq!(vector["is_due"], next <= now, "{vector}");
        let next = if next <= now { schedule.after(now).unwrap() } else { next };
        let wait = (next - now) as f64 / 1000.0;
        // What is late is back on the full hour with its next time (5.7), not a whole distance after the late one (5.6).
        let wanted = if relative { 3570.0 } else { vector["next_s"].as_f64().unwrap() };
        assert_eq!(wait, wanted, "{vector}");
    }
}

/// Goal: runs one after the other over changes of clocks are those of Celery 5.7.
#[test]
fn chains_of_runs_are_celerys() {
    for vector in vectors("chains") {
        let text = vector["schedule"].as_str().unwrap();
        let when = match text.split_once(' ').unwrap() {
            ("crontab", line) => When::Crontab { fields: line.parse().unwrap() },
            (_, rest) => {
                let (every, how) = rest.split_once(' ').unwrap_or((rest, ""));
                let every_ms = if every == "1d" { 86_400_000 } else { 3_600_000 };
                When::Every { every_ms, relative: how == "relative" }
            }
        };
        let schedule = Schedule::new(&when, zone(vector["zone"].as_str().unwrap())).unwrap();
        let mut last = vector["start"].as_i64().unwrap() * 1000;
        for run in vector["runs"].as_array().unwrap() {
            last = schedule.after(last).unwrap();
            assert_eq!(last, run.as_i64().unwrap() * 1000, "{vector}");
        }
    }
}

/// Goal: the sun is where PyEphem says it is, within 20 seconds; near the poles, where it moves along the horizon, within minutes.
#[test]
fn the_sun_is_where_it_should_be() {
    let mut worst = 0.0_f64;
    for (number, line) in cases(include_str!("../../testdata/solar.txt")) {
        let words: Vec<&str> = line.split(' ').collect();
        let [event, latitude, longitude, after, _, wanted] = words[..] else { panic!("line {number}") };
        let event = SolarEvent::named(event).unwrap();
        let when = When::Solar { event, latitude: latitude.parse().unwrap(), longitude: longitude.parse().unwrap() };
        let schedule = Schedule::new(&when, TimeZone::UTC).unwrap();
        let found = schedule.after(after.parse::<i64>().unwrap() * 1000).unwrap();
        let off = (found - wanted.parse::<i64>().unwrap() * 1000) as f64 / 1000.0;
        let polar = latitude.parse::<f64>().unwrap().abs() > 50.0;
        assert!(off.abs() < if polar { 300.0 } else { 20.0 }, "line {number}: {line}: {off} s off");
        worst = if polar { worst } else { worst.max(off.abs()) };
    }
    assert!(worst > 0.0);
}

#[test]
fn places_are_checked() {
    let solar = |latitude, longitude| When::Solar { event: SolarEvent::Sunset, latitude, longitude };
    assert!(Schedule::new(&solar(91.0, 0.0), TimeZone::UTC).unwrap_err().to_string().contains("latitude 91"));
    assert!(Schedule::new(&solar(0.0, f64::NAN), TimeZone::UTC).is_err());
    let pole = Schedule::new(&solar(90.0, 0.0), TimeZone::UTC).unwrap();
    let mut last = 1_767_225_600_000;
    for _ in 0..20 {
        last = pole.after(last).unwrap();
    }
}

#[test]
fn once_is_once() {
    let once = Schedule::new(&When::Clocked { at: 5_000 }, TimeZone::UTC).unwrap();
    assert_eq!((once.after(0), once.after(5_000), once.latest(0, 9_000), once.latest(0, 4_000)), (Some(5_000), None, Some(5_000), None));
}

#[test]
fn what_is_written_down_is_read_again() {
    let all = [
        When::Every { every_ms: 1_500, relative: true },
        When::Crontab { fields: "0 7 * * mon-fri".parse().unwrap() },
        When::Solar { event: SolarEvent::DawnCivil, latitude: 52.5, longitude: 13.4 },
        When::Clocked { at: 1 },
    ];
    let shown = ["every 1500ms, rounded", "0 7 * * mon-fri", "dawn_civil at 52.5, 13.4", "once at 1970-01-01T00:00:00.001000+00:00"];
    for (when, shown) in all.into_iter().zip(shown) {
        let text = serde_json::to_string(&when).unwrap();
        assert_eq!(serde_json::from_str::<When>(&text).unwrap(), when, "{text}");
        assert_eq!(when.to_string(), shown);
    }
    assert!(Schedule::new(&When::Every { every_ms: 9, relative: false }, TimeZone::UTC).is_err());
}

proptest! {
    /// Goal: the last time before now is the one that going from time to time ends at, and relative times always go on.
    #[test]
    fn the_latest_is_the_end_of_the_way(
        which in 0..6_usize, start in 1_735_689_600_000_i64..2_082_758_400_000, span in 0_i64..3 * 86_400_000,
    ) {
        let berlin = zone("Europe/Berlin");
        let crontab = |line: &str| Schedule::new(&When::Crontab { fields: line.parse().unwrap() }, berlin.clone()).unwrap();
        let schedule = match which {
            0 => every(7_777, false, TimeZone::UTC),
            1 => every(5_400_000, true, zone("Australia/Lord_Howe")),
            2 => every(86_400_000, true, zone("Africa/Cairo")),
            3 => crontab("*/7 * * * *"),
            4 => crontab("30 2 * * *"),
            _ => Schedule::Clocked(start + 1_000_000),
        };
        let now = start + span;
        let mut walked = None;
        let mut last = start;
        while let Some(next) = schedule.after(last).filter(|next| *next <= now) {
            prop_assert!(next > last);
            walked = Some(next);
            last = next;
        }
        prop_assert_eq!(schedule.latest(start, now), walked);
    }
}

/// Goal: rounded distances go on over every change of a clock, whatever its size.
#[test]
fn rounded_distances_go_on() {
    for name in ["Australia/Lord_Howe", "Africa/Casablanca", "America/Santiago", "Asia/Beirut", "Antarctica/Troll"] {
        let zone = zone(name);
        let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for change in zone.following(from).map(|change| change.timestamp()).take(6) {
            for every_ms in [10, 1_000, 60_000, 1_800_000, 3_600_000, 10_800_000, 86_400_000, 7 * 86_400_000] {
                let schedule = every(every_ms, true, zone.clone());
                let mut last = (change - 1.hour()).as_millisecond();
                for _ in 0..300 {
                    let next = schedule.after(last).unwrap();
                    let bound = every_ms + if every_ms >= 60_000 { 2 * 3_600_000 } else { 0 };
                    assert!(next > last && next - last <= bound, "{name}: {every_ms} after {last}: {next}");
                    last = next;
                }
            }
        }
    }
}
