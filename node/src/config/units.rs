//! Durations and sizes as people write them.

use std::time::Duration;

/// Reads `25s`, `500ms`, `1d`, `1h30m`, `1.5h`; a bare number is seconds, as in Celery's settings.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if let Some(secs) = number(text) {
        return Duration::try_from_secs_f64(secs).ok();
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let secs = match unit {
            "ms" => 0.001,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number(amount)? * secs).ok()?)?;
        rest = tail.trim_start();
    }
    Some(total)
}

/// Reads `64KiB`, `10MB`, `1g`, `4096`. `k`, `m`, `g` and their `iB` forms are powers of 1024; `kB`, `MB`, `GB` of 1000.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (amount, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    if let Ok(whole) = amount.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let bytes = number(amount)? * factor as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// The shortest exact form of [`parse_duration`]'s: `25s`, `1h30m`, `500ms`.
pub fn show_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut shown = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= size {
            shown.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    shown
}

/// The shortest exact form of [`parse_size`]'s.
pub fn show_size(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

/// A decimal number without sign, exponent, `inf` or `nan`, which `f64::from_str` would take.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("25s", 25_000),
            ("500ms", 500),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("90", 90_000),
            ("0", 0),
            ("2w", 1_209_600_000),
            ("1m 5s", 65_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1x", "1e3", "inf", "1s2", "99999999999999999999d", "٣s", "."] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["25s", "500ms", "1d", "1h30m", "0s", "1d2h3m4s5ms"] {
            assert_eq!(parse_duration(text).map(show_duration).as_deref(), Some(text));
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("4096", 4096), ("64KiB", 65_536), ("64k", 65_536), ("10MB", 10_000_000), ("1g", 1 << 30), ("1.5KiB", 1536), ("0", 0)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "-1", "1x", "k", "99999999999999999999", "18446744073709551615k"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        for text in ["64KiB", "1GiB", "10000000", "3MiB"] {
            assert_eq!(parse_size(text).map(show_size).as_deref(), Some(text));
        }
    }
}
