//! The keeper as the node sees it.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream as StdStream, process::CommandExt},
    },
    path::PathBuf,
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
};

use super::{NAME, Report, Request, processes::processes, wire};

/// How a keeper is started.
#[derive(Debug, Clone)]
pub(in super::super) struct Launcher {
    /// Our own program.
    program: PathBuf,
    /// What leads it to [`super::main`], where the name alone does not.
    args: Vec<OsString>,
}

impl Launcher {
    /// This program again, with `args`. The link names the program that runs, also after its file was replaced by a newer one.
    pub(in super::super) fn new(args: Vec<OsString>) -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), args }
    }
}

/// The node's ends of a command's pipes.
pub(in super::super) struct Pipes {
    pub(in super::super) stdin: OwnedFd,
    pub(in super::super) stdout: OwnedFd,
    pub(in super::super) stderr: OwnedFd,
    pub(in super::super) progress: OwnedFd,
}

/// One keeper at work. Dropping it ends the command and everything that came from it.
pub(in super::super) struct Keeper {
    reports: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
    orders: OwnedWriteHalf,
    /// The keeper's number, which is also that of its session, and is nobody else's while there is anything in it.
    session: Option<Pid>,
    /// Waited for by the runtime when it is dropped.
    _process: Child,
}

impl Keeper {
    /// Starts a keeper for `request`.
    ///
    /// # Errors
    /// When there is no room for another process or its pipes, or the request is beyond what a command line may be.
    pub(in super::super) async fn start(launcher: &Launcher, request: &Request) -> io::Result<(Self, Pipes)> {
        let (ours, theirs) = StdStream::pair()?;
        let (stdin_end, stdin) = io::pipe()?;
        let (stdout, stdout_end) = io::pipe()?;
        let (stderr, stderr_end) = io::pipe()?;
        let (progress, progress_end) = io::pipe()?;
        let json = serde_json::to_vec(request)?;
        wire::send_head(&ours, json.len(), &[stdin_end.as_fd(), stdout_end.as_fd(), stderr_end.as_fd(), progress_end.as_fd()])?;

        let mut command = std::process::Command::new(&launcher.program);
        command.arg0(NAME).args(&launcher.args).env_clear();
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Command::from(command).spawn()?;
        let session = process.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        ours.set_nonblocking(true)?;
        let (reports, mut orders) = UnixStream::from_std(ours)?.into_split();
        // A keeper that is gone already is found out by the first report.
        let _ = orders.write_all(&json).await;
        let keeper = Self { reports: BufReader::new(reports), line: Vec::new(), orders, session, _process: process };
        let pipes = Pipes { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into(), progress: progress.into() };
        Ok((keeper, pipes))
    }

    /// The next report; `None` when the keeper has died, after what it kept has been killed as far as that can be done from
    /// here. May be dropped at any point.
    pub(in super::super) async fn next(&mut self) -> Option<Report> {
        let read = self.reports.read_until(b'\n', &mut self.line).await;
        let report = match read {
            Ok(read) if read > 0 && self.line.ends_with(b"\n") => serde_json::from_slice(&self.line).ok(),
            _ => None,
        };
        self.line.clear();
        if report.is_none() {
            let session = self.session;
            let _ = tokio::task::spawn_blocking(move || end_session(session)).await;
        }
        report
    }

    /// Has the whole process group sent a signal.
    pub(in super::super) fn signal(&mut self, signal: Signal) {
        let byte = u8::try_from(signal.as_raw()).expect("signals are below 128");
        // Never full: a command is sent two signals at most. Gone: the next report tells.
        let _ = self.orders.try_write(&[byte]);
    }
}

/// Looks at a session that its keeper left, each of which kills what it finds. A process that forks between two looks is found
/// by the next; one that forks faster than this many is given up.
const LOOKS_MAX: usize = 100;

fn end_session(session: Option<Pid>) {
    let Some(session) = session else { return };
    for _ in 0..LOOKS_MAX {
        let left = processes(|process| process.session == session);
        if left.is_empty() {
            return;
        }
        for process in left {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}
