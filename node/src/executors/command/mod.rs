//! The command executor: any program is a task.
//!
//! ```toml
//! [tasks."video.thumbnail"]
//! command = ["ffmpeg", "-i", "{input}", "-frames:v", "1", "{output}"]
//! time_limit = "2m"
//! ```
//!
//! **What it owns.** The commands that are configured. **Who sends to it.** The pool, which opens slots and gives them jobs.
//! **What it sends on.** Outcomes, and progress. **What bounds it.** One run a slot; stdout, stderr and progress have bounds of
//! their own (`slot.rs`). **When it dies.** It has nothing that dies: each run has a process of its own, the [`keeper`], which
//! ends the command and everything that came from it when the run is over or the node is gone.
//!
//! # What a command gets
//!
//! * its words, with `{0}`, `{name}` and `{task_id}` filled in, each staying one word: no shell sees them. A value that begins
//!   with a dash looks like an option to most programs; write `"--"` before it where they may come from strangers;
//! * on stdin, `{"args": [...], "kwargs": {...}, "task": {"id", "name", "root_id", "attempt", "retries", "queue", "deadline"}}`;
//! * of the node's environment `PATH`, `HOME`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR` and what `env` names; what `set_env` sets;
//!   and `UMBEL_TASK_ID`, `UMBEL_TASK_NAME`, `UMBEL_ROOT_ID`, `UMBEL_QUEUE`, `UMBEL_ATTEMPT`, `UMBEL_RETRIES`, `UMBEL_DEADLINE`;
//! * where its node has devices, the one of its slot: in `CUDA_VISIBLE_DEVICES` (or that of HIP or ROCm) and in `UMBEL_DEVICE`;
//! * descriptor 3 (its number is in `UMBEL_PROGRESS_FD`): a line `{"state": "PROGRESS", "meta": ...}` there is the task's state;
//! * SIGTERM to its whole process group at the soft limit and when it is revoked, SIGKILL `kill_grace` later or at the hard
//!   limit. It cannot gain privileges.
//!
//! # What becomes of it
//!
//! | it ends with | the task's outcome |
//! |---|---|
//! | exit code 0 | SUCCESS: stdout as JSON or text; nothing is null |
//! | an exit code of `retry_codes` (75, `EX_TEMPFAIL`) | RETRY with the task's back-off; the failure below when no attempts are left |
//! | any other exit code, or a signal of somebody else's | FAILURE `subprocess.CalledProcessError` with stderr's end |
//! | SIGTERM at the soft limit | FAILURE `SoftTimeLimitExceeded` |
//! | the hard limit | FAILURE `TimeLimitExceeded` |
//! | a revoke | REVOKED |
//! | more stdout than `output_max` | killed; FAILURE `OverflowError` |
//!
//! What it leaves running when it ends is killed.

mod call;
mod ending;
mod find;
pub mod keeper;
mod output;
mod slot;
mod task;
pub(crate) mod template;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ffi::OsString, sync::Arc};

use async_trait::async_trait;
use umbel_proto::TaskName;
use umbel_scheduler::TaskSpec;

pub use task::Defaults;

use crate::{
    config::{Config, ConfigErrors, TaskConfig},
    executors::{Executor, Opening, Slot, SlotDied},
};
use find::find;
use keeper::Launcher;
use slot::CommandSlot;
use task::CommandTask;

/// Runs programs. Cloning it costs a counter; clones are the same executor.
#[derive(Debug, Clone)]
pub struct CommandExecutor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tasks: BTreeMap<TaskName, Arc<CommandTask>>,
    launcher: Launcher,
}

impl CommandExecutor {
    /// The executor of the commands in `config`, for a node with the environment `env`; and warnings about commands that are
    /// not there yet. Those are no errors: a program may be installed later, and until then only its own task fails.
    ///
    /// # Errors
    /// Commands that can never be run.
    pub fn from_config(config: &Config, env: &BTreeMap<String, String>) -> Result<(Self, Vec<String>), ConfigErrors> {
        let worker = &config.worker;
        let defaults = Defaults {
            time_limit: worker.time_limit.as_ref().map(|limit| limit.value),
            soft_time_limit: worker.soft_time_limit.as_ref().map(|limit| limit.value),
            acks_late: worker.acks_late.value,
        };
        Self::new(&config.tasks, env, &defaults, Vec::new())
    }

    /// As [`Self::from_config`], part by part. `keeper_args` are what leads this program to [`keeper::main`] where the name it
    /// is called by does not: none for `node`, the name of a test in a test.
    ///
    /// # Errors
    /// As [`Self::from_config`].
    pub fn new(
        tasks: &[TaskConfig],
        env: &BTreeMap<String, String>,
        defaults: &Defaults,
        keeper_args: Vec<OsString>,
    ) -> Result<(Self, Vec<String>), ConfigErrors> {
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let mut known = BTreeMap::new();
        for config in tasks {
            match CommandTask::new(config, env, defaults) {
                Ok(task) => {
                    warnings.extend(missing(config, &task));
                    known.insert(task.spec.name.clone(), Arc::new(task));
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Ok((Self(Arc::new(Inner { tasks: known, launcher: Launcher::new(keeper_args) })), warnings))
    }

    fn task(&self, name: &TaskName) -> Option<Arc<CommandTask>> {
        self.0.tasks.get(name).cloned()
    }

    fn launcher(&self) -> &Launcher {
        &self.0.launcher
    }
}

/// What to say about a command that is not there. One whose name is an argument cannot be looked for before there is a call.
fn missing(config: &TaskConfig, task: &CommandTask) -> Option<String> {
    let program = config.command.first().filter(|program| !program.contains(['{', '}']))?;
    let path = task.env.get("PATH").map_or("", String::as_str);
    let not_found = find(program, path, task.cwd.as_deref()).err()?;
    let (name, origin, reason) = (&config.name, &config.origin, not_found.reason);
    Some(format!("the task {name} ({origin}) will fail: the command {program:?} {reason}"))
}

#[async_trait]
impl Executor for CommandExecutor {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn tasks(&self) -> Vec<Arc<TaskSpec>> {
        self.0.tasks.values().map(|task| Arc::clone(&task.spec)).collect()
    }

    fn spec(&self, task: &TaskName) -> Option<Arc<TaskSpec>> {
        self.task(task).map(|task| Arc::clone(&task.spec))
    }

    async fn open(&self, opening: Opening) -> Result<Box<dyn Slot>, SlotDied> {
        Ok(Box::new(CommandSlot::new(self.clone(), opening.device)))
    }
}
