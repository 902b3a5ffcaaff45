//! Tasks to try things with, on nodes that have none of their own yet: `umbel.demo.*`.

use std::time::Duration;

use super::{Builder, TaskFailure, TaskResult};
use crate::context::Context;

/// The sum of two integers.
#[crate::task(name = "umbel.demo.add")]
pub async fn add(a: i64, b: i64) -> TaskResult<i64> {
    a.checked_add(b).ok_or_else(overflow)
}

/// The sum of a list of integers.
#[crate::task(name = "umbel.demo.sum")]
pub async fn sum(numbers: Vec<i64>) -> TaskResult<i64> {
    numbers.into_iter().try_fold(0_i64, i64::checked_add).ok_or_else(overflow)
}

/// Sleeps, reporting progress ten times a second, and returns the seconds it was given. Ends early when asked to.
#[crate::task(name = "umbel.demo.sleep")]
pub async fn sleep(ctx: Context, #[default = 1.0] seconds: f64) -> TaskResult<f64> {
    let total = Duration::try_from_secs_f64(seconds).map_err(|_| TaskFailure::new("ValueError", format!("cannot sleep {seconds} s")))?;
    let end = tokio::time::Instant::now() + total;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return Ok(seconds);
        }
        ctx.percent(millis(total.saturating_sub(left)), millis(total));
        tokio::select! {
            () = tokio::time::sleep(left.min(Duration::from_millis(100))) => {}
            () = ctx.cancelled() => ctx.check()?,
        }
    }
}

/// Fails.
#[crate::task(name = "umbel.demo.fail")]
pub async fn fail(#[default = "this task fails on purpose"] message: String) -> TaskResult<()> {
    Err(TaskFailure::new("RuntimeError", message))
}

/// Fails twice, as an unreliable service would, and succeeds in the third attempt.
#[crate::task(name = "umbel.demo.flaky")]
pub async fn flaky(ctx: &Context) -> TaskResult<String> {
    match ctx.retries() {
        retries @ 0..=1 => {
            let delay = Duration::from_millis(500 << retries);
            Err(ctx.retry_in(delay).because(TaskFailure::new("ConnectionError", "upstream 503")).into())
        }
        retries => Ok(format!("ok on attempt {}", retries + 1)),
    }
}

fn overflow() -> TaskFailure {
    TaskFailure::new("OverflowError", "the sum does not fit into 64 bits")
}

/// Adds them all.
#[must_use]
pub fn register(builder: Builder) -> Builder {
    builder.task(add).task(fail).task(flaky).task(sleep).task(sum)
}
