//! The native executor: Rust functions.
//!
//! **What it owns.** The registry of tasks, and the count of runs that were ended but do not end. **Who sends to it.** The pool,
//! which opens slots and gives them jobs. **What it sends on.** Outcomes. **What bounds it.** One run a slot; runs left behind
//! by force are at most [`Builder::max_abandoned`], beyond which no blocking task is started until one of them ends.
//! **When it dies.** It has nothing that dies: a panic inside a task is the task's failure.
//!
//! `async fn`s are polled on the runtime, each on a tokio task of its own; plain `fn`s run on threads of their own. What the
//! orders of a job do to a run:
//!
//! | order | `async fn` with `Context` | `async fn` without | `fn` |
//! |---|---|---|---|
//! | `Drain` | told | goes on | told, if it has a `Context` |
//! | `Hurry` | told | dropped: FAILURE `SoftTimeLimitExceeded` | told, if it has a `Context` |
//! | `Terminate` | dropped | dropped | its thread is left to itself |
//!
//! Every worker owns Celery's built-in tasks (`celery.accumulate`, `celery.map`, …); this executor brings them.

mod arguments;
mod builtins;
pub mod demo;
mod failure;
mod panics;
#[doc(hidden)]
pub mod returned;
mod slot;
mod task;
mod thread;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use umbel_proto::TaskName;
use umbel_scheduler::TaskSpec;

pub use arguments::{Arguments, Parameter};
pub use failure::{TaskFailure, TaskResult};
pub use returned::Probe;
#[doc(hidden)]
pub use serde::Serialize;
pub use task::{Call, IntoTask, Returned, Run, Task};
#[doc(hidden)]
pub use task::{default_name, rate};

pub(crate) use failure::soft_time_limit;

use crate::{
    client::Client,
    executors::{Executor, Opening, Slot, SlotDied},
};
use slot::{NativeSlot, SharedTask};
use thread::Abandoned;

/// Runs tasks written in Rust. Cloning it costs a counter; clones are the same executor.
#[derive(Clone)]
pub struct NativeExecutor(Arc<Inner>);

struct Inner {
    tasks: BTreeMap<TaskName, Registered>,
    abandoned: Abandoned,
    client: OnceLock<Client>,
}

struct Registered {
    spec: Arc<TaskSpec>,
    task: SharedTask,
}

/// Collects the tasks of a [`NativeExecutor`].
pub struct Builder {
    tasks: BTreeMap<TaskName, Registered>,
    max_abandoned: usize,
}

impl Builder {
    /// With a task. One registered later under the same name takes the place of the earlier.
    #[must_use]
    pub fn task<Kind>(mut self, task: impl IntoTask<Kind>) -> Self {
        let task = task.into_task();
        self.register(task.spec(), Arc::new(task));
        self
    }

    /// With a task under other options, or another name, than its own.
    #[must_use]
    pub fn task_as<Kind>(mut self, spec: TaskSpec, task: impl IntoTask<Kind>) -> Self {
        self.register(spec, Arc::new(task.into_task()));
        self
    }

    /// How many runs may be left behind by force (default 64): threads whose terminated tasks compute on.
    #[must_use]
    pub fn max_abandoned(mut self, max: usize) -> Self {
        self.max_abandoned = max.max(1);
        self
    }

    /// The executor.
    pub fn build(self) -> NativeExecutor {
        panics::install_hook();
        let Self { tasks, max_abandoned } = self;
        NativeExecutor(Arc::new(Inner { tasks, abandoned: Abandoned::new(max_abandoned), client: OnceLock::new() }))
    }

    fn register(&mut self, spec: TaskSpec, task: SharedTask) {
        let spec = Arc::new(spec);
        self.tasks.insert(spec.name.clone(), Registered { spec, task });
    }
}

impl Default for Builder {
    fn default() -> Self {
        builtins::register(Self { tasks: BTreeMap::new(), max_abandoned: 64 })
    }
}

impl NativeExecutor {
    /// An executor with Celery's built-in tasks, to which others are added.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs that were ended by force and have not ended.
    pub fn abandoned_runs(&self) -> usize {
        self.0.abandoned.count()
    }

    fn task(&self, name: &TaskName) -> Option<SharedTask> {
        self.0.tasks.get(name).map(|registered| Arc::clone(&registered.task))
    }

    fn abandoned(&self) -> &Abandoned {
        &self.0.abandoned
    }

    fn client(&self) -> Option<Client> {
        self.0.client.get().cloned()
    }
}

#[async_trait]
impl Executor for NativeExecutor {
    fn kind(&self) -> &'static str {
        "native"
    }

    fn tasks(&self) -> Vec<Arc<TaskSpec>> {
        self.0.tasks.values().map(|registered| Arc::clone(&registered.spec)).collect()
    }

    fn spec(&self, task: &TaskName) -> Option<Arc<TaskSpec>> {
        self.0.tasks.get(task).map(|registered| Arc::clone(&registered.spec))
    }

    fn attach(&self, client: Client) {
        // The first node keeps it: an executor serves one.
        let _ = self.0.client.set(client);
    }

    async fn open(&self, opening: Opening) -> Result<Box<dyn Slot>, SlotDied> {
        Ok(Box::new(NativeSlot::new(self.clone(), opening.device)))
    }
}

impl fmt::Debug for NativeExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeExecutor").field("tasks", &self.0.tasks.keys()).field("abandoned", &self.abandoned_runs()).finish()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("tasks", &self.tasks.keys()).finish_non_exhaustive()
    }
}
