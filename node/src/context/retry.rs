//! How a task asks to be run again.

use std::time::Duration;

use umbel_proto::{Map, Retry, Value};

use crate::executors::native::TaskFailure;

/// A wish to be run again (Celery's `Task.retry`); becomes a [`TaskFailure`] by `?` or `.into()`.
///
/// The next attempt has the same id, arguments, links and place in its workflow. When no attempts are left, the task fails:
/// with the error given by [`RetryRequest::because`], else with `MaxRetriesExceededError`.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "a retry happens when the task returns it: `return Err(ctx.retry().into())`"]
pub struct RetryRequest(Retry);

impl RetryRequest {
    /// Why. A wish (ignore, reject, …) is no reason and is left out.
    pub fn because(mut self, error: impl Into<TaskFailure>) -> Self {
        self.0.error = match error.into() {
            TaskFailure::Error(error) | TaskFailure::BadArguments(error) => Some(error),
            TaskFailure::Retry(retry) => retry.error,
            TaskFailure::Ignore | TaskFailure::Reject { .. } | TaskFailure::Replace(_) => None,
        };
        self
    }

    /// When, from now; without it, after the task's `retry_delay`.
    pub fn after(mut self, delay: Duration) -> Self {
        self.0.countdown_secs = Some(delay.as_secs_f64());
        self
    }

    /// Another bound on retries than the task's; `None` is without bound.
    pub fn max_retries(mut self, max: impl Into<Option<u32>>) -> Self {
        self.0.max_retries = Some(max.into());
        self
    }

    /// Other positional arguments for the next attempt.
    pub fn args(mut self, args: impl IntoIterator<Item = Value>) -> Self {
        self.0.args = Some(args.into_iter().collect());
        self
    }

    /// Other keyword arguments for the next attempt.
    pub fn kwargs(mut self, kwargs: Map) -> Self {
        self.0.kwargs = Some(kwargs);
        self
    }
}

impl From<RetryRequest> for TaskFailure {
    fn from(request: RetryRequest) -> Self {
        Self::Retry(Box::new(request.0))
    }
}
