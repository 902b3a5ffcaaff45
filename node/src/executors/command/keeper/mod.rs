//! The keeper: a process between the node and one command, so that nothing a command started outlives it or its node.
//!
//! **What it owns.** One command and every process that comes from it. It is our own program, run again under the name
//! [`NAME`], with one end of a socket as its stdin. **Who sends to it.** The node holds the other end: first a request and four
//! descriptors, then single bytes, each a signal to pass on. **What it sends on.** Lines: the command has started, or cannot be,
//! or has ended and how. **What bounds it.** It lives as long as its command, needs about 3 MiB, and holds none of the output:
//! the pipes lead from the command to the node. **When it dies**, the node sees the socket end and kills the keeper's session
//! itself.
//!
//! # Why nothing is left behind
//!
//! The promise: when the command has ended, was stopped, or its node has died in whatever way, no process that comes from the
//! command lives on.
//!
//! 1. *The keeper learns of the node's death.* The node's end of the socket is closed by the kernel when the node is gone,
//!    SIGKILL included. It is close-on-exec, so no process that the node starts holds a copy beyond its `exec`; the keeper's
//!    own copies are of the other end. So the keeper reads end-of-file soon after the node's death, and only then (or when the
//!    node lets go of the run on purpose, which means the same).
//! 2. *There is no moment in which it would not hear.* Before the request has come whole there is no command; after that the
//!    same thread that starts the command waits for the socket and for the command's end at once.
//! 3. *It outlives the node.* It leads a session of its own, so neither Ctrl-C nor a signal to the node's group reaches it,
//!    and it passes over SIGTERM, SIGINT, SIGHUP and SIGQUIT. It has a name of its own, so whoever kills by the node's name
//!    does not kill it.
//! 4. *It finds everything.* The command leads a process group, which is killed before its leader is waited for: until then
//!    the group's number cannot be given to anybody else. What has left the group (`setsid`, daemons) is caught by the keeper
//!    being a child subreaper: a process whose parent has ended becomes its child. It kills its children, their children
//!    become its own, and so on until it has none; a child that has not been waited for keeps its number, so no stranger can
//!    be hit. The command cannot gain privileges (`no_new_privs`), so there is nothing that it starts and that the keeper may
//!    not kill; `sudo` does not work in commands for this reason.
//! 5. *If the keeper itself is killed*, the node ends its session, whose number is the keeper's and known before there is a
//!    command. Only what had left the session by then is beyond reach.
//! 6. *Parent-death signals would not do*: they reach one child, not its children, and fire when the thread that forked ends.
//!
//! Linux only (subreapers, `/proc`). What is left: somebody kills node and keeper in the same instant. Then whoever supervises the node (systemd, the container)
//! has to end the command with the cgroup, as both do. And a process that the kernel cannot end (uninterruptible, on a dead
//! network disk) is given up after [`SWEEP_MAX`].

mod inside;
mod outside;
mod processes;
mod wire;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};

pub(super) use outside::{Keeper, Launcher};

/// What the keeper is called in process lists; also how it knows what it is.
pub const NAME: &str = "umbel-keeper";

/// How long processes may take to go after SIGKILL.
pub const SWEEP_MAX: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// The file.
    pub(super) program: PathBuf,
    /// The words, the program's own name first.
    pub(super) words: Vec<String>,
    /// The whole environment.
    pub(super) env: Vec<(String, String)>,
    /// The directory to run in.
    pub(super) cwd: Option<PathBuf>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// It runs, and this is its process and process group.
    Started {
        /// The number.
        pid: i32,
    },
    /// It cannot be started.
    Failed {
        /// Why.
        reason: String,
    },
    /// It has ended, and everything that came from it.
    Exited {
        /// The exit code, if it ended by itself.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
}

/// Whether this process was started as a keeper. If so, [`main`] is all it may do.
pub fn asked() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// The keeper's whole life. Call it first thing in `main`, before any thread or file is opened, when [`asked`] says so.
pub fn main() -> ExitCode {
    inside::main()
}
