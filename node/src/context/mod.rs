//! What a task may know of its run, and do in it.
//!
//! A [`Context`] is made by the executor for one run and handed to the task. Cloning it costs a counter; it may outlive the
//! run, but then tells and does nothing any more.

mod retry;
mod send;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use umbel_proto::{GroupId, Invocation, Map, Millis, QueueName, ResultTuple, Signature, TaskId, TaskName, TimeLimit, Value};
use umbel_scheduler::{TaskSpec, devices::Device};

pub use retry::RetryRequest;
pub use send::{SendError, Sent};

use crate::{
    client::Client,
    executors::{
        Job, Order, Progress,
        native::{TaskFailure, soft_time_limit},
    },
};

/// The state that progress is reported under, as is custom with Celery.
pub const PROGRESS: &str = "PROGRESS";

/// One run of one task, as the task sees it (Celery's `self` and `self.request`).
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    invocation: Arc<Invocation>,
    spec: Arc<TaskSpec>,
    queue: QueueName,
    attempt: u32,
    limits: TimeLimit,
    deadline: Option<Millis>,
    orders: watch::Receiver<Order>,
    progress: mpsc::Sender<Progress>,
    client: Option<Client>,
    device: Option<Device>,
    children: Mutex<Vec<ResultTuple>>,
    runtime: Handle,
}

impl Context {
    pub(crate) fn new(job: &Job, client: Option<Client>, device: Option<Device>) -> Self {
        Self(Arc::new(Inner {
            invocation: Arc::clone(&job.invocation),
            spec: Arc::clone(&job.spec),
            queue: job.queue.clone(),
            attempt: job.attempt,
            limits: job.limits,
            deadline: job.deadline,
            orders: job.orders.clone(),
            progress: job.progress.clone(),
            client,
            device,
            children: Mutex::default(),
            runtime: Handle::current(),
        }))
    }

    /// A context for calling a task's function in a test: the first attempt of a call without arguments, with no limits, on
    /// no node. What it reports goes nowhere, and it can send nothing.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn detached(task: impl Into<TaskName>) -> Self {
        let task = task.into();
        let id = TaskId::from(uuid::Uuid::new_v4().to_string());
        let invocation = Invocation::new(task.clone(), id, &[], &Map::new()).expect("no arguments are always encodable");
        let job = Job {
            invocation: Arc::new(invocation),
            spec: Arc::new(TaskSpec::new(task)),
            queue: QueueName::from("celery"),
            attempt: 1,
            limits: TimeLimit::default(),
            deadline: None,
            orders: watch::channel(Order::Run).1,
            progress: mpsc::channel(1).0,
            early: mpsc::channel(1).0,
        };
        Self::new(&job, None, None)
    }

    /// The task's id, the same through all of its retries.
    pub fn task_id(&self) -> &TaskId {
        &self.0.invocation.headers.id
    }

    /// The task's registered name.
    pub fn task_name(&self) -> &TaskName {
        &self.0.invocation.headers.task
    }

    /// Headers of the user's own.
    pub(crate) fn own_headers(&self) -> &Map {
        &self.0.invocation.headers.other
    }

    /// The first task of the workflow; the task itself where it is the first.
    pub fn root_id(&self) -> &TaskId {
        self.0.invocation.headers.root_id.as_ref().unwrap_or_else(|| self.task_id())
    }

    /// The task that sent this one.
    pub fn parent_id(&self) -> Option<&TaskId> {
        self.0.invocation.headers.parent_id.as_ref()
    }

    /// The group it was sent with.
    pub fn group_id(&self) -> Option<&GroupId> {
        self.0.invocation.headers.group.as_ref()
    }

    /// Its position in that group.
    pub fn group_index(&self) -> Option<i64> {
        self.0.invocation.headers.group_index
    }

    /// The queue it was taken from.
    pub fn queue(&self) -> &QueueName {
        &self.0.queue
    }

    /// How often the task has asked to be run again before this run: 0, 1, 2, …
    pub fn retries(&self) -> u32 {
        self.0.invocation.headers.retries
    }

    /// How often it may; `None` is without bound.
    pub fn max_retries(&self) -> Option<u32> {
        self.0.spec.max_retries
    }

    /// Which taking of its message this run is, growing by one with each. A run of a lower number is a zombie's: hand it to
    /// stores of your own as a fencing token, and have them refuse lower ones than they have seen for this task id.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The device that this run is to use, such as `0` or `GPU-8932f937`, where its node gives each slot one. The process that Rust
    /// tasks run in sees them all.
    pub fn device(&self) -> Option<&str> {
        self.0.device.as_ref().map(|device| &*device.name)
    }

    /// The message, headers of the caller's own included (`headers.other`).
    pub fn invocation(&self) -> &Invocation {
        &self.0.invocation
    }

    /// The limits that hold for this run.
    pub fn limits(&self) -> TimeLimit {
        self.0.limits
    }

    /// When the hard time limit ends the run; `None` where there is none.
    pub fn deadline(&self) -> Option<Millis> {
        self.0.deadline
    }

    /// How much of the hard time limit is left; `None` where there is none.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.0.deadline?.saturating_sub(crate::clock::now());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// Whether the run has been asked to end: its soft time limit has passed, or it is being terminated. Ask in the loops of
    /// a CPU-bound task.
    pub fn is_cancelled(&self) -> bool {
        *self.0.orders.borrow() >= Order::Hurry
    }

    /// Waits until [`Context::is_cancelled`].
    pub async fn cancelled(&self) {
        self.reached(Order::Hurry).await;
    }

    /// Whether the node wants to stop. A task that can leave the rest of its work for later may give its message back by
    /// [`Context::reject`]; one that does not is waited for.
    pub fn is_stopping(&self) -> bool {
        *self.0.orders.borrow() >= Order::Drain
    }

    /// Waits until [`Context::is_stopping`].
    pub async fn stopping(&self) {
        self.reached(Order::Drain).await;
    }

    /// Fails with `SoftTimeLimitExceeded` once the run has been asked to end, so that `ctx.check()?` is where Celery raises
    /// that exception.
    ///
    /// # Errors
    /// Once [`Context::is_cancelled`].
    pub fn check(&self) -> Result<(), TaskFailure> {
        if self.is_cancelled() { Err(TaskFailure::Error(soft_time_limit())) } else { Ok(()) }
    }

    async fn reached(&self, order: Order) {
        let mut orders = self.0.orders.clone();
        if orders.wait_for(|now| *now >= order).await.is_err() {
            // Nobody can give orders any more: they never come.
            std::future::pending::<()>().await;
        }
    }

    /// Reports progress: `meta` is what `AsyncResult.info` shows under the state PROGRESS.
    ///
    /// Never waits and never fails: news that finds no room, or cannot be serialized, is dropped (the latter with a warning).
    pub fn progress<T: Serialize + ?Sized>(&self, meta: &T) {
        self.update_state(PROGRESS, meta);
    }

    /// Reports that `current` of `total` are done, as `{"current", "total", "percent"}`.
    pub fn percent(&self, current: u64, total: u64) {
        let percent = if total == 0 { 100.0 } else { (current as f64 / total as f64 * 1000.0).round() / 10.0 };
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let meta = Map::from_iter([
            ("current".to_owned(), Value::Int(count(current))),
            ("total".to_owned(), Value::Int(count(total))),
            ("percent".to_owned(), Value::Float(percent)),
        ]);
        let _ = self.0.progress.try_send(Progress { state: PROGRESS.to_owned(), meta: Value::Map(meta) });
    }

    /// Puts the task into a state of its own (Celery's `update_state`). As [`Context::progress`].
    pub fn update_state<T: Serialize + ?Sized>(&self, state: &str, meta: &T) {
        match Value::from_serialize(meta) {
            Ok(meta) => {
                // Full: the store is slower than the task, which will have newer news.
                let _ = self.0.progress.try_send(Progress { state: state.to_owned(), meta });
            }
            Err(error) => tracing::warn!(task_id = %self.task_id(), %state, %error, "progress cannot be serialized"),
        }
    }

    /// Asks to be run again: `return Err(ctx.retry().because(error).into())`.
    pub fn retry(&self) -> RetryRequest {
        RetryRequest::default()
    }

    /// Asks to be run again after `delay`.
    pub fn retry_in(&self, delay: Duration) -> RetryRequest {
        RetryRequest::default().after(delay)
    }

    /// Ends the run without a result (Celery's `Ignore`): clients of the task wait for ever.
    pub fn ignore(&self) -> TaskFailure {
        TaskFailure::Ignore
    }

    /// Refuses the message (Celery's `Reject`): back to its queue, or to the dead letters.
    pub fn reject(&self, requeue: bool, reason: impl Into<String>) -> TaskFailure {
        TaskFailure::Reject { requeue, reason: reason.into() }
    }

    /// Ends the run by putting `signature` in the task's place: its result becomes this task's, and what was to follow this
    /// task follows it (Celery's `replace`).
    pub fn replace(&self, signature: Signature) -> TaskFailure {
        TaskFailure::Replace(Box::new(signature))
    }

    /// Runs a future to its end from a CPU-bound task, which is on no runtime thread.
    ///
    /// # Panics
    /// In an async task: `.await` there.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.runtime.block_on(future)
    }

    pub(crate) fn take_children(&self) -> Vec<ResultTuple> {
        std::mem::take(&mut *self.0.children.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("task", self.task_name())
            .field("id", self.task_id())
            .field("retries", &self.retries())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
