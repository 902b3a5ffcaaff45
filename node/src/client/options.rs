//! Options of a call, by their names in Celery's `apply_async`.

use std::time::Duration;

use umbel_proto::{Signature, Value};

/// What a signature may be told besides its arguments. Each method returns the signature with the option set.
///
/// On a composite an option means what it means in Celery: of a chain, `countdown` delays the first step; of a group, it
/// delays every member.
pub trait SignatureExt: Sized {
    /// With option `name` set.
    #[must_use]
    fn option(self, name: &str, value: Value) -> Self;

    /// Not before `delay` from the submission.
    #[must_use]
    fn countdown(self, delay: Duration) -> Self {
        self.option("countdown", Value::Float(delay.as_secs_f64()))
    }
    /// Not before this time: ISO 8601, in UTC where it has no offset.
    #[must_use]
    fn eta(self, time: &str) -> Self {
        self.option("eta", Value::from(time))
    }
    /// Not any more once `after` has passed since the submission: then it is REVOKED without having run.
    #[must_use]
    fn expires(self, after: Duration) -> Self {
        self.option("expires", Value::Float(after.as_secs_f64()))
    }
    /// Into this queue.
    #[must_use]
    fn queue(self, name: &str) -> Self {
        self.option("queue", Value::from(name))
    }
    /// From 0 to 9; 9 is the most urgent.
    #[must_use]
    fn priority(self, priority: u8) -> Self {
        self.option("priority", Value::Int(i64::from(priority)))
    }
    /// Under this id. Submitting a task twice under one id is two runs with one result.
    #[must_use]
    fn task_id(self, id: &str) -> Self {
        self.option("task_id", Value::from(id))
    }
    /// Whether the result is not wanted.
    #[must_use]
    fn ignore_result(self, ignore: bool) -> Self {
        self.option("ignore_result", Value::Bool(ignore))
    }
    /// With another hard limit than the task's own.
    #[must_use]
    fn time_limit(self, limit: Duration) -> Self {
        self.option("time_limit", Value::Float(limit.as_secs_f64()))
    }
    /// With another soft limit than the task's own.
    #[must_use]
    fn soft_time_limit(self, limit: Duration) -> Self {
        self.option("soft_time_limit", Value::Float(limit.as_secs_f64()))
    }
    /// Followed by `next`, which gets the value.
    #[must_use]
    fn then(self, next: Signature) -> Signature;
}

impl SignatureExt for Signature {
    fn option(self, name: &str, value: Value) -> Self {
        self.set(name, value)
    }

    fn then(self, next: Signature) -> Signature {
        Signature::chain([self, next])
    }
}
