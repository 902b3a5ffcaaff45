//! A thread for CPU-bound tasks.
//!
//! **What it owns.** One OS thread, reused for one blocking task after the other. **Who sends to it.** The slot it belongs to.
//! **What it sends on.** What the task returned. **What bounds it.** One task at a time; [`Abandoned`] bounds how many
//! threads may be left behind. **When it dies.** Only by being left: no thread can be ended from outside, so a task that is
//! terminated keeps its thread until it returns by itself, and the slot goes on with another one. (Runtime threads would not
//! do: a runtime waits for its blocking tasks when it ends.)

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread,
};

use tokio::sync::{oneshot, watch};
use umbel_proto::TaskError;

use super::{panics, task::Returned};

type Function = Box<dyn FnOnce() -> Returned + Send>;
type Ended = Result<Returned, TaskError>;

/// Runs whose slot has gone on without them: threads that still compute, futures that still block.
#[derive(Debug, Clone)]
pub(super) struct Abandoned {
    count: watch::Sender<usize>,
    max: usize,
}

impl Abandoned {
    pub(super) fn new(max: usize) -> Self {
        Self { count: watch::Sender::new(0), max }
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    pub(super) fn add(&self) {
        self.count.send_modify(|count| *count += 1);
        let count = self.count();
        tracing::warn!(abandoned = count, max = self.max, "a terminated task does not end and is left to itself");
    }

    pub(super) fn remove(&self) {
        self.count.send_modify(|count| *count = count.saturating_sub(1));
    }

    /// Waits until there are fewer than the most there may be.
    pub(super) async fn room(&self) {
        if self.count() < self.max {
            return;
        }
        tracing::error!(
            abandoned = self.count(),
            max = self.max,
            "too many terminated tasks still run; no blocking task is started until one ends"
        );
        let mut count = self.count.subscribe();
        // The sender is ours, so that there is no error.
        let _ = count.wait_for(|count| *count < self.max).await;
    }
}

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const LEFT: u8 = 2;

struct Work {
    function: Function,
    reply: oneshot::Sender<Ended>,
    state: Arc<AtomicU8>,
}

/// The slot's end of the thread. Dropping it ends the thread after the task it is in.
pub(super) struct Thread {
    work: mpsc::Sender<Work>,
    abandoned: Abandoned,
}

impl Thread {
    /// Starts a thread.
    pub(super) fn start(abandoned: Abandoned) -> std::io::Result<Self> {
        let (work, inbox) = mpsc::channel::<Work>();
        let gauge = abandoned.clone();
        thread::Builder::new().name("umbel-blocking".to_owned()).spawn(move || {
            for Work { function, reply, state } in inbox {
                let ended = panics::catch(function);
                if state.swap(ENDED, Ordering::AcqRel) == LEFT {
                    gauge.remove();
                }
                // Nobody waits any more when the run was left.
                let _ = reply.send(ended);
            }
        })?;
        Ok(Self { work, abandoned })
    }

    /// Runs a function and returns its ending and the thread, ready for the next. Dropping the future leaves thread and
    /// function to themselves, counted as abandoned until the function returns.
    pub(super) async fn run(self, function: Function) -> Option<(Ended, Self)> {
        let (reply, ended) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(RUNNING));
        let mut guard = LeaveOnDrop { state: Arc::clone(&state), abandoned: self.abandoned.clone(), armed: true };
        let sent = self.work.send(Work { function, reply, state });
        let ended = match sent {
            Ok(()) => ended.await.ok(),
            Err(_) => None,
        };
        guard.armed = false;
        Some((ended?, self))
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thread")
    }
}

struct LeaveOnDrop {
    state: Arc<AtomicU8>,
    abandoned: Abandoned,
    armed: bool,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // Counted first: the thread may end, and take it off, right after the exchange.
        self.abandoned.add();
        if self.state.compare_exchange(RUNNING, LEFT, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.abandoned.remove();
        }
    }
}
