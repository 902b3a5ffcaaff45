//! Rate limits: the tasks of one name that wait for their turn.
//!
//! Celery keeps everything above the rate in memory, where it takes up the prefetch and starves other tasks. Here only what
//! will run within [`HOLD_MAX`] waits in memory; the rest goes into the durable schedule, each with a time of its own, one
//! interval after the other, so that it comes back about when it is its turn. What comes for the first time while others
//! are out there queues up behind them.

use std::collections::VecDeque;

use umbel_proto::Millis;
use umbel_scheduler::rate_limit::{Bucket, Rate};

use super::{super::Admitted, HOLD_MAX};

/// The limit of one task, and who waits for it.
#[derive(Debug)]
pub(super) struct Limited {
    pub(super) pool: usize,
    rate: Rate,
    bucket: Bucket,
    interval: f64,
    waiting: VecDeque<Admitted>,
    /// The time up to which turns have been given to messages in the durable schedule.
    spread_to: Millis,
}

/// What becomes of a task with a limit.
#[derive(Debug)]
pub(super) enum Pass {
    /// It runs.
    Now(Admitted),
    /// It waits here. The first to wait says when to open.
    Waits { first_until: Option<Millis> },
    /// It waits in the durable schedule.
    Later { task: Admitted, due: Millis },
}

impl Limited {
    pub(super) fn new(rate: Rate, pool: usize, now: Millis) -> Self {
        let interval = 1e3 / rate.per_second();
        Self { pool, rate, bucket: Bucket::new(rate, now), interval, waiting: VecDeque::new(), spread_to: now }
    }

    /// Goes on at another rate, if it is another.
    pub(super) fn change(&mut self, rate: Rate, now: Millis) {
        if rate != self.rate {
            self.rate = rate;
            self.interval = 1e3 / rate.per_second();
            self.bucket = Bucket::new(rate, now);
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Those who wait, in their order.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Admitted> {
        self.waiting.iter()
    }

    /// Lets all of them go.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = Admitted> {
        self.waiting.into_iter()
    }

    pub(super) fn pass(&mut self, task: Admitted, now: Millis) -> Pass {
        let comes_back = task.claim.debt.held().attempt > 1;
        if self.spread_to > now && !comes_back {
            return self.later(task, now);
        }
        if let Some(first) = self.waiting.front() {
            debug_assert_eq!(first.spec.name, task.spec.name);
            let turn = self.interval * (self.waiting.len() + 1) as f64;
            if turn > HOLD_MAX.as_millis() as f64 {
                return self.later(task, now);
            }
            self.waiting.push_back(task);
            return Pass::Waits { first_until: None };
        }
        match self.bucket.take(now) {
            Ok(()) => Pass::Now(task),
            Err(until) if until - now > HOLD_MAX.as_millis() as Millis => self.later(task, now),
            Err(until) => {
                self.waiting.push_back(task);
                Pass::Waits { first_until: Some(until) }
            }
        }
    }

    fn later(&mut self, task: Admitted, now: Millis) -> Pass {
        // Interval by interval, from behind those who wait here.
        let behind = now + (self.interval * (self.waiting.len() + 1) as f64).ceil() as Millis;
        self.spread_to = behind.max(self.spread_to + self.interval.ceil() as Millis);
        Pass::Later { task, due: self.spread_to }
    }

    /// Those who would wait too long here now that the first may go at `first`, with the time of each in the durable schedule. There are
    /// some where the rate has become another.
    pub(super) fn shed(&mut self, first: Millis, now: Millis) -> Vec<(Admitted, Millis)> {
        // As many as `pass` would have let wait.
        let longest = HOLD_MAX.as_millis() as Millis;
        let fit = ((longest as f64 / self.interval) as usize).max(usize::from(first - now <= longest));
        let too_many = self.waiting.split_off(fit.min(self.waiting.len()));
        let mut shed = Vec::with_capacity(too_many.len());
        for task in too_many {
            if let Pass::Later { task, due } = self.later(task, now) {
                shed.push((task, due));
            }
        }
        shed
    }

    /// Those whose turn it is, and when to open next.
    pub(super) fn open(&mut self, now: Millis) -> (Vec<Admitted>, Option<Millis>) {
        let mut ready = Vec::new();
        while !self.waiting.is_empty() {
            match self.bucket.take(now) {
                Ok(()) => ready.extend(self.waiting.pop_front()),
                Err(until) => return (ready, Some(until)),
            }
        }
        (ready, None)
    }
}

#[cfg(test)]
mod tests;
