//! What is known of a task before it is called.

use umbel_proto::{QueueName, TaskName, TimeLimit};

/// When a message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// With the ending: a task whose node dies runs again.
    #[default]
    Late,
    /// Before the start: a task whose node dies does not run again; its loss is recorded as a failure.
    Early,
}

/// Delays between attempts: `celery/utils/time.py::get_exponential_backoff_interval`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first delay, in seconds; doubled each time.
    pub factor_secs: f64,
    /// The longest delay, in seconds.
    pub max_secs: f64,
    /// Whether the delay is drawn between zero and its full length.
    pub jitter: bool,
}

/// The options of a task after merging its own, the annotations' and the settings'.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// Its name.
    pub name: TaskName,
    /// Where calls that name no queue go; `None` leaves it to the routes.
    pub queue: Option<QueueName>,
    /// The priority of calls that name none.
    pub priority: Option<u8>,
    /// How long after its sending a call that does not say is of no use any more, in seconds.
    pub expires_secs: Option<f64>,
    /// Whether its values may be of types that its application has made known to those who read them (`kombu.utils.json.register_type`):
    /// they are written as they are.
    pub own_types: bool,
    /// Retries after the first attempt; `None` is without bound.
    pub max_retries: Option<u32>,
    /// The delay before a retry that names none, in seconds (Celery's `default_retry_delay`).
    pub retry_delay_secs: f64,
    /// The growing delay of automatic retries; `None` uses `retry_delay_secs`.
    pub backoff: Option<Backoff>,
    /// Whether any failure is retried as if it were listed in `autoretry_for`. Executors read it: they answer with an automatic
    /// [`umbel_proto::Retry`].
    pub retry_on_failure: bool,
    /// Starts per second on one node; `None` is without limit.
    pub rate_limit: Option<crate::rate_limit::Rate>,
    /// Limits, where the call gives none.
    pub time_limit: TimeLimit,
    /// When to acknowledge.
    pub acknowledge: Acknowledge,
    /// Whether results are not wanted, where the call does not say.
    pub ignore_result: bool,
    /// Whether failures are stored all the same.
    pub store_errors_even_if_ignored: bool,
    /// Whether STARTED is stored.
    pub track_started: bool,
    /// Whether a failed message is acknowledged (Celery's `acks_on_failure_or_timeout`).
    pub acks_on_failure: bool,
    /// Whether a message whose task has failed for good becomes a dead letter as well.
    pub dead_letter_on_failure: bool,
    /// How many arguments it takes as an errback that may be of Celery's new style, which is called with `(request, exc, traceback)`
    /// and not with the failed task's id; `None` of those that cannot be.
    pub errback_arguments: Option<usize>,
    /// How many executors a message may kill before it is a dead letter.
    pub max_crashes: u32,
}

impl TaskSpec {
    /// Celery's defaults, except that acknowledgement is late.
    pub fn new(name: impl Into<TaskName>) -> Self {
        Self {
            name: name.into(),
            queue: None,
            priority: None,
            expires_secs: None,
            own_types: false,
            max_retries: Some(3),
            retry_delay_secs: 180.0,
            backoff: None,
            retry_on_failure: false,
            rate_limit: None,
            time_limit: TimeLimit::default(),
            acknowledge: Acknowledge::Late,
            ignore_result: false,
            store_errors_even_if_ignored: false,
            track_started: false,
            acks_on_failure: true,
            dead_letter_on_failure: false,
            errback_arguments: None,
            max_crashes: 3,
        }
    }
}
