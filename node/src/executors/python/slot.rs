//! A slot for Python tasks: one process, one task at a time.
//!
//! **What it owns.** A process, and the run it is in. **Who sends to it.** The pool, a job at a time. **What it sends on.** The
//! outcome, and progress. **What bounds it.** One run. A process that has run as many tasks as it may, or has been killed for its
//! task's sake, is replaced by another before the next run; the nursery has one waiting. **When the process dies** under a
//! task, that is the outcome: the slot lives on with another process. **When the slot dies**, or a run is dropped, so does the
//! process.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::sync::watch;
use umbel_proto::{Limits, Outcome, TaskError, codec::Serializer};

use super::{
    child::{Child, Working},
    frame::{Frame, Kind},
    nursery::{Nursery, Pool},
    outcome::Done,
    request,
};
use crate::executors::{Job, Order, Progress, Slot, SlotDied};

/// Numbers of runs, each used once: an order that comes late is for nobody.
pub(super) static RUNS: AtomicU64 = AtomicU64::new(1);

/// Room for one Python task.
#[derive(Debug)]
pub(super) struct PythonSlot {
    nursery: Nursery,
    child: Option<Child>,
}

impl PythonSlot {
    /// A slot with a process of its own.
    ///
    /// # Errors
    /// When no process can be started.
    pub(super) async fn open(nursery: Nursery) -> Result<Self, SlotDied> {
        let child = nursery.child(Pool::Processes, false).await?;
        Ok(Self { nursery, child: Some(child) })
    }

    /// The slot's process, or another in its place.
    async fn process(&mut self) -> Result<Child, SlotDied> {
        match self.child.take() {
            Some(child) if !child.is_dead() => Ok(child),
            _ => self.nursery.child(Pool::Processes, true).await,
        }
    }
}

#[async_trait]
impl Slot for PythonSlot {
    async fn run(&mut self, job: Job) -> Result<Outcome, SlotDied> {
        let mut orders = job.orders.clone();
        let mut heard = *orders.borrow_and_update();
        if heard == Order::Terminate {
            return Ok(revoked());
        }
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let mut frame = BytesMut::new();
        if let Err(error) = request::write(number, &job, &mut frame) {
            return Ok(Outcome::Failure(TaskError::new("kombu.exceptions", "EncodeError", error.to_string())));
        }
        let mut child = self.process().await?;
        let headers = &job.invocation.headers;
        child.run(&frame, Working { id: headers.id.clone(), name: headers.task.clone() }).await;
        if heard == Order::Hurry {
            child.hurry(number);
        }
        loop {
            tokio::select! {
                biased;
                frame = child.next() => {
                    let Some(frame) = frame else { return Ok(Outcome::WorkerLost { detail: child.epitaph().await }) };
                    match frame.kind {
                        Kind::Progress => progress(&frame, &job),
                        Kind::Done => match Done::read(&frame) {
                            Ok(done) if done.run == number => {
                                child.rest();
                                self.child = Some(child).filter(|_| !done.retire);
                                return Ok(done.outcome(&frame, &job));
                            }
                            Ok(_) => {}
                            Err(problem) => return Ok(Outcome::WorkerLost { detail: problem }),
                        },
                        other => return Ok(Outcome::WorkerLost { detail: format!("it sent {other:?} while it ran a task") }),
                    }
                }
                order = next_order(&mut orders, heard) => {
                    heard = order;
                    match order {
                        Order::Hurry => child.hurry(number),
                        Order::Terminate => {
                            // Dropped while it works: killed.
                            return Ok(revoked());
                        }
                        Order::Run | Order::Drain => {}
                    }
                }
            }
        }
    }
}

pub(super) fn revoked() -> Outcome {
    Outcome::Revoked { terminated: true, signal: None }
}

/// News of a task's own; what the pool has no room for is dropped.
pub(super) fn progress(frame: &Frame, job: &Job) {
    #[derive(serde::Deserialize)]
    struct Head {
        state: String,
    }
    let (head, meta) = (serde_json::from_slice::<Head>(&frame.head), Serializer::Json.decode(&frame.payload, Limits::default()));
    if let (Ok(Head { state }), Ok(meta)) = (head, meta) {
        let _ = job.progress.try_send(Progress { state, meta });
    }
}

/// The next order that is stronger than `heard`; none comes once the sender is gone.
pub(super) async fn next_order(orders: &mut watch::Receiver<Order>, heard: Order) -> Order {
    loop {
        if orders.changed().await.is_err() {
            return std::future::pending().await;
        }
        let order = *orders.borrow_and_update();
        if order > heard {
            return order;
        }
    }
}
