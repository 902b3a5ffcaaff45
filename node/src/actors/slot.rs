//! The slot: runs one task at a time.
//!
//! **What it owns.** One [`Slot`] of an executor, which may be a child process. **Who sends to it.** Its pool: one job, and
//! the next when that one has ended. **What it sends on.** News and the outcome of its run, to the pool, its parent. **What
//! bounds it.** The pool gives it one job at a time; news waits in a channel of [`NEWS_MAX`].
//!
//! **When it dies**, by [`SlotDied`](crate::executors::SlotDied) or by a panic, the pool still has the claim of what it ran,
//! settles that as the loss of its worker, and starts another slot. Its handler is the run: killing the actor drops the run.

use std::{pin::pin, sync::Arc};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use super::{
    cast,
    pool::{PoolMsg, SlotPlace},
};
use crate::{
    executors::{Executor, Failing, Job, Opening, Progress, Slot},
    fault::Faults,
};

/// News of a task that the pool has not looked at yet; more is dropped by the task's side.
pub(crate) const NEWS_MAX: usize = 16;

/// The actor.
pub(crate) struct ExecutorSlot;

/// What it is started with.
pub(crate) struct SlotArgs {
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) opening: Opening,
    pub(crate) pool: ActorRef<PoolMsg>,
    /// Where it is in the pool.
    pub(crate) place: SlotPlace,
    pub(crate) faults: Faults,
}

/// What it is told.
pub(crate) enum SlotMsg {
    /// Run this.
    Run {
        /// The number of the run in its pool.
        run: u64,
        /// What to run.
        job: Box<Job>,
        /// The other end of the job's news.
        news: mpsc::Receiver<Progress>,
        /// And of its failures.
        failing: mpsc::Receiver<Failing>,
    },
}

pub(crate) struct State {
    args: SlotArgs,
    slot: Option<Box<dyn Slot>>,
}

impl Actor for ExecutorSlot {
    type Msg = SlotMsg;
    type State = State;
    type Arguments = SlotArgs;

    async fn pre_start(&self, _: ActorRef<SlotMsg>, args: SlotArgs) -> Result<State, ActorProcessingErr> {
        Ok(State { args, slot: None })
    }

    // Here rather than in `pre_start`, which would keep the pool waiting: opening may start a process.
    async fn post_start(&self, _: ActorRef<SlotMsg>, state: &mut State) -> Result<(), ActorProcessingErr> {
        let slot = state.slot.insert(state.args.executor.open(state.args.opening.clone()).await?);
        let process = slot.process();
        cast(&state.args.pool, PoolMsg::SlotOpened { place: state.args.place, process });
        Ok(())
    }

    async fn handle(&self, _: ActorRef<SlotMsg>, message: SlotMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        let SlotMsg::Run { run, job, mut news, mut failing } = message;
        let State { args, slot } = state;
        let Some(slot) = slot else { return Err("the slot was given a job before it was open".into()) };
        let tell = |progress| cast(&args.pool, PoolMsg::Progressed { place: args.place, run, progress });
        args.faults.hit("slot.run");
        let outcome = {
            let mut outcome = pin!(slot.run(*job));
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut outcome => break outcome?,
                    Some(progress) = news.recv() => tell(progress),
                    Some(failing) = failing.recv() => cast(&args.pool, PoolMsg::Failing { place: args.place, run, failing }),
                }
            }
        };
        // What it said last comes before how it ended.
        while let Ok(progress) = news.try_recv() {
            tell(progress);
        }
        args.faults.hit("slot.finished");
        cast(&args.pool, PoolMsg::Finished { place: args.place, run, outcome });
        Ok(())
    }
}
