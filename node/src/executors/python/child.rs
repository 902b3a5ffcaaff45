//! One Python process, as the node sees it.
//!
//! **What it owns.** The node's ends of the process's socket, of what its runs come over, of the pipe that its orders go
//! through, and of its output; two tasks that read them. **Who sends to it.** The slot that has it. **What it sends on.**
//! Frames about runs, to the slot; log lines, to the log. **What bounds it.** [`FRAMES`] frames wait for the slot; the end of
//! the output is kept, the rest is logged and gone. **When it is dropped** while it works, the process is killed; while it is
//! idle, it is let go and ends by itself.

use std::{io, os::fd::OwnedFd, os::unix::net::UnixStream as StdStream, pin::pin, time::Duration};

use bytes::BytesMut;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use umbel_proto::{TaskId, TaskName};

use super::{
    frame::{Frame, Frames, Kind, with_member},
    lines::{self, Output, Tail},
    runs::Runs,
};
use crate::executors::SlotDied;

/// Frames that wait for the slot. More make the process wait, which is right: it is the slot's only one.
const FRAMES: usize = 64;

/// How long the template may take to tell how a process has ended, once its socket has closed.
const EPITAPH_WITHIN: Duration = Duration::from_secs(2);

/// How long the last of the output may take after the end: what a task left running may hold the pipe open for ever.
const OUTPUT_WITHIN: Duration = Duration::from_millis(100);

/// The same of the last frames. A run whose end lies there is not to be taken for lost because this machine is busy.
const FRAMES_WITHIN: Duration = Duration::from_secs(1);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit {
    /// By itself, with this code.
    pub(super) code: Option<i32>,
    /// By this signal.
    pub(super) signal: Option<i32>,
}

/// How many descriptors a process is given.
pub(super) const ENDS: usize = 4;

/// The node's ends of what leads to a process that is not there yet.
pub(super) struct Parts {
    socket: UnixStream,
    runs: Runs,
    orders: pipe::Sender,
    output: pipe::Receiver,
}

impl Parts {
    /// Both ends; the process gets its socket, what its runs come over, the pipe with its orders, and its output.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(super) fn new() -> io::Result<(Self, [OwnedFd; ENDS])> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let (runs, runs_end) = Runs::new()?;
        let (orders_end, orders) = io::pipe()?;
        let (output, output_end) = io::pipe()?;
        let parts = Self {
            socket: UnixStream::from_std(ours)?,
            runs,
            orders: pipe::Sender::from_owned_fd(orders.into())?,
            output: pipe::Receiver::from_owned_fd(output.into())?,
        };
        Ok((parts, [theirs.into(), runs_end, orders_end.into(), output_end.into()]))
    }

    /// The process with the number `pid`; `end` tells when it has ended.
    pub(super) fn child(self, pid: i32, end: watch::Receiver<Option<Exit>>) -> Child {
        let (reader, writer) = self.socket.into_split();
        let (frames, inbox) = mpsc::channel(FRAMES);
        let (working, current) = watch::channel(None);
        let tail = Tail::default();
        let read = crate::task::spawn(read(Frames::new(reader), frames));
        let output = crate::task::spawn(Output { pipe: self.output, pid, tail: tail.clone(), current }.forward());
        // It cannot have been waited for yet: the template tells of its end after its beginning, in the order of its socket.
        let handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Child {
            pid,
            handle,
            writer,
            runs: self.runs,
            orders: self.orders,
            inbox,
            end,
            working,
            tail,
            output,
            read,
            heard_out: None,
            busy: false,
            number: None,
        }
    }
}

/// Hands on what a process says, until it says no more. Log lines go their own way, also while no slot listens.
async fn read(mut frames: Frames<OwnedReadHalf>, to: mpsc::Sender<Frame>) {
    loop {
        match frames.next().await {
            Ok(Some(frame)) if frame.kind == Kind::Log => lines::record(&frame.head),
            Ok(Some(frame)) => {
                if to.send(frame).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!("{error}");
                return;
            }
        }
    }
}

/// Waits until the template tells of the end; for ever, if that has died itself.
async fn ended(end: &mut watch::Receiver<Option<Exit>>) {
    if end.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A process that runs tasks.
#[derive(Debug)]
pub(super) struct Child {
    pid: i32,
    handle: Option<OwnedFd>,
    writer: OwnedWriteHalf,
    runs: Runs,
    orders: pipe::Sender,
    inbox: mpsc::Receiver<Frame>,
    end: watch::Receiver<Option<Exit>>,
    working: watch::Sender<Option<Working>>,
    tail: Tail,
    output: tokio::task::JoinHandle<()>,
    read: tokio::task::JoinHandle<()>,
    /// When it has been heard out, once it has ended.
    heard_out: Option<Instant>,
    busy: bool,
    /// The number of its slot, which it is told with its first run.
    number: Option<usize>,
}

/// What a process works on, for the lines it writes.
#[derive(Debug, Clone)]
pub(super) struct Working {
    /// The task's id.
    pub(super) id: TaskId,
    /// Its name.
    pub(super) name: TaskName,
}

impl Child {
    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it is known to have ended.
    pub(super) fn is_dead(&self) -> bool {
        self.end.borrow().is_some() || self.read.is_finished()
    }

    /// Waits until it can run tasks.
    pub(super) async fn ready(&mut self) -> Result<(), SlotDied> {
        match self.inbox.recv().await {
            Some(frame) if frame.kind == Kind::Ready => Ok(()),
            Some(frame) => Err(SlotDied { detail: format!("a new process began with {:?}", frame.kind) }),
            None => Err(SlotDied { detail: format!("a new process ended before it could run tasks: {}", self.epitaph().await) }),
        }
    }

    /// Has it run what `frame` says, as number `number`: it has nothing to do yet. A process that is gone is found out by [`Self::next`].
    pub(super) async fn run(&mut self, number: u64, frame: &[u8], working: Working) {
        self.busy = true;
        self.working.send_replace(Some(working));
        let named = self.number.take().and_then(|slot| with_member(frame, "slot", slot));
        let frame = named.as_deref().unwrap_or(frame);
        if !self.runs.give(frame) {
            self.runs.give_large(number);
            let _ = self.writer.write_all(frame).await;
        }
    }

    /// Has a process that was started for no slot know of its own.
    pub(super) fn is_for(&mut self, slot: Option<usize>) {
        self.number = slot;
    }

    /// Has it run what `frame` says behind what it runs; `false` where that cannot be.
    pub(super) fn run_next(&mut self, frame: &[u8]) -> bool {
        self.runs.give(frame)
    }

    /// The run that it has not begun and begins next, if there is one.
    pub(super) fn next_run(&mut self) -> Option<u64> {
        self.runs.next()
    }

    /// Takes back what it has not begun, and tells which runs these are.
    pub(super) fn take_back(&mut self) -> Vec<u64> {
        self.runs.take_back()
    }

    /// The endings of what it has gone on from by itself.
    pub(super) fn passed(&mut self) -> Vec<Result<Frame, String>> {
        self.runs.passed()
    }

    /// It has begun another run by itself.
    pub(super) fn goes_on(&self, working: Working) {
        self.working.send_replace(Some(working));
    }

    /// Has it do what the frames in `bytes` say; likewise. It works from now on until it ends.
    pub(super) async fn send(&mut self, bytes: &BytesMut) {
        self.busy = true;
        let _ = self.writer.write_all(bytes).await;
    }

    /// Likewise; what it says meanwhile goes into `heard`: two that both write, and neither listens, would wait for ever.
    pub(super) async fn send_and_hear(&mut self, bytes: &BytesMut, heard: &mut Vec<Frame>) {
        self.busy = true;
        let mut sending = pin!(self.writer.write_all(bytes));
        loop {
            tokio::select! {
                biased;
                _ = &mut sending => return,
                Some(frame) = self.inbox.recv() => heard.push(frame),
                // What a task has forked may hold the other end open, and nobody reads.
                () = ended(&mut self.end) => return,
            }
        }
    }

    /// The next frame about what it runs; `None` when it has ended.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        tokio::select! {
            biased;
            frame = self.inbox.recv() => return frame,
            () = ended(&mut self.end) => {}
        }
        // What a task has forked may hold the other end of the socket open for ever.
        let until = *self.heard_out.get_or_insert_with(|| Instant::now() + FRAMES_WITHIN);
        timeout_at(until, self.inbox.recv()).await.ok().flatten()
    }

    /// What it ran has ended.
    pub(super) fn rest(&mut self) {
        self.busy = false;
        self.working.send_replace(None);
    }

    /// Tells the run with this number that its soft limit has passed. The number goes first: the signal makes it read it.
    pub(super) fn hurry(&self, run: u64) {
        if self.orders.try_write(&run.to_be_bytes()).is_ok() {
            self.signal(Signal::USR1);
        }
    }

    /// Ends it by force. Its template then ends what is in its process group.
    pub(super) fn kill(&self) {
        if self.end.borrow().is_none() {
            self.signal(Signal::KILL);
        }
    }

    fn signal(&self, signal: Signal) {
        match &self.handle {
            Some(handle) => drop(pidfd_send_signal(handle, signal)),
            // Kernels before 5.3. The number may be somebody else's only if it has ended just now.
            None => drop(Pid::from_raw(self.pid).map(|pid| rustix::process::kill_process(pid, signal))),
        }
    }

    /// How it ended, for a person: `signal 11 (SIGSEGV)`, and the last it wrote.
    pub(super) async fn epitaph(&mut self) -> String {
        let how = match timeout(EPITAPH_WITHIN, self.end.wait_for(Option::is_some)).await {
            Ok(Ok(exit)) => exit.map_or_else(String::new, |exit| exit.to_string()),
            Ok(Err(_)) => "the process it was forked from died".to_owned(),
            Err(_) => "nobody knows how".to_owned(),
        };
        let _ = timeout(OUTPUT_WITHIN, &mut self.output).await;
        match self.tail.text() {
            text if text.is_empty() => how,
            text => format!("{how}; the last it wrote:\n{text}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.busy {
            self.kill();
        }
        // Let go of the socket: an idle process ends by itself.
        self.read.abort();
    }
}

impl std::fmt::Display for Exit {
    /// As Celery names it (`billiard/pool.py`): `exitcode 3`, `signal 9 (SIGKILL)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (_, Some(signal)) => write!(f, "signal {signal} ({})", signal_name(signal)),
            (Some(code), None) => write!(f, "exitcode {code}"),
            (None, None) => f.write_str("nobody knows how"),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => "unnamed",
    }
}
