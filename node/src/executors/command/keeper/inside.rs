//! The keeper from inside. See the essay of the module for why it is as it is.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixStream as StdStream, process::CommandExt, process::ExitStatusExt},
    },
    process::{Child, Command, ExitCode},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    signal::unix::{Signal as ChildEnds, SignalKind, signal},
    time::Instant,
};

use super::{Report, Request, SWEEP_MAX, processes::processes, wire};

/// The distance of looks at processes that were killed and have not gone yet.
const SWEEP_STEP: Duration = Duration::from_millis(2);

pub(super) fn main() -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        // There is nobody to tell: the node sees the socket end.
        Err(_) => ExitCode::FAILURE,
    }
}

fn keep() -> io::Result<()> {
    // First of all: whatever is opened first gets number 3, which is where commands write their progress.
    let mut progress = OwnedFd::from(File::open("/dev/null")?);
    rustix::process::setsid()?;
    rustix::thread::set_name(c"umbel-keeper")?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let socket = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let _guard = runtime.enter();
    // Handlers replace the default, which would end us; they do not outlive the command's `exec`.
    let passed_over = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
    let _handlers = passed_over.map(signal);
    let mut child_ends = signal(SignalKind::child())?;
    let Some((request, descriptors)) = wire::receive(&socket)? else {
        return Ok(());
    };
    socket.set_nonblocking(true)?;
    let spawned = spawn(&request, descriptors, &mut progress);
    runtime.block_on(async {
        let mut socket = UnixStream::from_std(socket)?;
        let child = match spawned {
            Ok(child) => child,
            Err(error) => return report(&mut socket, &Report::Failed { reason: error.to_string() }).await,
        };
        watch(child, &mut socket, &mut child_ends).await
    })
}

/// Starts the command. Our own copies of its descriptors are closed afterwards, so that the node sees the command close them.
fn spawn(request: &Request, descriptors: [OwnedFd; wire::DESCRIPTORS], progress: &mut OwnedFd) -> io::Result<Child> {
    let [stdin, stdout, stderr, progress_end] = descriptors;
    rustix::io::dup2(&progress_end, progress)?;
    drop(progress_end);
    let mut command = Command::new(&request.program);
    if let Some((name, args)) = request.words.split_first() {
        command.arg0(name).args(args);
    }
    command.env_clear().envs(request.env.iter().map(|(name, value)| (name, value)));
    command.env("UMBEL_PROGRESS_FD", progress.as_raw_fd().to_string());
    if let Some(cwd) = &request.cwd {
        command.current_dir(cwd);
    }
    let child = command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0).spawn();
    rustix::io::dup2(File::open("/dev/null")?, progress)?;
    child
}

/// From the command's start until nothing of it is left.
async fn watch(mut child: Child, socket: &mut UnixStream, child_ends: &mut ChildEnds) -> io::Result<()> {
    let pid = Pid::from_child(&child);
    let started = report(socket, &Report::Started { pid: pid.as_raw_nonzero().get() }).await;
    let mut heard = started.is_ok();
    let mut order = [0];
    // The stream remembers signals that came before it is asked, so an end between the look and the wait is not missed.
    while heard && !has_ended(pid) {
        tokio::select! {
            biased;
            _ = child_ends.recv() => {}
            read = socket.read(&mut order) => match read {
                Ok(1) => pass_on(pid, order[0]),
                _ => heard = false,
            },
        }
    }
    // The leader has not been waited for yet: the number is still the group's.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    sweep().await;
    if heard {
        report(socket, &Report::Exited { code: status.code(), signal: status.signal() }).await?;
    }
    Ok(())
}

/// Whether the command has ended. It is not waited for by this: its number stays its own.
fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
}

fn pass_on(group: Pid, order: u8) {
    let signal = if order == Signal::KILL.as_raw() as u8 { Signal::KILL } else { Signal::TERM };
    let _ = rustix::process::kill_process_group(group, signal);
}

/// Kills children until there are none: every process whose parent has ended becomes ours.
async fn sweep() {
    let own = rustix::process::getpid();
    let give_up = Instant::now() + SWEEP_MAX;
    while Instant::now() < give_up {
        for child in processes(|process| process.parent == own) {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // No children at all.
                Err(_) => return,
            }
        }
        tokio::time::sleep(SWEEP_STEP).await;
    }
}

async fn report(socket: &mut UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    socket.write_all(&line).await
}
