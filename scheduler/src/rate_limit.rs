//! Rate limits: `celery/utils/time.py::rate`, `kombu/utils/limits.py::TokenBucket`.

use umbel_proto::Millis;

/// Starts per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate {
    per_second: f64,
}

impl Rate {
    /// Reads `"10"`, `"10/s"`, `"100/m"`, `"5/h"`; `"0"` and `""` are no limit (`Ok(None)`).
    ///
    /// # Errors
    /// The text, when it is none of these.
    pub fn parse(_text: &str) -> Result<Option<Self>, String> {
        todo!()
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
    next: Millis,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Millis) -> Self {
        Self { rate, next: now }
    }
    /// Takes a token: `Ok` starts now, `Err` says when to ask again.
    ///
    /// # Errors
    /// The time of the next token.
    pub fn take(&mut self, _now: Millis) -> Result<(), Millis> {
        todo!()
    }
}
