//! What a process runs without a pause: one task, and those it was handed behind that.
//!
//! **What it owns.** The process, and the runs that it has, in their order: the first has begun, and of the others as many as
//! the process has received. **Who sends to it.** The slot, by [`Hand`]. **What it sends on.** What becomes of each run, in
//! order. **What bounds it.** The hand. **When the process dies**, one run is lost at most: a process receives the next run
//! when one has ended, tells of that end, and begins then. So the first run whose end was not told had begun, if it was
//! received, and none of those behind it; those are given back. **When this is dropped**, so is the process, and it is killed.
//!
//! What is given back is what was taken out of the socket, by its number: the process may receive one of them while the node takes
//! the others, so their number says nothing of which they are.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};

use super::{
    child::Child,
    early::{self, Told as Ended},
    frame::{Frame, Kind},
    outcome::Done,
    request::{self, Lost},
    slot::{PythonSlot, RUNS, end, giving_back, next_order, progress, revoked, working},
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
    ahead: HashMap<u64, (Done, Frame)>,
    /// How the first one has ended that is not over yet.
    ended: Option<Ended>,
    /// Since when the first one runs.
    since: Instant,
    /// When to look next.
    look: Instant,
    /// What has not begun is to be given back as soon as the first one has begun for certain.
    wanted: bool,
    /// Its process is to be replaced.
    retired: bool,
    /// What its process said that no one can understand.
    broken: Option<String>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(slot: &'a mut PythonSlot, child: Child, hand: Hand, first: Flight) -> Self {
        let now = Instant::now();
        let flights = VecDeque::from([first]);
        let (ahead, ended, broken) = (HashMap::new(), None, None);
        Self { slot, child, hand, flights, ahead, ended, since: now, look: now, wanted: false, retired: false, broken }
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
                            self.breaks(problem);
                        }
                    }
                    None => match self.died().await? {
                        Some(again) => self = again,
                        None => return Ok(()),
                    }
                },
                stored = early::answered(&mut self.ended) => {
                    let mut answer = BytesMut::new();
                    early::answer(first.number, stored, &mut answer);
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
                    if self.wanted || self.since.elapsed() >= GIVE_BACK_AFTER {
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

    /// Gives back what the process has not received. The first one has been told to have begun, so it is not among that.
    fn give_back(&mut self) {
        let several = self.flights.len() > 1;
        self.wanted = several && self.flights.front().is_some_and(|first| self.child.next_run() == Some(first.number));
        if !self.wanted {
            let back = if several { self.child.take_back() } else { Vec::new() };
            self.returned(&back);
        }
    }

    /// Tells of those with these numbers that they will not begin here; never of the first.
    fn returned(&mut self, back: &[u64]) {
        let mut runs = Vec::new();
        let mut place = 0;
        self.flights.retain(|flight| {
            let stays = place == 0 || !back.contains(&flight.number);
            place += 1;
            if !stays {
                runs.push(flight.run);
            }
            stays
        });
        self.hand.tell(Told::Returned(runs));
    }

    /// Tells the same of all behind the first `stay`.
    fn return_behind(&mut self, stay: usize) {
        let back = self.flights.split_off(stay);
        self.hand.tell(Told::Returned(back.into_iter().map(|flight| flight.run).collect()));
    }

    /// Takes in the endings of what the process has gone on from by itself.
    fn passed(&mut self) {
        if self.flights.len() > 1 {
            for frame in self.child.passed() {
                if let Err(problem) = frame.and_then(|frame| self.done(frame)) {
                    self.breaks(problem);
                }
            }
        }
    }

    /// Nobody understands the process, so it has to go. What it has begun is known once it is dead.
    fn breaks(&mut self, problem: String) {
        self.child.kill();
        self.broken.get_or_insert(problem);
    }

    async fn hear(&mut self, frame: Frame) -> Result<(), String> {
        let Some(first) = self.flights.front() else { return Ok(()) };
        match frame.kind {
            Kind::Progress => progress(&frame, &first.job),
            Kind::Early => self.ended = Some(Ended::read(&frame, &first.job).await?),
            Kind::Called => self.ended.iter_mut().for_each(|ended| ended.called(&frame)),
            Kind::Done => self.done(frame)?,
            other => return Err(format!("it sent {other:?} while it ran a task")),
        }
        Ok(())
    }

    fn done(&mut self, frame: Frame) -> Result<(), String> {
        let done = Done::read(&frame)?;
        self.ahead.insert(done.run, (done, frame));
        self.end_all();
        Ok(())
    }

    /// Ends what has ended, in order.
    fn end_all(&mut self) {
        while let Some((done, frame)) = self.flights.front().and_then(|first| self.ahead.remove(&first.number)) {
            let Some(Flight { run, job, .. }) = self.flights.pop_front() else { return };
            let (retire, took) = (done.retire, done.took.map(Duration::from_micros));
            self.hand.tell(Told::Ended { run, outcome: Box::new(end(done, &frame, self.ended.take(), &job)), took });
            if retire {
                // It has received nothing else, and will not.
                self.retired = true;
                self.child.take_back();
                self.return_behind(0);
            }
            self.goes_on();
        }
        if self.flights.is_empty() {
            self.ahead.clear();
        }
        if self.wanted && self.flights.len() < 2 {
            self.give_back();
        }
    }

    /// The one that is now the first has begun, or is about to.
    fn goes_on(&mut self) {
        self.since = Instant::now();
        if let Some(next) = self.flights.front_mut() {
            next.job.begins(clock::now());
            self.child.goes_on(working(&next.job));
            self.hand.tell(Told::Began(next.run));
        }
    }

    /// Whether the process can be killed for the first run's sake, and for its alone: all others are given back. Where it has received
    /// another one, the first has ended, and only its end is still to be heard; or it was taken back with the others, and never begins.
    fn is_alone(&mut self, number: u64) -> bool {
        self.passed();
        if self.flights.front().is_none_or(|first| first.number != number) {
            return false;
        }
        let back = self.child.take_back();
        self.returned(&back);
        if self.flights.len() == 1 {
            return true;
        }
        if back.contains(&number)
            && let Some(Flight { run, .. }) = self.flights.pop_front()
        {
            self.hand.tell(Told::Ended { run, outcome: Box::new(revoked()), took: None });
            // The rest of it may lie in the other socket.
            self.retired = true;
            self.goes_on();
        }
        false
    }

    /// Ends the first run by force.
    async fn terminate(mut self) -> Result<(), SlotDied> {
        // Dropped while it works: killed.
        drop(self.child);
        let Some(Flight { run, job, .. }) = self.flights.pop_front() else { return Ok(()) };
        if job.deadline.is_some_and(|deadline| clock::now() >= deadline) && self.ended.as_ref().is_none_or(Ended::may_be_lost) {
            let lost = Lost { limit: job.limits.hard_secs, detail: String::new() };
            giving_back(&mut self.hand, self.slot.tell_of(&job, &lost)).await;
        }
        let outcome = self.ended.map_or_else(revoked, |ended| ended.outcome(&job));
        self.hand.tell(Told::Ended { run, outcome: Box::new(outcome), took: None });
        Ok(())
    }

    /// The process has died, or says no more. One that had not begun with the first run leaves that to another.
    async fn died(mut self) -> Result<Option<Self>, SlotDied> {
        // What it has begun is known for certain only when it is dead.
        self.child.kill();
        let epitaph = self.child.epitaph().await;
        self.passed();
        let back = self.child.take_back();
        if self.broken.is_some() {
            // It may have told the end of the first one as no one can, and gone on.
            self.returned(&back);
        } else if !self.flights.is_empty() {
            self.return_behind(1);
        }
        let detail = self.broken.take().unwrap_or(epitaph);
        let Some(Flight { run, number, job, tries, heard }) = self.flights.pop_front() else { return Ok(None) };
        drop(self.child);
        if back.contains(&number) && tries < TRIES {
            let number = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut frame = BytesMut::new();
            if request::write(number, &job, &mut frame).is_ok() {
                let mut child = giving_back(&mut self.hand, self.slot.child()).await?;
                child.run(number, &frame, working(&job)).await;
                if heard == Order::Hurry {
                    child.hurry(number);
                }
                let first = Flight { run, number, job, heard, tries: tries + 1 };
                return Ok(Some(Self::new(self.slot, child, self.hand, first)));
            }
        }
        let lost = Lost { limit: None, detail };
        if self.ended.as_ref().is_none_or(Ended::may_be_lost) {
            giving_back(&mut self.hand, self.slot.tell_of(&job, &lost)).await;
        }
        let outcome = self.ended.map_or_else(|| lost.outcome(), |ended| ended.outcome(&job));
        self.hand.tell(Told::Ended { run, outcome: Box::new(outcome), took: None });
        for Flight { run, number, mut job, .. } in self.flights {
            job.begins(clock::now());
            self.hand.tell(Told::Began(run));
            let outcome = match self.ahead.remove(&number) {
                Some((done, frame)) => end(done, &frame, None, &job),
                None => {
                    giving_back(&mut self.hand, self.slot.tell_of(&job, &lost)).await;
                    lost.outcome()
                }
            };
            self.hand.tell(Told::Ended { run, outcome: Box::new(outcome), took: None });
        }
        Ok(None)
    }
}
