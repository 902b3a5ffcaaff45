//! A slot for Python tasks: one process, one task at a time.
//!
//! **What it owns.** A process, and the run it is in. **Who sends to it.** The pool, a job at a time, and a few more that its
//! process begins by itself (`batch.rs`). **What it sends on.** The outcomes, and progress. **What bounds it.** One run, and
//! what it is handed. A process that has run as many tasks as it may, or has been killed for its task's sake, is replaced by
//! another before the next run; the nursery has one waiting, unless slots have devices. **When the process dies** under a task,
//! that is the outcome, unless the task had ended before ([`early`](super::early)): the slot lives on with another
//! process, which tells those who listen in Python of the loss (`bootstrap/requests.py`). **When the slot dies**, or a run is
//! dropped, so does the process.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::{sync::watch, time::timeout};
use umbel_proto::{Limits, Outcome, TaskError, codec::Serializer};

use super::{
    batch::{Batch, Flight},
    child::{Child, Working},
    early::Told as Ended,
    frame::{Frame, Kind},
    nursery::{Nursery, Pool},
    outcome::Done,
    request::{self, Lost},
};
use crate::executors::{Given, Hand, Handed, Job, Opening, Order, Progress, Slot, SlotDied, Told};

/// Numbers of runs, each used once: an order that comes late is for nobody.
pub(super) static RUNS: AtomicU64 = AtomicU64::new(1);

/// How long those who listen may take to hear of a loss. It is less than the pool's patience with a run that was told to end.
const HEAR_WITHIN: Duration = Duration::from_secs(3);

/// Room for one Python task.
#[derive(Debug)]
pub(super) struct PythonSlot {
    nursery: Nursery,
    opening: Opening,
    child: Option<Child>,
    /// The number of its process, for people.
    pid: Arc<AtomicU32>,
}

impl PythonSlot {
    /// A slot with a process of its own.
    ///
    /// # Errors
    /// When no process can be started.
    pub(super) async fn open(nursery: Nursery, opening: Opening) -> Result<Self, SlotDied> {
        let child = nursery.child(Pool::Processes, Some(&opening), false).await?;
        let pid = Arc::new(AtomicU32::new(child.pid().unsigned_abs()));
        Ok(Self { nursery, opening, child: Some(child), pid })
    }

    /// Keeps a process for the next run.
    pub(super) fn keep(&mut self, child: Child) {
        self.child = Some(child);
    }

    /// The slot's process, or another in its place.
    pub(super) async fn child(&mut self) -> Result<Child, SlotDied> {
        match self.child.take() {
            Some(child) if !child.is_dead() => Ok(child),
            _ => {
                let child = self.nursery.child(Pool::Processes, Some(&self.opening), true).await?;
                self.pid.store(child.pid().unsigned_abs(), Ordering::Relaxed);
                Ok(child)
            }
        }
    }

    /// Has the process that comes next tell those who listen in Python that `job` was lost with its own. Nothing that is stored
    /// depends on it.
    pub(super) async fn tell_of(&mut self, job: &Job, lost: &Lost) {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let told = async {
            let mut frame = BytesMut::new();
            request::write_lost(number, job, lost, &mut frame).map_err(|error| error.to_string())?;
            let mut child = self.child().await.map_err(|died| died.detail)?;
            child.run(number, &frame, working(job)).await;
            while let Some(frame) = child.next().await {
                if frame.kind == Kind::Done {
                    child.rest();
                    self.child = Some(child).filter(|_| Done::read(&frame).is_ok_and(|done| !done.retire));
                    return Ok(());
                }
            }
            Err(child.epitaph().await)
        };
        let id = &job.invocation.headers.id;
        match timeout(HEAR_WITHIN, told).await {
            Ok(Ok(())) => {}
            Ok(Err(detail)) => tracing::warn!(task_id = %id, "the handlers of a task that was lost were not called: {detail}"),
            Err(_) => tracing::warn!(task_id = %id, "the handlers of a task that was lost did not end within {HEAR_WITHIN:?}"),
        }
    }
}

/// Waits for `what`, which may take a process's start, and gives back what is handed meanwhile: others may have nothing to do.
pub(super) async fn giving_back<T>(hand: &mut Hand, what: impl Future<Output = T>) -> T {
    let mut what = pin!(what);
    loop {
        tokio::select! {
            biased;
            done = &mut what => return done,
            handed = hand.next() => hand.tell(Told::Returned(match handed {
                Handed::Job(given) => vec![given.run],
                Handed::Return => Vec::new(),
            })),
        }
    }
}

/// What a process works on, for its log.
pub(super) fn working(job: &Job) -> Working {
    let headers = &job.invocation.headers;
    Working { id: headers.id.clone(), name: headers.task.clone() }
}

#[async_trait]
impl Slot for PythonSlot {
    async fn run(&mut self, job: Job) -> Result<Outcome, SlotDied> {
        let (hand, _handing, mut told) = Hand::new();
        self.work(Given { run: 0, job }, hand).await?;
        while let Some(told) = told.recv().await {
            if let Told::Ended { outcome, .. } = told {
                return Ok(*outcome);
            }
        }
        Err(SlotDied { detail: "its run ended without an outcome".to_owned() })
    }

    fn takes_ahead(&self) -> bool {
        true
    }

    async fn work(&mut self, first: Given, mut hand: Hand) -> Result<(), SlotDied> {
        let Given { run, job } = first;
        let ended = |outcome| hand.tell(Told::Ended { run, outcome: Box::new(outcome), took: None });
        if *job.orders.borrow() == Order::Terminate {
            ended(revoked());
            return Ok(());
        }
        let mut frame = BytesMut::new();
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = request::write(number, &job, &mut frame) {
            ended(Outcome::Failure(TaskError::new("kombu.exceptions", "EncodeError", error.to_string())));
            return Ok(());
        }
        let mut child = giving_back(&mut hand, self.child()).await?;
        child.run(number, &frame, working(&job)).await;
        Batch::new(self, child, hand, Flight::new(run, number, job)).finish().await
    }

    fn process(&self) -> Option<Arc<AtomicU32>> {
        Some(self.pid.clone())
    }
}

/// How a run ended whose process says so. Once that is stored, that is how.
pub(super) fn end(done: Done, frame: &Frame, told: Option<Ended>, job: &Job) -> Outcome {
    match told.filter(Ended::is_stored) {
        Some(told) => told.outcome(job),
        None => done.outcome(frame),
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
