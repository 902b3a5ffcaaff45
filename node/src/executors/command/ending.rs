//! From the way a command ended to the outcome of its task. Pure.

use rustix::process::Signal;
use umbel_proto::{Outcome, Retry, TaskError, Value};

use super::{
    output::{self, STDERR_TAIL},
    task::CommandTask,
};
use crate::{
    config::show_size,
    executors::{Job, native::soft_time_limit},
};

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself or by a signal.
    Exited { code: Option<i32>, signal: Option<i32> },
    /// It could not be started.
    NotStarted { reason: String },
    /// Unknown: nobody was left to see it.
    KeeperDied,
}

/// Why it was told to stop, if it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    SoftLimit,
    HardLimit,
    Revoked { killed: bool },
    Overflow,
}

/// What was seen of it.
pub(super) struct Seen<'a> {
    pub(super) output: &'a [u8],
    pub(super) stderr: &'a str,
    pub(super) stopped: Option<Stopped>,
}

/// The outcome. A command that finished its work although it had been told to stop has finished it, except when it was
/// revoked: then nobody waits for the result.
pub(super) fn outcome(task: &CommandTask, job: &Job, ending: Ending, seen: &Seen<'_>) -> Outcome {
    let (code, signal) = match ending {
        Ending::Exited { code, signal } => (code, signal),
        Ending::NotStarted { reason } => {
            let text = format!("the command {:?} cannot be started: {reason}", task.words[0]);
            return Outcome::Failure(TaskError::new("builtins", "OSError", text));
        }
        Ending::KeeperDied => return Outcome::WorkerLost { detail: "the keeper of the command died".to_owned() },
    };
    match seen.stopped {
        Some(Stopped::Revoked { killed }) => {
            let signal = if killed { Signal::KILL } else { Signal::TERM };
            return Outcome::Revoked { terminated: true, signal: Some(signal.as_raw()) };
        }
        Some(Stopped::Overflow) => {
            let max = show_size(task.output_max as u64);
            let text = format!("stdout is larger than {max} (output_max of {})", task.spec.name);
            return Outcome::Failure(TaskError::new("builtins", "OverflowError", text));
        }
        _ if code == Some(0) => {
            return match output::value(seen.output, task.output) {
                Ok(value) => Outcome::Success { value, children: Vec::new() },
                Err(error) => failed(*error, job),
            };
        }
        Some(Stopped::HardLimit) => {
            let limit_secs = job.limits.hard_secs.unwrap_or_default();
            return Outcome::TimeLimitExceeded { limit_secs };
        }
        Some(Stopped::SoftLimit) => return failed(soft_time_limit(), job),
        None => {}
    }
    let error = process_error(task, code, signal, seen.stderr);
    match code {
        Some(code) if task.retry_codes.contains(&code) => Outcome::Retry(Retry { error: Some(error), automatic: true, ..Retry::default() }),
        _ => failed(error, job),
    }
}

/// A failure; with `retry_on_failure`, the wish to be run again.
fn failed(error: TaskError, job: &Job) -> Outcome {
    if job.spec.retry_on_failure {
        Outcome::Retry(Retry { error: Some(error), automatic: true, ..Retry::default() })
    } else {
        Outcome::Failure(error)
    }
}

/// Python's `subprocess.CalledProcessError(returncode, cmd, output, stderr)`, so that a Python client raises just that. A
/// signal is a negative code, as there. The words are those of the configuration, without the call's arguments: results are
/// read by more people than messages.
fn process_error(task: &CommandTask, code: Option<i32>, signal: Option<i32>, stderr: &str) -> TaskError {
    let code_or_signal = code.or(signal.map(|signal| -signal)).unwrap_or(-1);
    let words = Value::List(task.words.iter().map(|word| Value::from(word.as_str())).collect());
    let how = match (code, signal) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by {}", signal_name(signal)),
        (None, None) => "ended".to_owned(),
    };
    let said = if stderr.is_empty() {
        "It wrote nothing to stderr.".to_owned()
    } else {
        format!("The end of its stderr (up to {}):\n{stderr}", show_size(STDERR_TAIL as u64))
    };
    TaskError {
        exc_type: "CalledProcessError".to_owned(),
        exc_message: vec![Value::from(i64::from(code_or_signal)), words, Value::Null, Value::from(stderr)],
        exc_module: Some("subprocess".to_owned()),
        traceback: Some(format!("The command {} {how}. {said}\n", task.words.join(" "))),
        expected: false,
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL (perhaps for want of memory)",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}
