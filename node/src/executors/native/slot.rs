//! A slot for native tasks: one run at a time.
//!
//! **What it owns.** The run it is in, and a thread once it has needed one. **Who sends to it.** The pool, a job at a time.
//! **What it sends on.** The outcome. **What bounds it.** The orders of the job: after `Terminate` it answers within [`GRACE`].
//! **When it dies.** It does not: panics are outcomes, and a slot dropped within a run aborts or abandons it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use umbel_proto::{Outcome, TaskError};
use umbel_scheduler::devices::Device;

use super::{
    NativeExecutor, TaskFailure,
    builtins::Inline,
    failure::soft_time_limit,
    panics::{self, Caught},
    task::{Call, Returned, Run},
    thread::Thread,
};
use crate::{
    context::Context,
    executors::{Job, Order, Slot, SlotDied},
};

/// How long a future that was aborted may take to go; one that blocks its thread is left to itself.
const GRACE: Duration = Duration::from_millis(100);

/// Room for one native task.
#[derive(Debug)]
pub(super) struct NativeSlot {
    executor: NativeExecutor,
    device: Option<Device>,
    thread: Option<Thread>,
}

/// How a run came to its end.
enum End {
    Returned(Returned),
    Panicked(TaskError),
    SoftLimit,
    Terminated,
}

impl NativeSlot {
    pub(super) fn new(executor: NativeExecutor, device: Option<Device>) -> Self {
        Self { executor, device, thread: None }
    }

    async fn execute(&mut self, job: &Job, context: &Context) -> Result<End, SlotDied> {
        let name = &job.invocation.headers.task;
        let Some(task) = self.executor.task(name) else {
            let error = TaskError::new("celery.exceptions", "NotRegistered", name.as_str());
            return Ok(End::Returned(Err(TaskFailure::Error(error))));
        };
        let (args, kwargs) = match job.invocation.arguments() {
            Ok(arguments) => arguments,
            Err(error) => {
                let error = TaskError::new("builtins", "TypeError", format!("{name}() cannot be called: {error}"));
                return Ok(End::Returned(Err(TaskFailure::BadArguments(error))));
            }
        };
        let ended_by_hurry = !task.hears();
        let call = Call { args, kwargs, context: context.clone() };
        let mut inline = match self.executor.inline(name, call) {
            Inline::Run(call) => return self.one(task.as_ref(), call, job.orders.clone(), ended_by_hurry).await,
            Inline::Items(items) => items,
            Inline::Fails(error) => return Ok(End::Returned(Err(error))),
        };
        // map and starmap: the task is run here, item by item, as one run.
        let mut values = Vec::new();
        while let Some((task, call)) = inline.next(context) {
            match self.one(task.as_ref(), call, job.orders.clone(), !task.hears()).await? {
                End::Returned(Ok(value)) => values.push(value),
                End::Returned(Err(failure)) => return Ok(End::Returned(Err(super::builtins::called_directly(failure)))),
                other => return Ok(other),
            }
        }
        Ok(End::Returned(Ok(umbel_proto::Value::List(values))))
    }

    async fn one(&mut self, task: &dyn super::Task, call: Call, orders: watch::Receiver<Order>, hurry_ends: bool) -> Result<End, SlotDied> {
        match panics::catch(|| task.start(call)) {
            Ok(Run::Future(future)) => self.future(future, orders, hurry_ends).await,
            Ok(Run::Blocking(function)) => self.blocking(function, orders).await,
            Err(error) => Ok(End::Panicked(error)),
        }
    }

    async fn future(
        &self,
        future: futures::future::BoxFuture<'static, Returned>,
        mut orders: watch::Receiver<Order>,
        hurry_ends: bool,
    ) -> Result<End, SlotDied> {
        // On a task of its own: a future that blocks its thread must not keep the slot from answering.
        let mut run = AbortOnDropHandle::new(crate::task::spawn(Caught(future).in_current_span()));
        let last = if hurry_ends { Order::Hurry } else { Order::Terminate };
        let mut final_orders = orders.clone();
        let order = tokio::select! {
            biased;
            // First: a future that ends because it was told to has not done its work, whatever it returns.
            order = reached(&mut final_orders, Order::Terminate) => order,
            ended = &mut run => return match ended {
                Ok(Ok(returned)) => Ok(End::Returned(returned)),
                Ok(Err(error)) => Ok(End::Panicked(error)),
                // Nobody has aborted it: only a runtime that ends does that, and then the task has not ended.
                Err(error) => Err(SlotDied { detail: format!("the runtime is ending: {error}") }),
            },
            order = reached(&mut orders, last) => order,
        };
        run.abort();
        if tokio::time::timeout(GRACE, &mut run).await.is_err() {
            let abandoned = self.executor.abandoned().clone();
            abandoned.add();
            crate::task::spawn(async move {
                let _ = run.await;
                abandoned.remove();
            });
        }
        Ok(if order >= Order::Terminate { End::Terminated } else { End::SoftLimit })
    }

    async fn blocking(
        &mut self,
        function: Box<dyn FnOnce() -> Returned + Send>,
        mut orders: watch::Receiver<Order>,
    ) -> Result<End, SlotDied> {
        let abandoned = self.executor.abandoned().clone();
        let reused = self.thread.take();
        let span = tracing::Span::current();
        let function = Box::new(move || span.in_scope(function));
        let run = async move {
            abandoned.room().await;
            let thread = match reused {
                Some(thread) => thread,
                None => Thread::start(abandoned).map_err(|error| SlotDied { detail: format!("cannot start a thread: {error}") })?,
            };
            thread.run(function).await.ok_or_else(|| SlotDied { detail: "a thread for blocking tasks has ended".to_owned() })
        };
        tokio::select! {
            biased;
            // First: a function that ends because it was told to has not done its work, whatever it returns.
            _ = reached(&mut orders, Order::Terminate) => Ok(End::Terminated),
            ended = run => {
                let (ended, thread) = ended?;
                self.thread = Some(thread);
                Ok(match ended {
                    Ok(returned) => End::Returned(returned),
                    Err(error) => End::Panicked(error),
                })
            }
        }
    }
}

/// Waits until an order is at least `order`, and says which it is.
async fn reached(orders: &mut watch::Receiver<Order>, order: Order) -> Order {
    let now = orders.wait_for(|now| *now >= order).await.ok().map(|now| *now);
    match now {
        Some(now) => now,
        // Whoever gave orders is gone and gives none any more.
        None => std::future::pending().await,
    }
}

#[async_trait]
impl Slot for NativeSlot {
    async fn run(&mut self, job: Job) -> Result<Outcome, SlotDied> {
        let headers = &job.invocation.headers;
        let span = tracing::info_span!("task", task_id = %headers.id, task_name = %headers.task);
        let context = Context::new(&job, self.executor.client(), self.device.clone());
        let end = self.execute(&job, &context).instrument(span).await?;
        Ok(outcome(end, &job, &context))
    }
}

fn outcome(end: End, job: &Job, context: &Context) -> Outcome {
    match end {
        End::Returned(Ok(value)) => Outcome::Success { value, children: context.take_children() },
        End::Returned(Err(TaskFailure::Error(error))) | End::Panicked(error) => failed(error, job),
        End::Returned(Err(TaskFailure::BadArguments(error))) => Outcome::Failure(error),
        End::Returned(Err(TaskFailure::Retry(retry))) => Outcome::Retry(*retry),
        End::Returned(Err(TaskFailure::Ignore)) => Outcome::Ignore,
        End::Returned(Err(TaskFailure::Reject { requeue, reason })) => Outcome::Reject { requeue, reason },
        End::Returned(Err(TaskFailure::Replace(signature))) => Outcome::Replace(signature),
        End::SoftLimit => failed(soft_time_limit(), job),
        End::Terminated => Outcome::Revoked { terminated: true, signal: None },
    }
}

/// A failure; with `retry_on_failure`, the wish to be run again (`celery/app/autoretry.py`).
fn failed(error: TaskError, job: &Job) -> Outcome {
    if job.spec.retry_on_failure {
        Outcome::Retry(umbel_proto::Retry { error: Some(error), automatic: true, ..umbel_proto::Retry::default() })
    } else {
        Outcome::Failure(error)
    }
}

pub(super) type SharedTask = Arc<dyn super::Task>;
