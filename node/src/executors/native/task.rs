//! What a native task is.

use std::{fmt, future::Future};

use futures::future::BoxFuture;
use umbel_proto::{Map, TaskName, Value};
use umbel_scheduler::{TaskSpec, rate_limit::Rate};

use super::TaskFailure;
use crate::context::Context;

/// A task written in Rust. `#[umbel::task]` writes this; write it by hand for tasks whose names or arguments are only known
/// when the program runs.
pub trait Task: Send + Sync + 'static {
    /// Its name and options. Asked for once, when it is registered.
    fn spec(&self) -> TaskSpec;

    /// Whether it looks at its [`Context`] and so can be told of its soft time limit. One that does not is ended there.
    fn hears(&self) -> bool {
        true
    }

    /// Begins a run. May panic; the panic is the task's failure.
    fn start(&self, call: Call) -> Run;
}

/// What can be registered: a [`Task`], or the name of one that `#[umbel::task]` has made (as a value that name is a function
/// which returns the task). `Kind` tells the two apart and is never written.
pub trait IntoTask<Kind> {
    /// The task.
    fn into_task(self) -> impl Task;
}

/// See [`IntoTask`].
#[derive(Debug)]
pub struct ByValue;
/// See [`IntoTask`].
#[derive(Debug)]
pub struct ByName;

impl<T: Task> IntoTask<ByValue> for T {
    fn into_task(self) -> impl Task {
        self
    }
}

impl<F: FnOnce() -> T, T: Task> IntoTask<ByName> for F {
    fn into_task(self) -> impl Task {
        self()
    }
}

/// What a run is given.
#[derive(Debug)]
pub struct Call {
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// What the task may know of its run, and do in it.
    pub context: Context,
}

/// What a run comes to.
pub type Returned = Result<Value, TaskFailure>;

/// A run that has begun.
pub enum Run {
    /// To be polled on the runtime.
    Future(BoxFuture<'static, Returned>),
    /// To be called on a thread where it may take its time.
    Blocking(Box<dyn FnOnce() -> Returned + Send>),
}

impl Run {
    /// A run that waits without blocking.
    pub fn future(future: impl Future<Output = Returned> + Send + 'static) -> Self {
        Self::Future(Box::pin(future))
    }

    /// A run that computes or blocks.
    pub fn blocking(function: impl FnOnce() -> Returned + Send + 'static) -> Self {
        Self::Blocking(Box::new(function))
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Future(_) => "Run::Future",
            Self::Blocking(_) => "Run::Blocking",
        })
    }
}

/// The name of a task that is given none: its module's path and its own name, joined by dots as Celery does.
#[doc(hidden)]
pub fn default_name(module: &str, function: &str) -> TaskName {
    TaskName::from(format!("{}.{function}", module.replace("::", ".")))
}

/// The rate of the attribute's `rate_limit`.
#[doc(hidden)]
pub fn rate(text: &str) -> Option<Rate> {
    Rate::parse(text).expect("the attribute has checked the same grammar")
}
