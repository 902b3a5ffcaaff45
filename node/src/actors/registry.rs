//! Which executor runs which task.

use std::{collections::HashMap, sync::Arc};

use umbel_proto::TaskName;
use umbel_scheduler::{TaskSpec, canvas::Specs};

use crate::executors::Executor;

/// The executors of a node and the tasks they had at the start. Where two know a task, the first has it.
#[derive(Debug)]
pub(crate) struct Registry {
    executors: Vec<Arc<dyn Executor>>,
    tasks: HashMap<TaskName, Known>,
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
        Self { executors, tasks }
    }

    /// Who runs `task`; asks the executors again for tasks they did not list.
    pub(crate) fn find(&self, task: &TaskName) -> Option<Known> {
        self.tasks
            .get(task)
            .cloned()
            .or_else(|| self.executors.iter().enumerate().find_map(|(pool, executor)| Some(Known { pool, spec: executor.spec(task)? })))
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
