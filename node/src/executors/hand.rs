//! What a slot is handed behind the job that it runs.
//!
//! A slot whose tasks are short would wait for its pool longer than it works. Where it can begin the next job by itself
//! ([`Slot::takes_ahead`](super::Slot::takes_ahead)), the pool hands it a few more, and each of them is, at every instant, either
//! begun or not: the slot knows which, says when one begins, and gives back those that have not when it is told to, when the one
//! before takes long, and when whatever runs them has died. **What bounds it.** The pool hands a slot at most [`HAND_MAX`] at a time.

use std::time::Duration;

use tokio::sync::mpsc;
use umbel_proto::Outcome;

use super::Job;

/// The most jobs that a slot is handed behind the one it runs.
pub const HAND_MAX: usize = 16;

/// A job, and the number that its pool knows the run by.
#[derive(Debug)]
pub struct Given {
    /// The number.
    pub run: u64,
    /// The job.
    pub job: Job,
}

/// What a slot is told while it works.
#[derive(Debug)]
pub enum Handed {
    /// Begin this when all before it has ended.
    Job(Box<Given>),
    /// Give back what has not begun.
    Return,
}

/// What a slot tells while it works.
#[derive(Debug)]
pub enum Told {
    /// A job that it was handed has begun; those before it have ended.
    Began(u64),
    /// The job that had begun has ended, and how long it took, if that is known better than by looking at the clock now.
    Ended {
        /// Its number.
        run: u64,
        /// How.
        outcome: Box<Outcome>,
        /// How long it took.
        took: Option<Duration>,
    },
    /// These have not begun and will not begin here, in their order. It is also the answer to [`Handed::Return`], be it empty.
    Returned(Vec<u64>),
}

/// A slot's end of what it is handed.
#[derive(Debug)]
pub struct Hand {
    handed: mpsc::Receiver<Handed>,
    told: mpsc::UnboundedSender<Told>,
}

impl Hand {
    /// A hand, with the other ends of what goes in and comes out. What comes out is as much as went in: nothing else bounds it.
    pub fn new() -> (Self, mpsc::Sender<Handed>, mpsc::UnboundedReceiver<Told>) {
        // Room for a word to return beside as many jobs as there may be.
        let (to, handed) = mpsc::channel(HAND_MAX + 1);
        let (told, from) = mpsc::unbounded_channel();
        (Self { handed, told }, to, from)
    }

    /// What it is told next; never, once nobody is there to tell. It may be dropped at any point.
    pub async fn next(&mut self) -> Handed {
        match self.handed.recv().await {
            Some(handed) => handed,
            None => std::future::pending().await,
        }
    }

    /// What it has been told by now.
    pub fn try_next(&mut self) -> Option<Handed> {
        self.handed.try_recv().ok()
    }

    /// Tells the pool. One that is gone needs to know nothing.
    pub fn tell(&self, told: Told) {
        let _ = self.told.send(told);
    }
}
