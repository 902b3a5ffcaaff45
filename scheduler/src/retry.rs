//! When and whether to run a task again: `celery/app/task.py::retry`, `celery/app/autoretry.py`.

use umbel_proto::{Millis, Retry};

use crate::TaskSpec;

/// The answer to a task that asks for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Run again at this time.
    At(Millis),
    /// No attempts are left.
    Exhausted,
}

/// Decides. `retries` is how many were made before this run; `dice` is drawn from `[0, 1)` and sets the jitter.
pub fn again(_ask: &Retry, _retries: u32, _spec: &TaskSpec, _now: Millis, _dice: f64) -> Again {
    todo!()
}
