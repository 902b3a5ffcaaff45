//! What kombu's special values look like in Python: `Decimal('1.10')`, `datetime.date(2030, 1, 2)`.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{Map, value::special};

/// How a special value is shown.
pub(super) enum Shown {
    /// As this text.
    Text(String),
    /// As these bytes.
    Bytes(Vec<u8>),
}

/// How `map` is shown if it is a special value with content that fits its type; any other map is shown as a map.
pub(super) fn of_map(map: &Map) -> Option<Shown> {
    let (kind, value) = special::of_map(map)?;
    let text = value.as_str();
    match kind {
        "decimal" => {
            let plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-'));
            text.filter(plain).map(|text| Shown::Text(format!("Decimal('{text}')")))
        }
        "uuid" => {
            let hex = value.as_map().and_then(|map| map.get("hex")?.as_str()).or(text)?;
            uuid::Uuid::try_parse(hex).ok().map(|uuid| Shown::Text(format!("UUID('{uuid}')")))
        }
        "bytes" => text.map(|text| Shown::Bytes(text.as_bytes().to_owned())),
        "base64" => STANDARD.decode(text?).ok().map(Shown::Bytes),
        "date" => parts(text?).filter(|parts| parts.len() == 3).map(|parts| Shown::Text(format!("datetime.date({})", joined(&parts)))),
        "time" => moment("datetime.time", text?, 0).map(Shown::Text),
        "datetime" => moment("datetime.datetime", text?, 3).map(Shown::Text),
        _ => None,
    }
}

/// The numbers of `2030-01-02`.
fn parts(date: &str) -> Option<Vec<i64>> {
    date.split('-').map(|part| part.parse().ok()).collect()
}

fn joined(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

/// A time of day with what is in front of it, `date_parts` numbers, and the offset behind it.
fn moment(class: &str, text: &str, date_parts: usize) -> Option<String> {
    let (date, time) = match date_parts {
        0 => ("", text),
        _ => text.split_once(['T', ' '])?,
    };
    let mut numbers = if date.is_empty() { Vec::new() } else { parts(date)? };
    (numbers.len() == date_parts).then_some(())?;
    let (clock, offset) = match time.find(['+', '-', 'Z']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let (clock, micros) = match clock.split_once('.') {
        Some((clock, fraction)) if fraction.len() <= 6 => (clock, format!("{fraction:0<6}").parse::<i64>().ok()?),
        Some(_) => return None,
        None => (clock, 0),
    };
    let clock: Vec<i64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, rest @ ..] = &clock[..] else { return None };
    let second = rest.first().copied().unwrap_or_default();
    numbers.extend([*hour, *minute]);
    if second != 0 || micros != 0 {
        numbers.push(second);
    }
    if micros != 0 {
        numbers.push(micros);
    }
    let mut out = format!("{class}({}", joined(&numbers));
    push_zone(offset, &mut out)?;
    out.push(')');
    Some(out)
}

fn push_zone(offset: &str, out: &mut String) -> Option<()> {
    if offset.is_empty() {
        return Some(());
    }
    let numbers: Vec<i64> = match offset {
        "Z" => Vec::new(),
        _ => offset[1..].split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?,
    };
    let seconds = numbers.iter().zip([3600, 60, 1]).map(|(number, unit)| number * unit).sum::<i64>();
    let seconds = if offset.starts_with('-') { -seconds } else { seconds };
    let _ = match (seconds.div_euclid(86_400), seconds.rem_euclid(86_400)) {
        (0, 0) => write!(out, ", tzinfo=datetime.timezone.utc"),
        (0, seconds) => write!(out, ", tzinfo=datetime.timezone(datetime.timedelta(seconds={seconds}))"),
        (days, seconds) => write!(out, ", tzinfo=datetime.timezone(datetime.timedelta(days={days}, seconds={seconds}))"),
    };
    Some(())
}
