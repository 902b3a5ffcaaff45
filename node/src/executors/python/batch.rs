//! What a process runs without a pause: one task, and those it was handed behind that.
//!
//! **What it owns.** The process, and the runs that it has, in their order: the first has begun, and of the others as many as
//! the process has received. **Who sends to it.** The slot, by [`Hand`]. **What it sends on.** What becomes of each run, in
//! order. **What bounds it.** The hand. **When the process dies**, one run is lost at most: a process receives the next run
//! when one has ended, tells of that end, and begins then. So the first run whose end was not told had begun, if it was
//! received, and none of those behind it; those are given back. **When this is dropped**, so is the process, and it is killed.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};
use umbel_proto::Outcome;

use super::{
    child::Child,
    failing::{self, Told as Failed},
    frame::{Frame, Kind},
    outcome::Done,
    request::{self, Lost},
    slot::{PythonSlot, RUNS, end, next_order, progress, revoked, working},
};
use crate::{
    clock,
    executors::{Given, Hand, Handed, Job, Order, SlotDied, Told},
};

/// How often to look for endings that nobody is woken by.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a task may run before those behind it are given back: they may not wait for it while others have nothing to do.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(10);

/// How often a run is given to a process that dies before it has begun with it.
const TRIES: u32 = 2;

/// A run that a process has.
#[derive(Debug)]
pub(super) struct Flight {
    /// The pool's number.
    run: u64,
    /// The process's.
    number: u64,
    job: Job,
    /// The strongest order it has heard.
    heard: Order,
    /// How many processes it was given to.
    tries: u32,
}

impl Flight {
    pub(super) fn new(run: u64, number: u64, job: Job) -> Self {
        Self { run, number, job, heard: Order::Run, tries: 1 }
    }
}

/// See the module.
pub(super) struct Batch<'a> {
    slot: &'a mut PythonSlot,
    child: Child,
    hand: Hand,
    flights: VecDeque<Flight>,
    /// Endings that came before those of earlier runs, which come another way.
    early: HashMap<u64, (Done, Frame)>,
    /// The failure that the first one has told of.
    failed: Option<Failed>,
    /// Since when the first one runs.
    since: Instant,
    /// When to look next.
    look: Instant,
    /// Its process is to be replaced.
    retired: bool,
}

impl<'a> Batch<'a> {
    pub(super) fn new(slot: &'a mut PythonSlot, child: Child, hand: Hand, first: Flight) -> Self {
        let now = Instant::now();
        let flights = VecDeque::from([first]);
        Self { slot, child, hand, flights, early: HashMap::new(), failed: None, since: now, look: now, retired: false }
    }

    /// Runs everything, and returns when nothing is left.
    pub(super) async fn finish(mut self) -> Result<(), SlotDied> {
        loop {
            let several = self.flights.len() > 1;
            let Some(first) = self.flights.front_mut() else { break };
            tokio::select! {
                biased;
                frame = self.child.next() => match frame {
                    Some(frame) => {
                        self.passed();
                        if let Err(problem) = self.hear(frame).await {
                            self.broken(problem);
                            return Ok(());
                        }
                    }
                    None => {
                        self.passed();
                        match self.died().await? {
                            Some(again) => self = again,
                            None => return Ok(()),
                        }
                    }
                },
                stored = failing::answered(&mut self.failed) => {
                    let mut answer = BytesMut::new();
                    failing::answer(first.number, stored, &mut answer);
                    self.child.send(&answer).await;
                }
                order = next_order(&mut first.job.orders, first.heard) => {
                    first.heard = order;
                    let number = first.number;
                    match order {
                        Order::Hurry => self.child.hurry(number),
                        Order::Terminate if self.is_alone(number) => return self.terminate().await,
                        Order::Terminate | Order::Run | Order::Drain => {}
                    }
                }
                () = sleep_until(self.look), if several => {
                    self.passed();
                    if self.since.elapsed() >= GIVE_BACK_AFTER {
                        self.give_back();
                    }
                    self.look = Instant::now() + LOOK_EVERY;
                }
                handed = self.hand.next() => self.take(handed),
            }
        }
        self.child.rest();
        if !self.retired {
            self.slot.keep(self.child);
        }
        Ok(())
    }

    /// Takes what it is handed, and what else lies there.
    fn take(&mut self, handed: Handed) {
        let mut next = Some(handed);
        while let Some(handed) = next {
            match handed {
                Handed::Job(given) => self.take_job(*given),
                Handed::Return => self.give_back(),
            }
            next = self.hand.try_next();
        }
    }

    fn take_job(&mut self, given: Given) {
        let Given { run, job } = given;
        let number = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut frame = BytesMut::new();
        // What cannot be written fails when it comes first.
        let given = !self.retired && request::write(number, &job, &mut frame).is_ok() && self.child.run_next(&frame);
        if !given {
            self.hand.tell(Told::Returned(vec![run]));
            return;
        }
        if self.flights.len() == 1 {
            self.look = Instant::now() + LOOK_EVERY;
        }
        self.flights.push_back(Flight::new(run, number, job));
    }

    /// Takes back what the process has not received; the first has begun, or is about to.
    fn give_back(&mut self) {
        let back = self.child.take_back();
        let mut count = back.len();
        if count == self.flights.len()
            && let Some(first) = back.first()
        {
            self.child.run_again(first);
            count -= 1;
        }
        self.returned(self.flights.len() - count);
    }

    /// Tells of those behind the first `stay` that they will not begin here.
    fn returned(&mut self, stay: usize) {
        let back = self.flights.split_off(stay);
        self.hand.tell(Told::Returned(back.into_iter().map(|flight| flight.run).collect()));
    }

    /// Takes in the endings of what the process has gone on from by itself.
    fn passed(&mut self) {
        if self.flights.len() > 1 {
            for frame in self.child.passed() {
                if let Err(problem) = self.done(frame) {
                    tracing::error!("a Python process told the end of a run as no one can: {problem}");
                }
            }
        }
    }

    async fn hear(&mut self, frame: Frame) -> Result<(), String> {
        let Some(first) = self.flights.front() else { return Ok(()) };
        match frame.kind {
            Kind::Progress => progress(&frame, &first.job),
            Kind::Failing => self.failed = Some(Failed::read(&frame, &first.job).await?),
            Kind::Called => self.failed.iter_mut().for_each(|failed| failed.called(&frame)),
            Kind::Done => self.done(frame)?,
            other => return Err(format!("it sent {other:?} while it ran a task")),
        }
        Ok(())
    }

    fn done(&mut self, frame: Frame) -> Result<(), String> {
        let done = Done::read(&frame)?;
        self.early.insert(done.run, (done, frame));
        self.end_all();
        Ok(())
    }

    /// Ends what has ended, in order.
    fn end_all(&mut self) {
        while let Some((done, frame)) = self.flights.front().and_then(|first| self.early.remove(&first.number)) {
            let Some(Flight { run, job, .. }) = self.flights.pop_front() else { return };
            let (retire, took) = (done.retire, done.took.map(Duration::from_micros));
            self.hand.tell(Told::Ended { run, outcome: Box::new(end(done, &frame, self.failed.take(), &job)), took });
            self.since = Instant::now();
            if retire {
                // It has received nothing else, and will not.
                self.retired = true;
                self.child.take_back();
                self.returned(0);
            }
            if let Some(next) = self.flights.front_mut() {
                next.job.begins(clock::now());
                self.child.goes_on(working(&next.job));
                self.hand.tell(Told::Began(next.run));
            }
        }
        if self.flights.is_empty() {
            self.early.clear();
        }
    }

    /// Whether the process can be killed for the first run's sake, and for its alone: all others are given back. Where it has received
    /// another one, the first has ended, and only its end is still to be heard.
    fn is_alone(&mut self, number: u64) -> bool {
        self.passed();
        if self.flights.front().is_none_or(|first| first.number != number) {
            return false;
        }
        let back = self.child.take_back().len().min(self.flights.len() - 1);
        self.returned(self.flights.len() - back);
        self.flights.len() == 1
    }

    /// Ends the first run by force.
    async fn terminate(mut self) -> Result<(), SlotDied> {
        // Dropped while it works: killed.
        drop(self.child);
        let Some(Flight { run, job, .. }) = self.flights.pop_front() else { return Ok(()) };
        if job.deadline.is_some_and(|deadline| clock::now() >= deadline) {
            self.slot.tell_of(&job, &Lost { limit: job.limits.hard_secs, detail: String::new() }).await;
        }
        let outcome = self.failed.map_or_else(revoked, |failed| failed.outcome(&job));
        self.hand.tell(Told::Ended { run, outcome: Box::new(outcome), took: None });
        Ok(())
    }

    /// The process does not speak the protocol.
    fn broken(mut self, problem: String) {
        self.returned(1);
        if let Some(Flight { run, .. }) = self.flights.pop_front() {
            self.hand.tell(Told::Ended { run, outcome: Box::new(Outcome::WorkerLost { detail: problem }), took: None });
        }
    }

    /// The process has died. One that had not begun with the first run leaves that to another.
    async fn died(mut self) -> Result<Option<Self>, SlotDied> {
        if self.flights.is_empty() {
            return Ok(None);
        }
        let begun = self.child.take_back().len() < self.flights.len();
        self.returned(1);
        let Some(Flight { run, job, tries, heard, .. }) = self.flights.pop_front() else { return Ok(None) };
        let detail = self.child.epitaph().await;
        drop(self.child);
        if !begun && tries < TRIES {
            let number = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut frame = BytesMut::new();
            if request::write(number, &job, &mut frame).is_ok() {
                let mut child = self.slot.child().await?;
                child.run(&frame, working(&job)).await;
                let first = Flight { run, number, job, heard, tries: tries + 1 };
                return Ok(Some(Self::new(self.slot, child, self.hand, first)));
            }
        }
        let lost = Lost { limit: None, detail };
        self.slot.tell_of(&job, &lost).await;
        let outcome = self.failed.map_or(Outcome::WorkerLost { detail: lost.detail }, |failed| failed.outcome(&job));
        self.hand.tell(Told::Ended { run, outcome: Box::new(outcome), took: None });
        Ok(None)
    }
}
