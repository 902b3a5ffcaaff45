//! The slot: runs one task at a time.
//!
//! **What it owns.** One [`Slot`] of an executor, which may be a child process. **Who sends to it.** Its pool: a job, and
//! another when its work is done; meanwhile, where the executor can begin the next by itself, a few more. **What it sends on.** News
//! and the outcomes of its runs, to the pool, its parent. **What bounds it.** The pool gives it one job at a time, and hands it at most
//! [`HAND_MAX`](crate::executors::HAND_MAX) behind that; news of a run waits in a channel of [`NEWS_MAX`].
//!
//! **When it dies**, by [`SlotDied`](crate::executors::SlotDied) or by a panic, the pool still has the claims of what it ran and was
//! handed, settles the one as the loss of its worker, and starts another slot. Its handler is the run: killing the actor drops the run.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use umbel_proto::Outcome;

use super::{
    cast,
    pool::{PoolMsg, SlotPlace},
};
use crate::{
    executors::{Early, Executor, Given, Hand, Handed, Job, Opening, Progress, Slot, SlotDied, Told},
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
        /// The job.
        first: Numbered,
        /// What it is handed while it works, where its executor can begin the next by itself.
        handing: Option<mpsc::Receiver<Handing>>,
    },
}

/// A job with everything that its slot needs.
pub(crate) struct Numbered {
    /// The number of the run in its pool.
    pub(crate) run: u64,
    /// What to run.
    pub(crate) job: Box<Job>,
    /// The other end of the job's news.
    pub(crate) news: mpsc::Receiver<Progress>,
    /// And of how it has ended before it is over.
    pub(crate) early: mpsc::Receiver<Early>,
}

/// What it is handed while it works.
pub(crate) enum Handing {
    /// Run this when what is before it has ended.
    Job(Numbered),
    /// Give back what has not begun.
    Return,
}

/// What it tells its pool.
pub(crate) enum SlotNews {
    /// What a task has to say of how far it has come.
    Progressed { run: u64, progress: Progress },
    /// It has ended, and waits for that to be stored before it is over.
    Early { run: u64, early: Early },
    /// A job that it was handed has begun.
    Began { run: u64 },
    /// The job that ran has ended, and how long it took, where it is known.
    Ended { run: u64, outcome: Box<Outcome>, took: Option<Duration> },
    /// These that it was handed will not begin here.
    Returned(Vec<u64>),
    /// Its work is done; what else it was handed it has not looked at.
    Free,
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
        let (process, takes_ahead) = (slot.process(), slot.takes_ahead());
        cast(&state.args.pool, PoolMsg::SlotOpened { place: state.args.place, process, takes_ahead });
        Ok(())
    }

    async fn handle(&self, _: ActorRef<SlotMsg>, message: SlotMsg, state: &mut State) -> Result<(), ActorProcessingErr> {
        let SlotMsg::Run { first, handing } = message;
        let State { args, slot } = state;
        let Some(slot) = slot else { return Err("the slot was given a job before it was open".into()) };
        args.faults.hit("slot.run");
        let mut teller = Teller { args, runs: VecDeque::new(), news: Vec::new() };
        let first = teller.listen(first);
        let worked = match handing {
            Some(handing) => teller.work(slot.as_mut(), first, handing).await,
            None => teller.run(slot.as_mut(), first).await,
        };
        if worked.is_ok() {
            teller.news.push(SlotNews::Free);
        }
        // What was told before a slot died counts.
        teller.tell();
        Ok(worked?)
    }
}

/// Tells the pool what becomes of the runs.
struct Teller<'a> {
    args: &'a SlotArgs,
    /// The runs in their order; the first is the one that has begun.
    runs: VecDeque<Listening>,
    news: Vec<SlotNews>,
}

/// What a run says of itself.
struct Listening {
    run: u64,
    news: mpsc::Receiver<Progress>,
    early: mpsc::Receiver<Early>,
}

impl Teller<'_> {
    /// Listens to what a job will say.
    fn listen(&mut self, numbered: Numbered) -> Given {
        let Numbered { run, job, news, early } = numbered;
        self.runs.push_back(Listening { run, news, early });
        Given { run, job: *job }
    }

    /// One job.
    async fn run(&mut self, slot: &mut dyn Slot, only: Given) -> Result<(), SlotDied> {
        let Given { run, job } = only;
        let mut outcome = pin!(slot.run(job));
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut outcome => break outcome?,
                Some(said) = self.said() => self.pass_on(said),
            }
        };
        self.take(Told::Ended { run, outcome: Box::new(outcome), took: None });
        Ok(())
    }

    /// A job, and what is handed meanwhile.
    async fn work(&mut self, slot: &mut dyn Slot, first: Given, mut handing: mpsc::Receiver<Handing>) -> Result<(), SlotDied> {
        let (hand, to, mut told) = Hand::new();
        let mut work = pin!(slot.work(first, hand));
        let worked = loop {
            tokio::select! {
                biased;
                Some(first) = told.recv() => {
                    self.take(first);
                    self.take_all(&mut told);
                    self.tell();
                }
                worked = &mut work => break worked,
                Some(said) = self.said() => self.pass_on(said),
                Some(handed) = handing.recv() => {
                    let handed = match handed {
                        Handing::Job(numbered) => Handed::Job(Box::new(self.listen(numbered))),
                        Handing::Return => Handed::Return,
                    };
                    // There is as much room as at the pool's end.
                    let _ = to.try_send(handed);
                }
            }
        };
        self.take_all(&mut told);
        worked
    }

    fn take_all(&mut self, told: &mut mpsc::UnboundedReceiver<Told>) {
        while let Ok(told) = told.try_recv() {
            self.take(told);
        }
    }

    /// What the run that has begun says next.
    async fn said(&mut self) -> Option<SlotNews> {
        let Listening { run, news, early } = self.runs.front_mut()?;
        let run = *run;
        tokio::select! {
            biased;
            Some(progress) = news.recv() => Some(SlotNews::Progressed { run, progress }),
            Some(early) = early.recv() => Some(SlotNews::Early { run, early }),
            else => None,
        }
    }

    fn pass_on(&mut self, said: SlotNews) {
        self.news.push(said);
        self.tell();
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Began(run) => self.news.push(SlotNews::Began { run }),
            Told::Ended { run, outcome, took } => {
                // What it said last comes before how it ended.
                if let Some(Listening { run, mut news, .. }) = self.runs.pop_front() {
                    while let Ok(progress) = news.try_recv() {
                        self.news.push(SlotNews::Progressed { run, progress });
                    }
                }
                self.args.faults.hit("slot.finished");
                self.news.push(SlotNews::Ended { run, outcome, took });
            }
            Told::Returned(runs) => {
                self.runs.retain(|listening| !runs.contains(&listening.run));
                self.news.push(SlotNews::Returned(runs));
            }
        }
    }

    fn tell(&mut self) {
        let news = std::mem::take(&mut self.news);
        if !news.is_empty() {
            cast(&self.args.pool, PoolMsg::Told { place: self.args.place, news });
        }
    }
}
