//! Time on the wire.

/// Milliseconds since 1970-01-01T00:00:00Z. The only time that decisions are made with.
pub type Millis = i64;

/// A point in time as a message tells it: the text is kept, so that it is sent on as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    text: String,
    millis: Millis,
}

impl Timestamp {
    /// Reads ISO 8601 in the forms Celery accepts (wire contract §1.1); without an offset it is UTC.
    ///
    /// # Errors
    /// When it is not a point in time.
    pub fn parse(_text: &str) -> Result<Self, crate::DecodeError> {
        todo!()
    }
    /// The form Celery writes: `2026-11-21T05:45:09.950296+00:00`.
    pub fn from_millis(_millis: Millis) -> Self {
        todo!()
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// The time.
    pub fn millis(&self) -> Millis {
        self.millis
    }
}
