//! The clock: the one place that reads the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use umbel_proto::Millis;

/// Milliseconds since the epoch.
pub fn now() -> Millis {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as Millis,
        Err(before) => -(before.duration().as_millis() as Millis),
    }
}
