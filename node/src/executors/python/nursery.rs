//! The nursery: the template process and the processes that are forked from it.
//!
//! **What it owns.** The template (`bootstrap/template.py`), which has the application loaded; the processes that are ready and
//! wait for a slot; what is known of how the others ended. **Who sends to it.** Slots that need a process. **What it sends on.**
//! Processes, to the slot that asked; how each one ended, to whoever has it. **What bounds it.** Slots ask for one at a time and
//! wait for it; at most [`SPARES`] wait unasked. **When the template dies**, so do all of its children (the kernel sees to it),
//! their slots find out by their sockets, and another template is started, with growing delays while that fails.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use bytes::BytesMut;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};

use super::{
    child::{Child, Exit, Parts},
    frame::{self, Frame, Kind},
    lines,
    report::AppReport,
    template::{Start, StartError, Template},
};
use crate::{actors::chance::Backoff, executors::SlotDied};

/// How many processes wait unasked once one had to be replaced, so that the next slot that loses its own waits for nothing.
const SPARES: usize = 1;

/// How long a process may take from its fork until it can run tasks: `worker_process_init` may open connections.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Askers in line; there is one a slot.
const ASKERS: usize = 1024;

/// How a process is to run tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pool {
    /// One at a time.
    Processes,
    /// Coroutines, on an event loop.
    Coroutines,
    /// Functions, on so many threads.
    Threads(usize),
    /// No tasks: the tables of django-celery-beat.
    Tables,
}

impl Pool {
    fn as_str(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Coroutines => "coroutines",
            Self::Threads(_) => "threads",
            Self::Tables => "tables",
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Threads(size) => size,
            Self::Processes | Self::Coroutines | Self::Tables => 1,
        }
    }
}

/// Asks for processes. Cheap to clone; when the last one is dropped, the nursery ends, and every process with it.
#[derive(Debug, Clone)]
pub(super) struct Nursery {
    asks: mpsc::Sender<Ask>,
    end: watch::Sender<bool>,
    /// Closed when everything has ended.
    ended: watch::Receiver<()>,
}

struct Ask {
    pool: Pool,
    /// Whether a process was lost: then the next loss is to cost less.
    replaces: bool,
    reply: oneshot::Sender<Result<Child, SlotDied>>,
}

impl Nursery {
    /// Loads the application, and returns with what it says of itself.
    ///
    /// # Errors
    /// When there is no interpreter, or the application cannot be loaded.
    pub(super) async fn start(start: Start) -> Result<(Self, AppReport), StartError> {
        let (template, report) = Template::start(&start).await?;
        let (asks, asked) = mpsc::channel(ASKERS);
        let ((end, told), (alive, ended)) = (watch::channel(false), watch::channel(()));
        crate::task::spawn(async move {
            keep(start, template, asked, told).await;
            drop(alive);
        });
        Ok((Self { asks, end, ended }, report))
    }

    /// Has everything end by itself, and returns when it has.
    pub(super) async fn end(&self) {
        self.end.send_replace(true);
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Waits until everything is told to end.
    pub(super) async fn ending(&self) {
        told(&mut self.end.subscribe()).await;
    }

    /// A process that can run tasks.
    ///
    /// # Errors
    /// When none can be started now.
    pub(super) async fn child(&self, pool: Pool, replaces: bool) -> Result<Child, SlotDied> {
        let died = |detail: &str| SlotDied { detail: detail.to_owned() };
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask { pool, replaces, reply }).await.map_err(|_| died("the executor has ended"))?;
        let mut child = answer.await.map_err(|_| died("the process that all others are forked from has died"))??;
        match tokio::time::timeout(READY_WITHIN, child.ready()).await {
            Ok(ready) => ready.map(|()| child),
            Err(_) => Err(died("a new process did not get ready within a minute: does a worker_process_init receiver hang?")),
        }
    }
}

/// The nursery's whole life.
async fn keep(start: Start, mut template: Template, mut asks: mpsc::Receiver<Ask>, mut end: watch::Receiver<bool>) {
    let mut backoff = Backoff::new();
    loop {
        let mut keeper = Keeper { pending: HashMap::new(), alive: HashMap::new(), spares: Vec::new(), spares_wanted: 0, next: 0 };
        match keeper.serve(&mut template, &mut asks, &mut end).await {
            Served::Released => {
                drop(keeper);
                return template.end().await;
            }
            Served::Died(reason) => tracing::error!("the process that all Python processes are forked from has died: {reason}"),
        }
        drop(keeper);
        template = loop {
            tokio::time::sleep(backoff.next()).await;
            match Template::start(&start).await {
                Ok((template, _)) => break template,
                Err(error) => tracing::error!("the Python application cannot be loaded again: {error}"),
            }
            if asks.is_closed() || *end.borrow() {
                return;
            }
        };
        backoff = Backoff::new();
    }
}

enum Served {
    /// Nobody needs it any more.
    Released,
    /// The template has died, or does not speak the protocol.
    Died(String),
}

/// What is known of one template's children.
struct Keeper {
    /// Those that were asked for and whose number is not known yet.
    pending: HashMap<u64, Pending>,
    /// Those that live: where to tell how they ended.
    alive: HashMap<i32, watch::Sender<Option<Exit>>>,
    spares: Vec<(Pool, Child)>,
    spares_wanted: usize,
    next: u64,
}

struct Pending {
    pool: Pool,
    parts: Parts,
    /// Who gets it; nobody if it is a spare.
    reply: Option<oneshot::Sender<Result<Child, SlotDied>>>,
}

/// The head of a frame that tells of a new process.
#[derive(Deserialize)]
struct Forked {
    child: u64,
    pid: i32,
}

/// The head of a frame that tells of a process's end.
#[derive(Deserialize)]
struct Exited {
    pid: i32,
    code: Option<i32>,
    signal: Option<i32>,
}

impl Keeper {
    async fn serve(&mut self, template: &mut Template, asks: &mut mpsc::Receiver<Ask>, end: &mut watch::Receiver<bool>) -> Served {
        loop {
            tokio::select! {
                () = told(end) => return Served::Released,
                frame = template.frames.next() => match frame {
                    Ok(Some(frame)) => if let Err(problem) = self.told(&frame) {
                        return Served::Died(problem);
                    },
                    Ok(None) => return Served::Died(template.epitaph().await),
                    Err(error) => return Served::Died(error.to_string()),
                },
                ask = asks.recv() => {
                    let Some(ask) = ask else { return Served::Released };
                    if let Err(error) = self.asked(template, ask).await {
                        return Served::Died(error.to_string());
                    }
                }
            }
        }
    }

    async fn asked(&mut self, template: &Template, ask: Ask) -> io::Result<()> {
        let Ask { pool, replaces, reply } = ask;
        if replaces {
            self.spares_wanted = SPARES;
        }
        let spare = self.spares.iter().position(|(kind, child)| *kind == pool && !child.is_dead());
        match spare {
            // An asker that is gone gives it back to nobody: it ends by itself.
            Some(index) => drop(reply.send(Ok(self.spares.swap_remove(index).1))),
            None => self.fork(template, pool, Some(reply)).await?,
        }
        let coming = self.pending.values().filter(|pending| pending.reply.is_none()).count();
        if self.spares.len() + coming < self.spares_wanted {
            self.fork(template, pool, None).await?;
        }
        Ok(())
    }

    async fn fork(&mut self, template: &Template, pool: Pool, reply: Option<oneshot::Sender<Result<Child, SlotDied>>>) -> io::Result<()> {
        self.next += 1;
        let (parts, theirs) = match Parts::new() {
            Ok(made) => made,
            Err(error) => {
                if let Some(reply) = reply {
                    let _ = reply.send(Err(SlotDied { detail: format!("cannot open a socket for another process: {error}") }));
                }
                return Ok(());
            }
        };
        let head = format!("{{\"child\":{},\"pool\":\"{}\",\"size\":{}}}", self.next, pool.as_str(), pool.size());
        let mut bytes = BytesMut::new();
        frame::pack(Kind::Fork, head.as_bytes(), b"", &mut bytes);
        send_with(template.socket.as_ref(), &bytes, &theirs.each_ref().map(OwnedFd::as_fd)).await?;
        self.pending.insert(self.next, Pending { pool, parts, reply });
        Ok(())
    }

    /// Takes in what the template tells.
    fn told(&mut self, frame: &Frame) -> Result<(), String> {
        let wrong = |error: serde_json::Error| format!("it told of a process as no one can: {error}");
        match frame.kind {
            Kind::Forked => {
                let Forked { child, pid } = serde_json::from_slice(&frame.head).map_err(wrong)?;
                let Some(Pending { pool, parts, reply }) = self.pending.remove(&child) else { return Ok(()) };
                let (ended, end) = watch::channel(None);
                self.alive.insert(pid, ended);
                let child = parts.child(pid, end);
                match reply {
                    Some(reply) => drop(reply.send(Ok(child))),
                    None => self.spares.push((pool, child)),
                }
            }
            Kind::Exited => {
                let Exited { pid, code, signal } = serde_json::from_slice(&frame.head).map_err(wrong)?;
                if let Some(ended) = self.alive.remove(&pid) {
                    let _ = ended.send(Some(Exit { code, signal }));
                }
                self.spares.retain(|(_, child)| child.pid() != pid);
            }
            Kind::Log => lines::record(&frame.head),
            other => return Err(format!("it sent {other:?}, which is not for it to send")),
        }
        Ok(())
    }
}

/// Sends `bytes` whole, with `descriptors` along with the first of them.
pub(super) async fn send_with(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>; 3]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if sent == 0 {
                    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "the space is made for them");
                }
                Ok(sendmsg(socket, &[IoSlice::new(&bytes[sent..])], &mut control, SendFlags::NOSIGNAL)?)
            })
            .await?;
    }
    Ok(())
}

/// Waits until it is told to end.
async fn told(end: &mut watch::Receiver<bool>) {
    if end.wait_for(|end| *end).await.is_err() {
        std::future::pending().await
    }
}
