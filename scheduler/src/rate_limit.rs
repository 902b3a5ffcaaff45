//! Rate limits: `celery/utils/time.py::rate`, `kombu/utils/limits.py::TokenBucket`.

use std::fmt;

use umbel_proto::Millis;

/// Starts per second.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    per_second: f64,
    /// The seconds of the unit it was written in, for [`Rate::to_string`](ToString).
    unit: f64,
}

/// Rates are equal that mean the same.
impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        self.per_second == other.per_second
    }
}

/// As it was written: `10/m`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            60.0 => "m",
            3600.0 => "h",
            _ => "s",
        };
        // Dividing and multiplying again leaves a grain.
        let count = (self.per_second * self.unit * 1e9).round() / 1e9;
        write!(f, "{count}/{unit}")
    }
}

impl Rate {
    /// Reads `"10"`, `"10/s"`, `"100/m"`, `"5/h"`; `"0"` and `""` are no limit (`Ok(None)`). Fractions are allowed, as for Celery.
    ///
    /// # Errors
    /// The text, when it is none of these.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let bare = text.trim();
        let (count, unit) = bare.split_once('/').unwrap_or((bare, "s"));
        if count.is_empty() && !bare.contains('/') {
            return Ok(None);
        }
        let seconds = match unit.trim() {
            "s" | "" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(text.to_owned()),
        };
        match count.trim().parse::<f64>() {
            Ok(0.0) => Ok(None),
            Ok(count) if count.is_finite() && count > 0.0 => Ok(Some(Self { per_second: count / seconds, unit: seconds })),
            _ => Err(text.to_owned()),
        }
    }

    /// An equal share of it for each of `parts`.
    #[must_use]
    pub fn divided(self, parts: u32) -> Self {
        Self { per_second: self.per_second / f64::from(parts.max(1)), ..self }
    }

    /// Starts per second.
    pub fn per_second(self) -> f64 {
        self.per_second
    }
}

/// A token bucket of capacity one: starts are spaced evenly, as Celery's are.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    rate: Rate,
    /// When the next token is there, in milliseconds. Fractions matter: at 3/s a token comes every 333.3 ms, and rates above
    /// 1000/s give several within the millisecond that the clock can tell.
    next: f64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Millis) -> Self {
        Self { rate, next: now as f64 }
    }

    /// Takes a token: `Ok` starts now, `Err` says when to ask again.
    ///
    /// # Errors
    /// The time of the next token; always after `now`.
    pub fn take(&mut self, now: Millis) -> Result<(), Millis> {
        let at = now as f64;
        if self.next > at {
            return Err(self.next.ceil() as Millis);
        }
        // Tokens saved up while nobody asked are lost, but for what fits into one tick of the clock.
        self.next = self.next.max(at - 1.0) + 1000.0 / self.rate.per_second;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
