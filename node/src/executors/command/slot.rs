//! A slot for commands: one run at a time.
//!
//! **What it owns.** The run it is in: the keeper, the pipes, what has been read. **Who sends to it.** The pool, a job at a time.
//! **What it sends on.** The outcome. **What bounds it.** stdout up to `output_max`, stderr's last 8 KiB, lines of progress of
//! up to 64 KiB; the hard limit; after `Terminate`, `kill_grace`. **When it dies** or is dropped within a run, the keeper ends
//! the command.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::Instrument;
use umbel_proto::{Outcome, TaskError};
use umbel_scheduler::devices::Device;

use super::{
    CommandExecutor,
    call::Call,
    ending::{self, Ending, Stopped},
    keeper::{Keeper, Report},
    output::{ProgressLines, Reader, Tail, Writer},
    task::CommandTask,
};
use crate::executors::{Job, Order, Slot, SlotDied};

/// How long the pipes may stay open after everything has ended; they can only if somebody else was handed them.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Room for one command.
#[derive(Debug)]
pub(super) struct CommandSlot {
    executor: CommandExecutor,
    device: Option<Device>,
    process: Arc<AtomicU32>,
}

impl CommandSlot {
    pub(super) fn new(executor: CommandExecutor, device: Option<Device>) -> Self {
        Self { executor, device, process: Arc::default() }
    }
}

#[async_trait]
impl Slot for CommandSlot {
    async fn run(&mut self, job: Job) -> Result<Outcome, SlotDied> {
        let headers = &job.invocation.headers;
        let span = tracing::info_span!("task", task_id = %headers.id, task_name = %headers.task);
        let Some(task) = self.executor.task(&headers.task) else {
            return Ok(Outcome::Failure(TaskError::new("celery.exceptions", "NotRegistered", headers.task.as_str())));
        };
        let outcome = run(&task, self, job).instrument(span).await;
        self.process.store(0, Ordering::Relaxed);
        outcome
    }

    fn process(&self) -> Option<Arc<AtomicU32>> {
        Some(self.process.clone())
    }
}

async fn run(task: &Arc<CommandTask>, slot: &CommandSlot, job: Job) -> Result<Outcome, SlotDied> {
    let mut orders = job.orders.clone();
    // A task with a bound of its own waits in its slot: the pool has no room of its own kinds.
    let _room = match &task.room {
        None => None,
        Some(room) => tokio::select! {
            biased;
            () = reached(&mut orders, Order::Terminate) => return Ok(Outcome::Revoked { terminated: true, signal: None }),
            room = Arc::clone(room).acquire_owned() => room.ok(),
        },
    };
    let call = match Call::new(task, &job, slot.device.as_ref()) {
        Ok(call) => call,
        Err(error) => return Ok(Outcome::Failure(*error)),
    };
    let started = Keeper::start(slot.executor.launcher(), &call.request).await;
    let (keeper, pipes) = match started {
        Ok(started) => started,
        Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong => {
            return Ok(Outcome::Failure(TaskError::new("builtins", "OSError", error.to_string())));
        }
        Err(error) => return Err(SlotDied { detail: format!("cannot start a process: {error}") }),
    };
    let pipe = |error: io::Error| SlotDied { detail: format!("cannot open a pipe: {error}") };
    let run = Run {
        task,
        process: &slot.process,
        job: &job,
        stdin: Writer::new(pipes.stdin, call.stdin).map_err(pipe)?,
        stdout: Reader::new(pipes.stdout).map_err(pipe)?,
        stderr: Reader::new(pipes.stderr).map_err(pipe)?,
        progress: Reader::new(pipes.progress).map_err(pipe)?,
        lines: ProgressLines::default(),
        output: Vec::new(),
        tail: Tail::default(),
        stopped: None,
        kill_at: deadline(&job),
        keeper,
    };
    Ok(run.wait(orders).await)
}

/// One run of one command.
struct Run<'a> {
    task: &'a CommandTask,
    process: &'a AtomicU32,
    job: &'a Job,
    keeper: Keeper,
    stdin: Writer,
    stdout: Reader,
    stderr: Reader,
    progress: Reader,
    lines: ProgressLines,
    output: Vec<u8>,
    tail: Tail,
    /// Why it was told to stop; the first reason counts, except that a revoke counts before a soft limit.
    stopped: Option<Stopped>,
    /// When it is killed: the hard limit, or the end of the grace.
    kill_at: Option<Instant>,
}

impl Run<'_> {
    async fn wait(mut self, mut orders: watch::Receiver<Order>) -> Outcome {
        let mut heard = Order::Drain;
        let ending = loop {
            let kill_at = self.kill_at;
            tokio::select! {
                biased;
                report = self.keeper.next() => match report {
                    Some(Report::Started { pid }) => {
                        self.process.store(u32::try_from(pid).unwrap_or(0), Ordering::Relaxed);
                        tracing::debug!(pid, "the command runs");
                    }
                    Some(Report::Exited { code, signal }) => break Ending::Exited { code, signal },
                    Some(Report::Failed { reason }) => break Ending::NotStarted { reason },
                    None => break Ending::KeeperDied,
                },
                order = next_order(&mut orders, heard) => {
                    heard = order;
                    self.obey(order);
                }
                () = at(kill_at) => self.kill(),
                read = self.stdout.next(), if !self.stdout.ended() => {
                    let overflow = self.output.len() + read.len() > self.task.output_max;
                    // What is beyond the bound is read on and thrown away until the command is gone.
                    if overflow {
                        self.overflow();
                    } else {
                        self.output.extend_from_slice(read);
                    }
                }
                read = self.stderr.next(), if !self.stderr.ended() => self.tail.push(read),
                read = self.progress.next(), if !self.progress.ended() => self.lines.push(read, &self.job.progress),
                () = self.stdin.next(), if !self.stdin.ended() => {}
            }
        };
        // Everything has ended: what is left in the pipes is at most what fits into them.
        if timeout(DRAIN_MAX, self.drain()).await.is_err() {
            tracing::warn!("a pipe of a command that has ended is held open by another process");
        }
        let seen = ending::Seen { output: &self.output, stderr: &self.tail.text(), stopped: self.stopped };
        ending::outcome(self.task, self.job, ending, &seen)
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            // Nothing tells a command to leave its work for another time.
            Order::Run | Order::Drain => {}
            Order::Hurry => {
                self.stopped.get_or_insert(Stopped::SoftLimit);
                self.keeper.signal(Signal::TERM);
                // With a hard limit it has until then; without one, the grace.
                self.kill_at.get_or_insert(now + self.task.kill_grace);
            }
            Order::Terminate => {
                let past_limit = self.job.deadline.is_some_and(|deadline| deadline <= wall_clock());
                if past_limit {
                    return self.kill();
                }
                self.stopped = Some(Stopped::Revoked { killed: false });
                self.keeper.signal(Signal::TERM);
                let grace = now + self.task.kill_grace;
                self.kill_at = Some(self.kill_at.map_or(grace, |limit| limit.min(grace)));
            }
        }
    }

    fn kill(&mut self) {
        self.kill_at = None;
        self.keeper.signal(Signal::KILL);
        self.stopped = Some(match self.stopped {
            Some(Stopped::Revoked { .. }) => Stopped::Revoked { killed: true },
            Some(Stopped::Overflow) => Stopped::Overflow,
            Some(Stopped::SoftLimit) if self.job.limits.hard_secs.is_none() => Stopped::SoftLimit,
            _ => Stopped::HardLimit,
        });
    }

    fn overflow(&mut self) {
        if self.stopped.is_none() {
            self.stopped = Some(Stopped::Overflow);
            self.kill();
        }
    }

    async fn drain(&mut self) {
        while !self.stdout.ended() {
            let read = self.stdout.next().await;
            if self.output.len() + read.len() > self.task.output_max {
                self.stopped.get_or_insert(Stopped::Overflow);
            } else {
                self.output.extend_from_slice(read);
            }
        }
        while !self.stderr.ended() {
            let read = self.stderr.next().await;
            self.tail.push(read);
        }
        while !self.progress.ended() {
            let read = self.progress.next().await;
            self.lines.push(read, &self.job.progress);
        }
    }
}

/// When the hard limit is: the job's own time, else the limit from now.
fn deadline(job: &Job) -> Option<Instant> {
    let left = match (job.deadline, job.limits.hard_secs) {
        (Some(deadline), _) => Duration::from_millis(u64::try_from(deadline - wall_clock()).unwrap_or(0)),
        (None, limit) => Duration::try_from_secs_f64(limit?).ok()?,
    };
    Instant::now().checked_add(left)
}

fn wall_clock() -> umbel_proto::Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for an order stronger than `heard`.
async fn next_order(orders: &mut watch::Receiver<Order>, heard: Order) -> Order {
    let order = orders.wait_for(|order| *order > heard).await.ok().map(|order| *order);
    match order {
        Some(order) => order,
        // Whoever gave orders is gone and gives none any more.
        None => std::future::pending().await,
    }
}

async fn reached(orders: &mut watch::Receiver<Order>, order: Order) {
    if orders.wait_for(|now| *now >= order).await.is_err() {
        std::future::pending().await
    }
}
