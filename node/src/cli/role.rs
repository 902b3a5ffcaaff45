//! What a role asks of the process that takes it on: its priority, and executors that are there.

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, note, program},
};
use crate::config::{Config, Plan, Runs};

/// Lets the process, and all it starts from now on, give way to others as its role wants. Must be called before there are other threads:
/// Linux keeps a priority for each of them, and hands it on.
pub(super) fn give_way(plan: &Plan, screen: &Screen) {
    let Some(nice) = plan.nice.as_ref().filter(|nice| nice.value > 0) else { return };
    let before = rustix::process::getpriority_process(None).unwrap_or(0);
    let wanted = i32::try_from(nice.value).unwrap_or(19);
    // One that was started with a lower priority keeps it.
    if wanted <= before {
        return;
    }
    if let Err(error) = rustix::process::setpriority_process(None, wanted) {
        note(screen, &format!("the process does not give way to others as {} wants (nice {wanted}): {error}", nice.origin));
    }
}

/// Whether there is anything for the executor of the role to run.
///
/// # Errors
/// When there is no application, or no command.
pub(super) fn has_what_it_runs(plan: &Plan, config: &Config) -> Result<(), Failure> {
    let Some(executor) = &plan.executor else { return Ok(()) };
    let (missing, hint) = match executor.value {
        Runs::Prefork | Runs::Threads if config.app.is_none() => {
            ("runs the tasks of an application, and none is named", format!("{} -A proj.celery --role {}", program(), config.role.value))
        }
        Runs::Command if config.tasks.is_empty() => {
            ("runs commands, and none is configured", "add [tasks.\"name\"] with command = [\"program\", \"argument\"]".to_owned())
        }
        _ => return Ok(()),
    };
    let failure = Failure::new(Exit::Usage, "cannot start the node", format!("the executor of this role {missing}"));
    Err(failure.value_from(config.role.value.clone(), executor.origin.to_string()).hint(hint))
}
