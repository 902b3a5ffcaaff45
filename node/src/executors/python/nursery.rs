//! The nursery: the template process and the processes that are forked from it.
//!
//! **What it owns.** The template (`bootstrap/template.py`), which has the application loaded; the processes that are ready and
//! wait for a slot; what is known of how the others ended. **Who sends to it.** Slots that need a process. **What it sends on.**
//! Processes, to the slot that asked; how each one ended, to whoever has it. **What bounds it.** Slots ask for one at a time and
//! wait for it; at most [`SPARES`] wait unasked. A slot with a device gets a process that was told of it, which no spare was: there
//! are none for it, as one that loads a model while it waits would take the memory of another's. It gets it when its last
//! process is gone, with all that it had on the device. Nor is there a spare where the application gets its processes ready
//! (`worker_process_init`), which may go by the slot's number: the next one waits there as well until the last is gone. **When the template dies**, so do all of its children (the kernel sees to it),
//! their slots find out by their sockets, and another template is started, with growing delays while that fails.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use bytes::BytesMut;
use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Pid, Signal, kill_process},
};
use serde::Deserialize;
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};
use umbel_scheduler::devices::Device;

use super::{
    child::{Child, ENDS, Exit, Parts},
    frame::{self, Frame, Kind},
    lines,
    report::AppReport,
    template::{Start, StartError, Template},
};
use crate::{
    actors::{chance::Backoff, events::BEAT, link::Link},
    executors::{Opening, SlotDied},
};

/// How many processes wait unasked once one had to be replaced, so that the next slot that loses its own waits for nothing.
const SPARES: usize = 1;

/// How long a process may take from its fork until it can run tasks: `worker_process_init` may open connections.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Askers in line; there is one a slot.
const ASKERS: usize = 1024;

/// How long a process that was let go may take to leave its device, before it is killed for the next.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

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
    /// Whether the node takes work, and whether its broker answers.
    serves: watch::Sender<Option<watch::Receiver<Link>>>,
    /// Closed when everything has ended.
    ended: watch::Receiver<()>,
    /// Whether the application gets each process ready, and may go by its slot's number.
    prepares: bool,
}

struct Ask {
    pool: Pool,
    /// The slot it is for, if it is for one.
    seat: Option<Seat>,
    /// Whether a process was lost: then the next loss is to cost less.
    replaces: bool,
    reply: oneshot::Sender<Result<Child, SlotDied>>,
}

/// A slot of processes.
#[derive(Debug, Clone)]
struct Seat {
    slot: usize,
    device: Option<Device>,
    /// Whether it has one process at a time, and no spare: it has a device, or its processes may go by its number for one.
    alone: bool,
}

impl Nursery {
    /// Loads the application, and returns with what it says of itself.
    ///
    /// # Errors
    /// When there is no interpreter, or the application cannot be loaded.
    pub(super) async fn start(start: Start) -> Result<(Self, AppReport), StartError> {
        let (template, report) = Template::start(&start).await?;
        let (asks, asked) = mpsc::channel(ASKERS);
        let ((end, told), (serves, serving), (alive, ended)) = (watch::channel(false), watch::channel(None), watch::channel(()));
        let (beats, prepares) = (report.hears_heartbeats, report.prepares);
        let spares = if prepares { 0 } else { SPARES };
        crate::task::spawn(async move {
            keep(start, template, asked, told, Heart { serving, beats }, spares).await;
            drop(alive);
        });
        Ok((Self { asks, end, serves, ended, prepares }, report))
    }

    /// Has the template tell that the node takes work, and each that takes its place, and then now and again that it lives, for as long as
    /// its broker does.
    pub(super) fn serves(&self, broker: watch::Receiver<Link>) {
        self.serves.send_replace(Some(broker));
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

    /// A process that can run tasks, for the slot that was opened with `opening`, if it is for one.
    ///
    /// # Errors
    /// When none can be started now.
    pub(super) async fn child(&self, pool: Pool, opening: Option<&Opening>, replaces: bool) -> Result<Child, SlotDied> {
        let died = |detail: &str| SlotDied { detail: detail.to_owned() };
        let (reply, answer) = oneshot::channel();
        let seat =
            opening.map(|Opening { slot, device }| Seat { slot: *slot, device: device.clone(), alone: self.prepares || device.is_some() });
        self.asks.send(Ask { pool, seat, replaces, reply }).await.map_err(|_| died("the executor has ended"))?;
        let mut child = answer.await.map_err(|_| died("the process that all others are forked from has died"))??;
        match tokio::time::timeout(READY_WITHIN, child.ready()).await {
            Ok(ready) => ready.map(|()| child),
            Err(_) => Err(died("a new process did not get ready within a minute: does a worker_process_init receiver hang?")),
        }
    }
}

/// The nursery's whole life.
async fn keep(
    start: Start,
    mut template: Template,
    mut asks: mpsc::Receiver<Ask>,
    mut end: watch::Receiver<bool>,
    mut heart: Heart,
    spares: usize,
) {
    let mut backoff = Backoff::new();
    loop {
        let mut keeper = Keeper { spares_max: spares, ..Keeper::default() };
        match keeper.serve(&mut template, &mut asks, &mut end, &mut heart).await {
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

/// What the template is told of the node.
struct Heart {
    serving: watch::Receiver<Option<watch::Receiver<Link>>>,
    /// Whether anybody listens to more than that it takes work.
    beats: bool,
}

impl Heart {
    /// Waits until it is time to say that.
    async fn has_to_say(&mut self, what: Kind, every: &mut Interval) {
        let Ok(broker) = self.serving.wait_for(Option::is_some).await.map(|serving| serving.clone()) else {
            return std::future::pending().await;
        };
        if what == Kind::Serving {
            return;
        }
        if !self.beats {
            return std::future::pending().await;
        }
        loop {
            every.tick().await;
            if broker.as_ref().is_some_and(|broker| broker.borrow().is_up()) {
                return;
            }
        }
    }
}

enum Served {
    /// Nobody needs it any more.
    Released,
    /// The template has died, or does not speak the protocol.
    Died(String),
}

/// What is known of one template's children.
#[derive(Default)]
struct Keeper {
    /// Those that were asked for and whose number is not known yet.
    pending: HashMap<u64, Pending>,
    /// Those that live.
    alive: HashMap<i32, Alive>,
    /// Those who wait until the device of their slot is left, and when that is done by force.
    held: VecDeque<(Instant, Ask)>,
    spares: Vec<(Pool, Child)>,
    spares_max: usize,
    spares_wanted: usize,
    next: u64,
}

/// A process that lives.
struct Alive {
    /// Where to tell how it ended.
    ended: watch::Sender<Option<Exit>>,
    /// The slot whose device it has.
    slot: Option<usize>,
}

struct Pending {
    pool: Pool,
    slot: Option<usize>,
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
    async fn serve(
        &mut self,
        template: &mut Template,
        asks: &mut mpsc::Receiver<Ask>,
        end: &mut watch::Receiver<bool>,
        heart: &mut Heart,
    ) -> Served {
        let mut says = Kind::Serving;
        let mut every = interval(BEAT);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let late = self.held.front().map(|(until, _)| *until);
            tokio::select! {
                () = told(end) => return Served::Released,
                () = heart.has_to_say(says, &mut every) => {
                    if let Err(error) = template.send(says).await {
                        return Served::Died(error.to_string());
                    }
                    says = Kind::Heartbeat;
                }
                () = at(late) => self.clear(),
                frame = template.frames.next() => match frame {
                    Ok(Some(frame)) => {
                        if let Err(problem) = self.told(&frame) {
                            return Served::Died(problem);
                        }
                        if frame.kind == Kind::Exited && let Err(error) = self.release(template).await {
                            return Served::Died(error.to_string());
                        }
                    }
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
        let Ask { pool, seat, replaces, reply } = ask;
        if let Some(Seat { slot, .. }) = seat.as_ref().filter(|seat| seat.alone) {
            if self.is_taken(*slot) {
                self.held.push_back((Instant::now() + LEAVE_WITHIN, Ask { pool, seat, replaces, reply }));
                return Ok(());
            }
            return self.fork(template, pool, seat, Some(reply)).await;
        }
        if replaces {
            self.spares_wanted = self.spares_max;
        }
        let spare = self.spares.iter().position(|(kind, child)| *kind == pool && !child.is_dead());
        match spare {
            // An asker that is gone gives it back to nobody: it ends by itself.
            Some(index) => {
                let mut child = self.spares.swap_remove(index).1;
                child.is_for(seat.map(|seat| seat.slot));
                drop(reply.send(Ok(child)));
            }
            None => self.fork(template, pool, seat, Some(reply)).await?,
        }
        let coming = self.pending.values().filter(|pending| pending.reply.is_none()).count();
        if self.spares.len() + coming < self.spares_wanted {
            self.fork(template, pool, None, None).await?;
        }
        Ok(())
    }

    /// Whether a process has the device of this slot, or will in a moment.
    fn is_taken(&self, slot: usize) -> bool {
        let pending = self.pending.values().map(|pending| pending.slot);
        pending.chain(self.alive.values().map(|alive| alive.slot)).any(|taken| taken == Some(slot))
    }

    /// Serves those who have waited for a device that is free now.
    async fn release(&mut self, template: &Template) -> io::Result<()> {
        // Who waits no more gets none.
        self.held.retain(|(_, ask)| !ask.reply.is_closed());
        let free = |(_, ask): &(Instant, Ask)| ask.seat.as_ref().is_none_or(|seat| !self.is_taken(seat.slot));
        let Some(index) = self.held.iter().position(free) else { return Ok(()) };
        match self.held.remove(index) {
            Some((_, ask)) => self.asked(template, ask).await,
            None => Ok(()),
        }
    }

    /// Ends by force what keeps the longest of those that wait from the device of its slot.
    fn clear(&mut self) {
        let Some((_, ask)) = self.held.pop_front() else { return };
        let slot = ask.seat.as_ref().map(|seat| seat.slot);
        // They have not been waited for, as the template would have told: the numbers are still theirs.
        for pid in self.alive.iter().filter(|(_, alive)| alive.slot == slot).filter_map(|(pid, _)| Pid::from_raw(*pid)) {
            tracing::warn!(pid = pid.as_raw_nonzero(), "a Python process that was let go does not end; it is killed for the next one");
            let _ = kill_process(pid, Signal::KILL);
        }
        self.held.push_back((Instant::now() + LEAVE_WITHIN, ask));
    }

    async fn fork(
        &mut self,
        template: &Template,
        pool: Pool,
        seat: Option<Seat>,
        reply: Option<oneshot::Sender<Result<Child, SlotDied>>>,
    ) -> io::Result<()> {
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
        let slot = seat.as_ref().map(|seat| seat.slot);
        let env: BTreeMap<_, _> = seat.iter().flat_map(|seat| &seat.device).flat_map(|device| device.env()).collect();
        let head =
            serde_json::json!({ "child": self.next, "pool": pool.as_str(), "size": pool.size(), "slot": slot, "env": env }).to_string();
        let mut bytes = BytesMut::new();
        frame::pack(Kind::Fork, head.as_bytes(), b"", &mut bytes);
        send_with(template.socket.as_ref(), &bytes, &theirs.each_ref().map(OwnedFd::as_fd)).await?;
        self.pending.insert(self.next, Pending { pool, slot: seat.filter(|seat| seat.alone).map(|seat| seat.slot), parts, reply });
        Ok(())
    }

    /// Takes in what the template tells.
    fn told(&mut self, frame: &Frame) -> Result<(), String> {
        let wrong = |error: serde_json::Error| format!("it told of a process as no one can: {error}");
        match frame.kind {
            Kind::Forked => {
                let Forked { child, pid } = serde_json::from_slice(&frame.head).map_err(wrong)?;
                let Some(Pending { pool, slot, parts, reply }) = self.pending.remove(&child) else { return Ok(()) };
                let (ended, end) = watch::channel(None);
                self.alive.insert(pid, Alive { ended, slot });
                let child = parts.child(pid, end);
                match reply {
                    Some(reply) => drop(reply.send(Ok(child))),
                    None => self.spares.push((pool, child)),
                }
            }
            Kind::Exited => {
                let Exited { pid, code, signal } = serde_json::from_slice(&frame.head).map_err(wrong)?;
                if let Some(alive) = self.alive.remove(&pid) {
                    let _ = alive.ended.send(Some(Exit { code, signal }));
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
pub(super) async fn send_with(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>; ENDS]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ENDS))];
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

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until that is told.
async fn told(what: &mut watch::Receiver<bool>) {
    if what.wait_for(|what| *what).await.is_err() {
        std::future::pending().await
    }
}
