//! Which executor runs which task.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::watch;
use umbel_proto::{Invocation, TaskName};
use umbel_scheduler::{
    TaskSpec,
    canvas::Specs,
    tuning::{Tuning, Tunings},
};

use crate::executors::{Executor, Hearer, Interest};

/// The executors of a node and the tasks they had at the start. Where two know a task, the first has it.
#[derive(Debug)]
pub(crate) struct Registry {
    executors: Vec<Arc<dyn Executor>>,
    tasks: HashMap<TaskName, Known>,
    /// What was changed of them since.
    tunings: watch::Sender<Arc<Tunings>>,
}

/// A task and the pool that takes it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The index of its executor, which is that of its pool.
    pub(crate) pool: usize,
    /// Its options.
    pub(crate) spec: Arc<TaskSpec>,
}

impl Registry {
    pub(crate) fn new(executors: Vec<Arc<dyn Executor>>) -> Self {
        let mut tasks = HashMap::new();
        for (pool, executor) in executors.iter().enumerate() {
            for spec in executor.tasks() {
                tasks.entry(spec.name.clone()).or_insert(Known { pool, spec });
            }
        }
        Self { executors, tasks, tunings: watch::Sender::new(Arc::default()) }
    }

    /// Who runs `task`, and its options as they are now; asks the executors again for tasks they did not list.
    pub(crate) fn find(&self, task: &TaskName) -> Option<Known> {
        let ask = || self.executors.iter().enumerate().find_map(|(pool, executor)| Some(Known { pool, spec: executor.spec(task)? }));
        let Known { pool, spec } = self.tasks.get(task).cloned().or_else(ask)?;
        Some(Known { pool, spec: self.tunings.borrow().tuned(spec) })
    }

    /// The executor that may want to know how `invocation` ends where no run tells, and what. Of what nobody knows, the first that stores it.
    pub(crate) fn interested(&self, invocation: &Invocation) -> Option<(Interest, &Arc<dyn Executor>)> {
        let of = |executor: &Arc<dyn Executor>| executor.hearer().map_or(Interest::None, |hearer| hearer.interest(invocation));
        let mut all = self.executors.iter().map(|executor| (of(executor), executor));
        match self.find(&invocation.headers.task) {
            Some(known) => all.nth(known.pool),
            None => all.find(|(interest, _)| *interest == Interest::All),
        }
    }

    /// Whether an executor stores the ends of all tasks.
    pub(crate) fn ends_everything(&self) -> bool {
        self.executors.iter().filter_map(|executor| executor.hearer()).any(Hearer::ends_everything)
    }

    /// Every task that was known at the start, by name, with its options as they are now.
    pub(crate) fn all(&self) -> Vec<Arc<TaskSpec>> {
        let tunings = self.tunings.borrow().clone();
        let mut all: Vec<_> = self.tasks.values().map(|known| tunings.tuned(known.spec.clone())).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What was changed of tasks, now and from now on.
    pub(crate) fn tunings(&self) -> watch::Receiver<Arc<Tunings>> {
        self.tunings.subscribe()
    }

    /// Changes a task on this node.
    pub(crate) fn tune(&self, task: &TaskName, tuning: Tuning) {
        self.tunings.send_modify(|tunings| {
            let before = tunings.get(task).cloned().unwrap_or_default();
            Arc::make_mut(tunings).set(task.clone(), tuning.over(before));
        });
    }

    /// Takes over what was changed for everybody; `known` is what was known of that before. A change of this node's own holds
    /// until the next one for everybody.
    pub(crate) fn learn(&self, known: &Tunings, now: &Tunings) {
        for (task, tuning) in now.iter().filter(|(task, tuning)| known.get(task) != Some(tuning)) {
            self.tune(task, tuning.clone());
        }
    }

    pub(crate) fn executors(&self) -> &[Arc<dyn Executor>] {
        &self.executors
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &TaskName> {
        self.tasks.keys()
    }
}

impl Specs for Registry {
    fn spec(&self, task: &TaskName) -> Option<&TaskSpec> {
        self.tasks.get(task).map(|known| &*known.spec)
    }
}
