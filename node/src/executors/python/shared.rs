//! One process for many slots: coroutines on an event loop, or functions on threads.
//!
//! **What it owns.** The process, and who waits for which run. **Who sends to it.** Slots: runs, orders, and word that they have
//! gone. **What it sends on.** Frames, to the slot whose run they are about. **What bounds it.** One run a slot; what slots send
//! at the same time crosses the socket together. **When the process dies**, each run in it is told so, and the next one gets
//! another process. A run that does not end when it is told to costs the others their process, after [`END_WITHIN`].

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use umbel_proto::{Outcome, TaskError};

use super::{
    child::Child,
    early::{self, Told},
    frame::{self, Frame, Kind, Whose},
    nursery::{Nursery, Pool},
    outcome::Done,
    request,
    slot::{RUNS, end, next_order, progress, revoked},
};
use crate::executors::{Job, Order, Slot, SlotDied};

/// How long a task may take to end when it is told to.
const END_WITHIN: Duration = Duration::from_secs(1);

/// What slots have sent and the process has not been told yet.
const INBOX: usize = 1024;

/// News of one run that its slot has not looked at yet.
const NEWS: usize = 32;

/// Leads to the process.
#[derive(Debug, Clone)]
pub(super) struct Shared(mpsc::Sender<Said>);

enum Said {
    Run {
        number: u64,
        frame: BytesMut,
        news: mpsc::Sender<News>,
    },
    Order {
        number: u64,
        order: Order,
    },
    /// The process waits for this answer.
    Stored {
        number: u64,
        stored: bool,
    },
    /// Nobody waits for this run any more.
    Gone {
        number: u64,
    },
}

/// What a slot hears of its run.
enum News {
    Frame(Frame),
    Died(String),
}

impl Shared {
    /// A process of `pool`, started when the first run wants it.
    pub(super) fn new(nursery: Nursery, pool: Pool) -> Self {
        let (to, said) = mpsc::channel(INBOX);
        crate::task::spawn(Driver { nursery, pool, child: None, runs: HashMap::new(), doomed: BTreeMap::new() }.drive(said));
        Self(to)
    }

    /// A slot in it.
    pub(super) fn slot(&self) -> Box<dyn Slot> {
        Box::new(SharedSlot(self.clone()))
    }
}

struct Driver {
    nursery: Nursery,
    pool: Pool,
    child: Option<Child>,
    runs: HashMap<u64, mpsc::Sender<News>>,
    /// The runs that were told to end, and when the process is killed if they have not.
    doomed: BTreeMap<u64, Instant>,
}

impl Driver {
    async fn drive(mut self, mut said: mpsc::Receiver<Said>) {
        loop {
            let doom = self.doomed.values().min().copied();
            tokio::select! {
                frame = next(&mut self.child) => match frame {
                    Some(frame) => self.told(frame).await,
                    None => self.died().await,
                },
                first = said.recv() => {
                    let Some(first) = first else { return };
                    let mut bytes = BytesMut::new();
                    self.take(first, &mut bytes).await;
                    while let Ok(more) = said.try_recv() {
                        self.take(more, &mut bytes).await;
                    }
                    self.send(&bytes).await;
                }
                () = at(doom) => {
                    self.doomed.clear();
                    if let Some(child) = &self.child {
                        child.kill();
                    }
                }
            }
        }
    }

    async fn take(&mut self, said: Said, bytes: &mut BytesMut) {
        match said {
            Said::Run { number, frame, news } => {
                if self.child.as_ref().is_none_or(Child::is_dead) {
                    // Those that ran in the one before are told.
                    self.died().await;
                    match self.nursery.child(self.pool, None, true).await {
                        Ok(child) => self.child = Some(child),
                        Err(died) => return drop(news.send(News::Died(died.detail)).await),
                    }
                }
                self.runs.insert(number, news);
                bytes.unsplit(frame);
            }
            Said::Order { number, order } => {
                let word = if order == Order::Hurry { "hurry" } else { "terminate" };
                frame::pack(Kind::Order, format!("{{\"run\":{number},\"order\":\"{word}\"}}").as_bytes(), b"", bytes);
                if order == Order::Terminate {
                    self.doomed.insert(number, Instant::now() + END_WITHIN);
                }
            }
            Said::Stored { number, stored } => early::answer(number, stored, bytes),
            Said::Gone { number } => {
                if self.runs.remove(&number).is_some() {
                    frame::pack(Kind::Order, format!("{{\"run\":{number},\"order\":\"terminate\"}}").as_bytes(), b"", bytes);
                    self.doomed.insert(number, Instant::now() + END_WITHIN);
                }
            }
        }
    }

    async fn send(&mut self, bytes: &BytesMut) {
        let Some(child) = &mut self.child else { return };
        let (doom, mut heard) = (self.doomed.values().min().copied(), Vec::new());
        tokio::select! {
            () = child.send_and_hear(bytes, &mut heard) => {}
            // It reads no more, and so hears of no limit.
            () = at(doom) => {
                self.doomed.clear();
                child.kill();
            }
        }
        for frame in heard {
            self.told(frame).await;
        }
    }

    async fn told(&mut self, frame: Frame) {
        let Ok(Whose { run }) = serde_json::from_slice(&frame.head) else { return };
        let done = frame.kind == Kind::Done;
        if done {
            self.doomed.remove(&run);
        }
        let news = if done { self.runs.remove(&run) } else { self.runs.get(&run).cloned() };
        if let Some(news) = news {
            // A slot that is behind loses news, never an ending, which comes once.
            let once = done || frame.kind == Kind::Early;
            let _ = if once { news.send(News::Frame(frame)).await } else { news.try_send(News::Frame(frame)).or(Ok(())) };
        }
    }

    async fn died(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.doomed.clear();
        let detail = child.epitaph().await;
        for (_, news) in self.runs.drain() {
            let _ = news.send(News::Died(detail.clone())).await;
        }
    }
}

async fn next(child: &mut Option<Child>) -> Option<Frame> {
    match child {
        Some(child) => child.next().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[derive(Debug)]
struct SharedSlot(Shared);

/// Tells the driver when a run is dropped before its end.
struct Waiting<'a> {
    to: &'a mpsc::Sender<Said>,
    number: u64,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            let (to, number) = (self.to.clone(), self.number);
            if to.try_send(Said::Gone { number }).is_err() {
                crate::task::spawn(async move { to.send(Said::Gone { number }).await });
            }
        }
    }
}

#[async_trait]
impl Slot for SharedSlot {
    async fn run(&mut self, job: Job) -> Result<Outcome, SlotDied> {
        let mut orders = job.orders.clone();
        let mut heard = *orders.borrow_and_update();
        if heard == Order::Terminate {
            return Ok(revoked());
        }
        let number = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut frame = BytesMut::new();
        if let Err(error) = request::write(number, &job, &mut frame) {
            return Ok(Outcome::Failure(TaskError::new("kombu.exceptions", "EncodeError", error.to_string())));
        }
        let gone = || SlotDied { detail: "the executor has ended".to_owned() };
        let (news, mut inbox) = mpsc::channel(NEWS);
        self.0.0.send(Said::Run { number, frame, news }).await.map_err(|_| gone())?;
        let mut waiting = Waiting { to: &self.0.0, number, over: false };
        let mut told: Option<Told> = None;
        loop {
            tokio::select! {
                biased;
                news = inbox.recv() => {
                    let frame = match news {
                        Some(News::Frame(frame)) => frame,
                        Some(News::Died(detail)) => {
                            waiting.over = true;
                            let lost = || if heard == Order::Terminate { revoked() } else { Outcome::WorkerLost { detail } };
                            return Ok(told.map_or_else(lost, |told| told.outcome(&job)));
                        }
                        None => return Err(gone()),
                    };
                    match frame.kind {
                        Kind::Progress => progress(&frame, &job),
                        Kind::Early => match Told::read(&frame, &job).await {
                            Ok(ended) => told = Some(ended),
                            Err(detail) => return Ok(Outcome::WorkerLost { detail }),
                        },
                        Kind::Called => told.iter_mut().for_each(|told| told.called(&frame)),
                        Kind::Done => {
                            waiting.over = true;
                            let done = Done::read(&frame);
                            // What it has stored itself stands.
                            if heard == Order::Terminate && !done.as_ref().is_ok_and(|done| done.delegated) {
                                return Ok(told.map_or_else(revoked, |told| told.outcome(&job)));
                            }
                            return Ok(match done {
                                Ok(done) => end(done, &frame, told, &job),
                                Err(detail) => Outcome::WorkerLost { detail },
                            });
                        }
                        _ => {}
                    }
                }
                stored = early::answered(&mut told) => {
                    self.0.0.send(Said::Stored { number, stored }).await.map_err(|_| gone())?;
                }
                order = next_order(&mut orders, heard) => {
                    heard = order;
                    if matches!(order, Order::Hurry | Order::Terminate) {
                        self.0.0.send(Said::Order { number, order }).await.map_err(|_| gone())?;
                    }
                }
            }
        }
    }
}
