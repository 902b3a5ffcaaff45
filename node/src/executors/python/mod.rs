//! The Python executor: the tasks of an existing Celery application, in processes of the user's own interpreter.
//!
//! **What it owns.** The [`nursery`]: a template process that has the application loaded, and the processes forked from
//! it. **Who sends to it.** The pool, which opens slots and gives them jobs. **What it sends on.** Outcomes, progress, log lines.
//! **What bounds it.** One run a slot; frames of a bounded size. **When a process dies** under a task, that is the task's
//! outcome; the template's death costs all of them and is made good by another template.
//!
//! # What happens where
//!
//! The bootstrap (`bootstrap/*.py`) is handed to the interpreter over a socket: nothing is installed, nothing written to disk.
//! Its template loads the application as `celery -A` does, sends a worker's signals, and reports tasks, settings and schedule.
//! A process runs one task at a time through a tracer that does what user code can see (`celery/app/trace.py`: request,
//! signals, handlers, retries), and tells how it ended. Storing results, sending successors, counting chords and
//! acknowledging are the node's. What user code sends by itself goes through the application's own producer.
//!
//! Handlers and listeners of the application that are called at a task's end find its result: it is stored before ([`early`]). Errbacks
//! that are called in the process of the failed task are not where the run has lost its message meanwhile. That is a question to the node
//! and its answer, which only tasks with such handlers, listeners or errbacks ask.
//!
//! Where the node has devices, a process is told of its slot's (`CUDA_VISIBLE_DEVICES`) right after the fork, before anything of the
//! application runs in it. The template has loaded the application by then and saw what the node sees.
//!
//! Where only Python can write what is to be written (a pickled body, a result backend the node does not know), the process
//! uses Celery's own tracer to the end, and leaves the node the acknowledgement: [`umbel_proto::Outcome::Delegated`]. Of such a task that
//! ends without its process (a hard limit, a revocation) another process writes the end, before the message is let go ([`deciding`]).

mod batch;
mod child;
mod deciding;
mod early;
mod frame;
pub mod interpreter;
mod lines;
mod nursery;
mod outcome;
mod report;
mod request;
mod runs;
mod shared;
mod slot;
mod tables;
mod template;

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;
use umbel_proto::{TaskName, TimeLimit};
use umbel_scheduler::TaskSpec;

pub use interpreter::Interpreter;
pub use report::{AppEntry, AppReport, AppRoute, AppRow, AppSchedule, AppTask};
pub use tables::{LookError, Looked, PythonTables, Ran};
pub use template::StartError;

use crate::{
    actors::link::Link,
    executors::{Executor, Hearer, Opening, Slot, SlotDied},
};
use deciding::Teller;
use nursery::{Nursery, Pool};
use shared::Shared;
use slot::PythonSlot;

/// Celery's pools whose tasks run on threads here.
pub const THREADS: [&str; 3] = ["threads", "gevent", "eventlet"];

/// How to run an application.
#[derive(Debug, Clone)]
pub struct PythonOptions {
    /// As `celery -A` takes it.
    pub app: String,
    /// The interpreter.
    pub interpreter: Interpreter,
    /// The node's name.
    pub hostname: String,
    /// How many tasks run at a time.
    pub concurrency: usize,
    /// Celery's settings that the configuration overrides, by their names.
    pub settings: Vec<(String, serde_json::Value)>,
    /// Variables set for Python, besides this process's own.
    pub env: Vec<(OsString, OsString)>,
    /// Where to run; this process's directory by default.
    pub directory: Option<PathBuf>,
    /// The schemes of result backends that are the node's to store in; others are the application's own affair.
    pub schemes: Vec<String>,
    /// What Python's loggers are to say: 10 is `DEBUG`, 20 is `INFO`.
    pub loglevel: u8,
    /// Whether states of a task's own go through the node, because the application cannot reach where results are.
    pub keeps_states: bool,
    /// Whether tasks run on threads of one process, `concurrency` of them, rather than in processes of their own. By default that is the
    /// application's word (`worker_pool`).
    pub threads: Option<bool>,
    /// How many tasks a process runs before it is replaced, where the application does not say.
    pub max_tasks_per_child: Option<u64>,
    /// How large it may grow, in KiB, likewise.
    pub max_memory_per_child: Option<u64>,
    /// The limits of tasks that have none, neither of their own nor as a setting (`--time-limit`, `--soft-time-limit`).
    pub time_limit: TimeLimit,
}

impl PythonOptions {
    /// Everything at its default.
    pub fn new(app: impl Into<String>, interpreter: Interpreter) -> Self {
        Self {
            app: app.into(),
            interpreter,
            hostname: "celery@localhost".to_owned(),
            concurrency: 1,
            settings: Vec::new(),
            env: Vec::new(),
            directory: None,
            schemes: ["redis", "rediss", "redis+socket", "unix", "sentinel", "umbel"].map(str::to_owned).to_vec(),
            loglevel: 20,
            keeps_states: false,
            threads: None,
            max_tasks_per_child: None,
            max_memory_per_child: None,
            time_limit: TimeLimit::default(),
        }
    }
}

/// Runs the tasks of a Celery application. Cloning it costs a counter; clones are the same executor.
#[derive(Debug, Clone)]
pub struct PythonExecutor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tasks: BTreeMap<TaskName, Arc<TaskSpec>>,
    /// Those that are `async def`.
    coroutines: BTreeMap<TaskName, Arc<TaskSpec>>,
    nursery: Nursery,
    /// The process with the threads, where tasks run on threads.
    threads: Option<Shared>,
    /// The process with the event loop.
    event_loop: Shared,
    /// Told of endings that are not told from here.
    teller: Teller,
}

/// Runs those tasks of an application that are `async def`, many at a time on one event loop.
#[derive(Debug, Clone)]
pub struct CoroutineExecutor(Arc<Inner>);

impl PythonExecutor {
    /// Loads the application, and says what it has told of itself.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn start(options: PythonOptions) -> Result<(Self, AppReport), StartError> {
        let start = template::Start {
            options: template::Options {
                app: options.app,
                hostname: options.hostname,
                concurrency: options.concurrency,

                pool: options.threads.map(|threads| if threads { "threads" } else { "prefork" }),
                loglevel: options.loglevel,
                settings: options.settings,
                schemes: options.schemes,
                keeps_states: options.keeps_states,
                max_tasks_per_child: options.max_tasks_per_child,
                max_memory_per_child: options.max_memory_per_child,
            },
            interpreter: options.interpreter,
            env: options.env,
            directory: options.directory,
        };
        let TimeLimit { hard_secs, soft_secs } = options.time_limit;
        let (nursery, report) = Nursery::start(start).await?;
        let threads = options.threads.unwrap_or_else(|| THREADS.contains(&&*report.pool)).then_some(options.concurrency);
        let mut tasks = BTreeMap::new();
        let mut coroutines = BTreeMap::new();
        for (task, mut spec) in report.specs() {
            let TimeLimit { hard_secs: hard, soft_secs: soft } = spec.time_limit;
            Arc::make_mut(&mut spec).time_limit = TimeLimit { hard_secs: hard.or(hard_secs), soft_secs: soft.or(soft_secs) };
            if task.coroutine { &mut coroutines } else { &mut tasks }.insert(spec.name.clone(), spec);
        }
        let threads = threads.map(|size| Shared::new(nursery.clone(), Pool::Threads(size)));
        let event_loop = Shared::new(nursery.clone(), Pool::Coroutines);
        let teller = Teller::new(nursery.clone(), &report);
        Ok((Self(Arc::new(Inner { tasks, coroutines, nursery, threads, event_loop, teller })), report))
    }

    /// The executor of those tasks that are `async def`; `None` when there are none.
    pub fn coroutines(&self) -> Option<CoroutineExecutor> {
        (!self.0.coroutines.is_empty()).then(|| CoroutineExecutor(self.0.clone()))
    }

    /// The tables of django-celery-beat, where the application has them. Must be called within a runtime.
    pub fn tables(&self) -> PythonTables {
        PythonTables::new(self.0.nursery.clone())
    }

    /// Says that the node takes work now, to those who listen in Python (`worker_ready`), and from then on that it lives and that
    /// `broker` answers (`heartbeat_sent`).
    pub fn serves(&self, broker: watch::Receiver<Link>) {
        self.0.nursery.serves(broker);
    }

    /// Ends all processes, once what runs in them has ended or was dropped, and returns when they are gone.
    pub async fn end(&self) {
        self.0.nursery.end().await;
    }
}

#[async_trait]
impl Executor for PythonExecutor {
    fn kind(&self) -> &'static str {
        "python"
    }

    fn tasks(&self) -> Vec<Arc<TaskSpec>> {
        self.0.tasks.values().cloned().collect()
    }

    fn spec(&self, task: &TaskName) -> Option<Arc<TaskSpec>> {
        self.0.tasks.get(task).cloned()
    }

    fn has_devices(&self) -> bool {
        self.0.threads.is_none()
    }

    fn hearer(&self) -> Option<&dyn Hearer> {
        Some(&self.0.teller)
    }

    async fn open(&self, opening: Opening) -> Result<Box<dyn Slot>, SlotDied> {
        match &self.0.threads {
            Some(threads) => Ok(threads.slot()),
            None => Ok(Box::new(PythonSlot::open(self.0.nursery.clone(), opening).await?)),
        }
    }
}

#[async_trait]
impl Executor for CoroutineExecutor {
    fn kind(&self) -> &'static str {
        "python-async"
    }

    fn tasks(&self) -> Vec<Arc<TaskSpec>> {
        self.0.coroutines.values().cloned().collect()
    }

    fn spec(&self, task: &TaskName) -> Option<Arc<TaskSpec>> {
        self.0.coroutines.get(task).cloned()
    }

    fn has_devices(&self) -> bool {
        false
    }

    fn hearer(&self) -> Option<&dyn Hearer> {
        Some(&self.0.teller)
    }

    async fn open(&self, _: Opening) -> Result<Box<dyn Slot>, SlotDied> {
        Ok(self.0.event_loop.slot())
    }
}
