//! Exit codes, in one place. They are stable: scripts depend on them.

use std::process::ExitCode;

/// How the program ended. Anchored in `gh` and `kubectl` (0, 1, 4), Celery (2, 69) and the shell (130, 143).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success, also of an empty list.
    Success = 0,
    /// The operation failed: the task that was waited for failed, a node answered with an error.
    Failed = 1,
    /// Wrong usage or configuration, or refused without confirmation.
    Usage = 2,
    /// Waited, and the time ran out.
    TimedOut = 3,
    /// Not allowed.
    Denied = 4,
    /// There is no such task, queue, node, file.
    NotFound = 5,
    /// Some nodes did not answer.
    Partial = 6,
    /// No node answered, or the broker cannot be reached (`EX_UNAVAILABLE`, as Celery has it).
    Unavailable = 69,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
