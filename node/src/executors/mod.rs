//! The executor seam: what runs tasks.
//!
//! **What a contributor writes.** An [`Executor`] that knows tasks by name, and a [`Slot`] that runs one at a time. Neither
//! knows brokers, backends or workflows: a slot is given an invocation and answers with an outcome, or dies.
//!
//! **What it must promise.** A run ends by itself, or soon after its [`Job::orders`] say so. A panic inside a task is an
//! outcome. A slot that cannot go on answers [`SlotDied`]; the pool keeps the claim, so nothing is lost with it.
//!
//! **What bounds it.** The pool opens as many slots as it has room for, and gives each one job at a time; where a slot can begin
//! the next one by itself, a few ahead ([`hand`]). The proof is `tests/src/conformance/executor.rs`.

pub mod command;
mod deciding;
mod hand;
pub mod native;
pub mod python;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use umbel_proto::{Invocation, Millis, Outcome, QueueName, TaskName, TimeLimit, Value};
use umbel_scheduler::{TaskSpec, devices::Device};

pub use self::{
    deciding::{Decided, Hearer, Interest, Verdict},
    hand::{Given, HAND_MAX, Hand, Handed, Told},
};
use crate::client::Client;

/// A way of running tasks.
#[async_trait]
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// What it is called in metrics and tables.
    fn kind(&self) -> &'static str;

    /// The tasks it runs.
    fn tasks(&self) -> Vec<Arc<TaskSpec>>;

    /// What is known of `task`; `None` when this executor does not run it.
    fn spec(&self, task: &TaskName) -> Option<Arc<TaskSpec>>;

    /// Told once by the node, before the first slot is opened: what tasks may send others with.
    fn attach(&self, _client: Client) {}

    /// Whether each slot can have a device of its own. Those that share a process share what that sees.
    fn has_devices(&self) -> bool {
        true
    }

    /// Who is to know how its tasks end where no run of theirs tells; `None` where nobody is.
    fn hearer(&self) -> Option<&dyn Hearer> {
        None
    }

    /// Makes room for one more task at a time.
    async fn open(&self, opening: Opening) -> Result<Box<dyn Slot>, SlotDied>;
}

/// What a slot is opened with.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Its number in its pool. The slot that takes the place of one that died has the same.
    pub slot: usize,
    /// The device its tasks are to use, if there are devices. A slot that takes another's place leaves it alone until nothing of the
    /// other's is left.
    pub device: Option<Device>,
}

/// Room for one task at a time.
#[async_trait]
pub trait Slot: Send + fmt::Debug {
    /// Runs a job to its outcome.
    async fn run(&mut self, job: Job) -> Result<Outcome, SlotDied>;

    /// Whether it can begin the next job by itself when one has ended.
    fn takes_ahead(&self) -> bool {
        false
    }

    /// Runs a job, and those that it is handed meanwhile, and returns when all have ended or were given back. What is in the hand then
    /// was not looked at. Everything that begins ends by [`Told::Ended`], unless the slot dies or this is dropped.
    async fn work(&mut self, first: Given, hand: Hand) -> Result<(), SlotDied> {
        let outcome = self.run(first.job).await?;
        hand.tell(Told::Ended { run: first.run, outcome: Box::new(outcome), took: None });
        Ok(())
    }

    /// Where it writes the id of the process that its tasks run in, 0 while there is none; `None` when they run in this one.
    fn process(&self) -> Option<Arc<AtomicU32>> {
        None
    }
}

/// One task to run.
#[derive(Debug)]
pub struct Job {
    /// What to run.
    pub invocation: Arc<Invocation>,
    /// What is known of it.
    pub spec: Arc<TaskSpec>,
    /// The queue it came from.
    pub queue: QueueName,
    /// Which taking of its message this is: the fencing token that user code may hand to stores of its own.
    pub attempt: u32,
    /// The limits that hold: the call's, else the task's.
    pub limits: TimeLimit,
    /// When the hard limit ends the run; known when it begins.
    pub deadline: Option<Millis>,
    /// Orders that arrive while it runs.
    pub orders: watch::Receiver<Order>,
    /// Where states of its own go (`update_state`, progress). Bounded; what finds no room is dropped, and the task is never blocked.
    pub progress: mpsc::Sender<Progress>,
    /// Where an ending goes that is to be stored before the run is over. Whoever sends one waits for the answer.
    pub early: mpsc::Sender<Early>,
}

/// What a running task may be told. The later, the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Order {
    /// Go on.
    #[default]
    Run,
    /// The node wants to stop: a task that can leave its work for another time may do so. None is failed for it.
    Drain,
    /// The soft time limit has passed: finish soon, or fail by it.
    Hurry,
    /// The hard time limit has passed, or the task was revoked while it ran: end by force. The slot answers
    /// [`Outcome::Revoked`]; whoever gave the order knows better, if it was the limit.
    Terminate,
}

impl Job {
    /// It begins now: from here its hard limit counts.
    pub fn begins(&mut self, now: Millis) {
        let limit = self.limits.hard_secs.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
        self.deadline = limit.and_then(|limit| now.checked_add(Millis::try_from(limit.as_millis()).ok()?));
    }
}

/// A state of a task's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The state's name; Celery's custom is `PROGRESS`.
    pub state: String,
    /// What it says.
    pub meta: Value,
}

/// How the task has ended whose run goes on: its executor is about to call handlers or errbacks, which are to find its result. An
/// executor that sends it ends the run with [`Outcome::Told`] or [`Outcome::FailureTold`], or dies.
#[derive(Debug)]
pub struct Early {
    /// The ending.
    pub outcome: Box<Outcome>,
    /// Told whether its results are stored. Where they are not, or nobody answers any more, the ending will store them if it still can;
    /// no errback may be called.
    pub stored: oneshot::Sender<bool>,
}

/// A slot can run nothing any more.
#[derive(Debug, Clone, Error)]
#[error("the executor died: {detail}")]
pub struct SlotDied {
    /// How, for a person.
    pub detail: String,
}
