//! Crontabs against Celery's own answers, and against an enumeration that walks from minute to minute.

use std::collections::BTreeMap;

use jiff::{
    Timestamp, ToSpan,
    civil::{DateTime, date},
    tz::TimeZone,
};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use umbel_proto::Millis;

fn vectors(name: &str) -> Vec<Json> {
    let all: Json = serde_json::from_str(include_str!("../../testdata/beat.json")).unwrap();
    all[name].as_array().unwrap().clone()
}

// Tests may read files.
#[allow(clippy::disallowed_methods)]
fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn instant(text: &Json) -> Millis {
    text.as_str().unwrap().parse::<Timestamp>().unwrap().as_millisecond()
}

/// Goal: every field that Celery understands is understood as the same numbers, and what it refuses is refused for the same reason.
#[test]
fn fields_mean_what_celery_says() {
    for vector in vectors("parse") {
        let key = vector[0].as_str().unwrap();
        let [text, max, min] = key.split('|').collect::<Vec<_>>()[..] else { panic!("{key}") };
        let number = |text: &str| text.split_once('=').unwrap().1.parse::<u32>().unwrap();
        let found = parse::field(text, number(min), number(max));
        match &vector[1] {
            Json::String(refusal) => {
                let reason = found.expect_err(key);
                let alike = match reason {
                    FieldError::Empty => refusal.contains("empty part"),
                    FieldError::NoStep => refusal.contains("empty filter"),
                    FieldError::Step(_) => refusal.contains("slice step"),
                    FieldError::Word(_) => refusal.contains("literal"),
                    FieldError::Range { number, .. } => refusal.contains("range") || (number < 0 && refusal.contains("negative")),
                };
                assert!(alike, "{key}: {reason} against {refusal}");
            }
            numbers => {
                let wanted: Vec<u64> = numbers.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect();
                let found: Vec<u64> = found.expect(key).iter().map(u64::from).collect();
                assert_eq!(found, wanted, "{key}");
            }
        }
    }
}

#[test]
fn steps_count_on_through_a_wrap() {
    let numbers = |text| parse::field(text, 0, 24).map(|numbers| numbers.iter().collect::<Vec<_>>());
    assert_eq!(numbers("22-4/2"), Ok(vec![0, 2, 4, 22]));
    assert_eq!(numbers("21-4/2"), Ok(vec![1, 3, 21, 23]));
    assert_eq!(numbers("1_0,+3"), Ok(vec![3, 10]));
    assert_eq!(numbers("1-5/2junk"), Err(FieldError::Step("2junk".to_owned())));
    assert_eq!(numbers("1__0"), Err(FieldError::Word("1__0".to_owned())));
}

fn fields(crontab: &Json) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in crontab.as_object().unwrap() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match name.as_str() {
            "minute" => fields.minute = text,
            "hour" => fields.hour = text,
            "day_of_week" => fields.day_of_week = text,
            "day_of_month" => fields.day_of_month = text,
            "month_of_year" => fields.month_of_year = text,
            other => panic!("{other}"),
        }
    }
    fields
}

/// Goal: whether something is due, and how long until it is due next, as Celery answers it, changes of clocks included.
#[test]
fn due_times_are_celerys() {
    for vector in vectors("next") {
        let crontab = Crontab::new(&fields(&vector["crontab"]), zone(vector["tz"].as_str().unwrap())).unwrap();
        let (now, last) = (instant(&vector["now_utc"]), instant(&vector["last_run_utc"]));
        let next = crontab.after(last).unwrap();
        let seconds = |from: Millis| (from - now) as f64 / 1000.0;
        assert_eq!(vector["remaining_estimate_s"], seconds(next), "{vector}");
        assert_eq!(vector["is_due"], next <= now, "{vector}");
        let next = if next <= now { crontab.after(now).unwrap() } else { next };
        assert_eq!(vector["next_s"], seconds(next), "{vector}");
    }
}

#[test]
fn what_can_never_be_due_is_refused() {
    for vector in vectors("never") {
        let refused = Crontab::new(&fields(&vector), TimeZone::UTC).unwrap_err();
        assert!(matches!(refused, CrontabError::Never { .. }), "{refused}");
    }
    Crontab::new(&"0 0 29 2 *".parse().unwrap(), TimeZone::UTC).unwrap();
    assert!("* * * *".parse::<Fields>().unwrap_err().to_string().contains("4 fields"));
}

#[test]
fn a_leap_day_that_is_a_certain_weekday_is_found() {
    let crontab = Crontab::new(&"0 12 29 2 wed".parse().unwrap(), TimeZone::UTC).unwrap();
    // 2100 has no leap day.
    let from = date(2096, 3, 1).at(0, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
    let found = Timestamp::from_millisecond(crontab.after(from.as_millisecond()).unwrap()).unwrap();
    assert_eq!(found.to_string(), "2108-02-29T12:00:00Z");
}

/// Zones of every habit: whole hours and half ones, north and south, around midnight, twice a year for Ramadan.
const ZONES: [&str; 20] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Jerusalem",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/Chisinau",
    "Europe/London",
    "Pacific/Auckland",
    "Pacific/Chatham",
];

/// The changes of a zone's clock from 2025 to 2035.
fn changes(zone: &TimeZone) -> Vec<Timestamp> {
    let from: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    let to: Timestamp = "2036-01-01T00:00:00Z".parse().unwrap();
    let moves = |at: &Timestamp| zone.to_offset(*at) != zone.to_offset(*at - 1.second());
    zone.following(from).map(|change| change.timestamp()).take_while(|at| *at < to).filter(moves).collect()
}

/// An independent enumeration: reads the zone's clock at each minute, and asks of each minute of the clock, one after the other,
/// whether it fits.
struct Walk<'a> {
    /// Of each field, which numbers fit.
    sets: [[bool; 64]; 5],
    clock: &'a Clock<'a>,
}

/// What the clock shows at each minute of the days around a change.
struct Clock<'a> {
    zone: &'a TimeZone,
    change: Timestamp,
    shows: BTreeMap<DateTime, Vec<Timestamp>>,
}

impl<'a> Clock<'a> {
    fn around(zone: &'a TimeZone, change: Timestamp) -> Self {
        let mut shows: BTreeMap<DateTime, Vec<Timestamp>> = BTreeMap::new();
        for at in (-36 * 60..36 * 60).map(|minute: i64| change + minute.minutes()) {
            shows.entry(zone.to_offset(at).to_datetime(at)).or_default().push(at);
        }
        Self { zone, change, shows }
    }
}

impl<'a> Walk<'a> {
    fn of(crontab: &Crontab, clock: &'a Clock<'a>) -> Self {
        let sets = [crontab.minute, crontab.hour, crontab.day_of_month, crontab.month_of_year, crontab.day_of_week];
        Self { sets: sets.map(|set| std::array::from_fn(|number| set.iter().any(|member| member as usize == number))), clock }
    }

    fn fits(&self, wall: DateTime) -> bool {
        let weekday = wall.date().weekday().to_monday_one_offset() % 7;
        let numbers = [wall.minute(), wall.hour(), wall.day(), wall.month(), weekday];
        self.sets.iter().zip(numbers).all(|(set, number)| set[number as usize])
    }

    fn after(&self, last: Timestamp) -> Timestamp {
        let shown = self.clock.zone.to_datetime(last);
        let mut wall = shown.date().at(shown.hour(), shown.minute(), 0, 0);
        loop {
            wall += 1.minute();
            if !self.fits(wall) {
                continue;
            }
            // The first coming; in the repeated hour itself the one that is still to come.
            let shown = self.clock.shows.get(&wall).map(Vec::as_slice).unwrap_or_default();
            if let Some(coming) = shown.iter().find(|coming| **coming > last) {
                return if shown[0] > last { shown[0] } else { *coming };
            }
            if shown.is_empty() {
                // The clock never shows it: kept by the clock as it was before the change.
                return self.clock.zone.to_offset(self.clock.change - 1.second()).to_timestamp(wall).unwrap();
            }
        }
    }
}

/// Goal: around every change of clocks in 20 zones and eleven years, the next times are those of a walk from minute to minute.
#[test]
fn every_change_of_clocks_agrees_with_a_walk() {
    let lines = ["*/30 * * * *", "30 2 * * *", "15,45 0-3 * * *", "0 */2 * * *", "59 23 * * *"];
    let (mut changed, mut compared) = (0, 0);
    for name in ZONES {
        let zone = zone(name);
        for change in changes(&zone) {
            changed += 1;
            let clock = Clock::around(&zone, change);
            for line in lines {
                let crontab = Crontab::new(&line.parse().unwrap(), zone.clone()).unwrap();
                let walk = Walk::of(&crontab, &clock);
                // From before it, and from the middle of what comes after it.
                for start in [change - 5.hours(), change + 10.minutes() + 20.seconds()] {
                    let mut last = start;
                    while last < change + 5.hours() {
                        let found = Timestamp::from_millisecond(crontab.after(last.as_millisecond()).unwrap()).unwrap();
                        let within = found < change + 30.hours();
                        assert!(!within || found == walk.after(last), "{name} {line} after {last}: {found} against {}", walk.after(last));
                        compared += usize::from(within);
                        last = found;
                    }
                }
            }
        }
    }
    assert!(changed > 20 * 11, "{changed} changes");
    assert!(compared > 10_000, "{compared} comparisons");
}

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("*".to_owned()),
        2 => (min..=max).prop_map(|number| number.to_string()),
        1 => (1..=max).prop_map(|step| format!("*/{step}")),
        1 => (min..=max, min..=max).prop_map(|(from, to)| format!("{from}-{to}")),
    ]
}

proptest! {
    /// Goal: wherever one starts, the next time fits, is later, and nothing that fits lies between.
    #[test]
    fn nothing_is_skipped(
        minute in field(0, 59), hour in field(0, 23), days in field(1, 28), months in field(1, 12), weekdays in field(0, 6),
        start in 1_735_689_600_000_i64..2_082_758_400_000,
    ) {
        let line = format!("{minute} {hour} {days} {months} {weekdays}");
        let crontab = Crontab::new(&line.parse().unwrap(), TimeZone::UTC).unwrap();
        let clock = Clock { zone: &TimeZone::UTC, change: Timestamp::UNIX_EPOCH, shows: BTreeMap::new() };
        let walk = Walk::of(&crontab, &clock);
        let found = crontab.after(start).unwrap();
        let shows = |at: Millis| TimeZone::UTC.to_datetime(Timestamp::from_millisecond(at).unwrap());
        prop_assert!(found > start && found % 60_000 == 0 && walk.fits(shows(found)), "{}: {}", line, found);
        let mut between = start - start % 60_000 + 60_000;
        // A fortnight of minutes is enough of a look; the rest is the same code.
        while between < found.min(start + 14 * 86_400_000) {
            prop_assert!(!walk.fits(shows(between)), "{}: {} lies before {}", line, between, found);
            between += 60_000;
        }
    }
}
