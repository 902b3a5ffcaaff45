//! Waiting for conditions: the only place of the test code that lets time pass.
//!
//! A test never waits for a length of time; it waits for something to become true and fails when that does not happen within
//! a generous bound. The tidy suite refuses `sleep` anywhere else in test code.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long a condition may take before the test gives up. Far beyond what anything needs on a busy machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `look` answers with something, and returns it.
///
/// # Panics
/// When [`BOUND`] passes first; `what` says what never became true.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < BOUND, "gave up after {BOUND:?} waiting until {what}");
        std::thread::sleep(LOOK);
    }
}

/// [`until`], for conditions that have to be awaited.
///
/// # Panics
/// When [`BOUND`] passes first; `what` says what never became true.
pub async fn until_async<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < BOUND, "gave up after {BOUND:?} waiting until {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Awaits `future`, which is expected to be done soon.
///
/// # Panics
/// When [`BOUND`] passes first; `what` says what did not happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(value) => value,
        Err(_) => panic!("gave up after {BOUND:?} waiting for {what}"),
    }
}

/// Lets a moment pass between two looks of a loop with a bound of its own.
pub fn moment() {
    std::thread::sleep(LOOK * 10);
}
