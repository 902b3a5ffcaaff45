//! Limits that hold for all nodes together: how often tasks start, how many run at a time, and which are one and the same.
//!
//! One [`Meter`] is the state of one limit and one key. Who keeps it decides how far the limit reaches: a store that all nodes
//! share, and that carries out this very arithmetic in one step (`node/src/redis/scripts/turn.lua`), or a node by itself.
//!
//! **Rates.** A start has a time ([`Meter::book`]): one interval after the last and, from ten a second on, a second and
//! [`MARGIN_MS`] after the start that lies as many before it as the rate has in a second. Between that time and the task's first
//! line lies a way that is not always equally long, and without the margin a second could see more starts than were booked.
//! Whoever has booked starts within the margin or not at all; a start that was not used is given back ([`Meter::unused`]). What
//! could not start because nobody asked in time is caught up with for [`SLACK_MS`], no longer: a limit is no savings account.
//!
//! **Ahead.** Starts are booked a little before their time ([`AHEAD_MS`], [`AHEAD_STARTS`]), by messages that are at hand and wait
//! for it where they are. If whoever asks could only be told to start at once, a start would be lost whenever nobody asks at its
//! time: the schedule's hand, the way of a message and a node's own business are late by more than an interval all the time.
//!
//! **Slots.** Whoever has no slot for a message when it asks books nothing, as the start might pass by unused: it hears whether to
//! wait for its turn in the schedule, as any other, or that its time is near and it should ask again when a slot is free. So
//! what is put off is put off at once, however few slots there are.
//!
//! **Waiting.** What may not start soon gets a turn, one after the other ([`Meter::spread`]), and waits for it in the broker's
//! schedule, where it takes no room of any node's. It comes back a little before its turn ([`LEAD`]) and books a start. One
//! that finds too many before it comes back once more; it is never sent behind those that came after it. What comes for the
//! first time while others wait for their turns queues up behind them.

use std::collections::{BTreeMap, VecDeque};

use umbel_proto::Millis;

use crate::rate_limit::Rate;

/// How much later than its time a start may be, in milliseconds; so much more than a second a second's worth of starts takes.
pub const MARGIN_MS: f64 = 15.0;

/// How far starts that nobody asked for in time are caught up with, in milliseconds.
pub const SLACK_MS: f64 = 200.0;

/// From how many starts a second on they are counted. Below it the interval alone is exact enough.
pub const WINDOW_FROM: f64 = 10.0;

/// How much longer than starts turns lie apart where starts are counted, so that those who come back are seldom too many.
pub const TURN_STRETCH: f64 = 1.002;

/// How long before its time a start can be booked, in milliseconds. It is waited for where the message is.
pub const AHEAD_MS: f64 = 250.0;

/// How many starts can be booked before their time: what is fast is not to fill the nodes with what waits.
pub const AHEAD_STARTS: f64 = 24.0;

/// How far apart starts are at least where they are counted, in intervals. Nearer together, they would be caught up with sooner; but a
/// second and [`MARGIN_MS`] later they are as near together again, and every second in between lacks those that lie in the margin.
pub const SPACING: f64 = 0.75;

/// How many older starts are known: as many of the newest may be given back without one being forgotten that still counts.
pub const KEPT: usize = 64;

/// How long before its turn a message comes back from the schedule, as a share of how long before a start can be booked.
pub const LEAD: f64 = 0.5;

/// How long a message waits where it is for a place, in milliseconds; longer, and it goes to the schedule.
pub const SOON_MS: f64 = 250.0;

/// How soon one that came back at its turn and found too many before it comes back again, in milliseconds.
pub const AGAIN_MS: f64 = 1_000.0;

/// How soon one whose start is near, and that has no slot, looks whether it has one, in milliseconds.
pub const SLOT_MS: f64 = 20.0;

/// The shortest and the longest time between two looks at a place that others have, in milliseconds.
pub const LOOK_MS: (f64, f64) = (50.0, 5_000.0);

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rule {
    /// Starts.
    pub rate: Option<Rate>,
    /// Tasks that run at a time.
    pub concurrency: Option<u32>,
    /// For how long one task keeps others of its key from starting, unless it ends before; in milliseconds.
    pub unique: Option<Millis>,
}

impl Rule {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Who asks for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    /// What is held while it runs; another one for each taking of a message.
    pub holder: &'a str,
    /// The task's id, which stays the same when it is taken again.
    pub task: &'a str,
    /// Whether it has waited for its turn in the schedule.
    pub waited: bool,
    /// Whether there is a slot for it. Without one nothing is booked and no place is taken.
    pub ready: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// It starts now.
    Now,
    /// It waits where it is and starts at this time, in milliseconds of the clock it was asked by.
    At(Millis),
    /// It waits where it is, for so many milliseconds, and asks again.
    Soon(f64),
    /// It goes to the schedule and comes back in so many milliseconds.
    Later(f64),
    /// It does not run: this task of the same key is there.
    Duplicate(String),
}

/// The state of one limit and one key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meter {
    /// When the next start is due by the interval.
    next: f64,
    /// The time up to which turns have been given.
    spread: f64,
    /// The last second's worth of starts, in order, and [`KEPT`] before them; some are still to come.
    booked: VecDeque<Millis>,
    /// Those that run, and since when.
    holders: BTreeMap<String, f64>,
    /// How long those that ended had run, smoothed.
    typical: f64,
    /// The task that is the only one of its key, and until when.
    only: Option<(String, f64)>,
}

impl Meter {
    /// Asks for a turn at `now`, in milliseconds of any clock that goes forward.
    ///
    /// What is the only one of its key is asked first, then places, then starts: a start is used up last, when nothing else
    /// is in its way. One that is not ready gets no start and no place: it is put off, or told that it is near ([`Turn::Soon`]).
    pub fn ask(&mut self, rule: &Rule, asker: Asker<'_>, now: f64) -> Turn {
        if rule.unique.is_some()
            && let Some((task, until)) = &self.only
            && *until > now
            && task != asker.task
        {
            return Turn::Duplicate(task.clone());
        }
        if let Some(places) = rule.concurrency
            && !self.holders.contains_key(asker.holder)
            && self.holders.len() >= places.max(1) as usize
        {
            return self.place_later(places.max(1), now);
        }
        let mut start = Turn::Now;
        if let Some(rate) = rule.rate {
            match self.book(rate.per_second(), asker, now) {
                at @ Turn::At(_) => start = at,
                Turn::Now => {}
                later => return later,
            }
        }
        if !asker.ready {
            return Turn::Soon(SLOT_MS);
        }
        if rule.concurrency.is_some() {
            self.holders.insert(asker.holder.to_owned(), now);
        }
        if let Some(unique) = rule.unique {
            self.only = Some((asker.task.to_owned(), now + unique as f64));
        }
        start
    }

    /// `holder` runs no more. A task that has `ended` for good is not the only one of its key any more.
    pub fn done(&mut self, holder: &str, ended: Option<&str>, now: f64) {
        if let Some(since) = self.holders.remove(holder) {
            let ran = (now - since).max(0.0);
            self.typical = if self.typical == 0.0 { ran } else { self.typical * 0.8 + ran * 0.2 };
        }
        if self.only.as_ref().is_some_and(|(task, _)| Some(task.as_str()) == ended) {
            self.only = None;
        }
    }

    /// A start that was booked for `at`, or allowed then, has not taken place: another may in its stead.
    pub fn unused(&mut self, rate: Rate, at: Millis) {
        self.next -= 1_000.0 / rate.per_second();
        if let Some(position) = self.booked.iter().rposition(|booked| *booked == at) {
            self.booked.remove(position);
        }
    }

    /// Whether nothing depends on it any more.
    pub fn is_idle(&self, now: f64) -> bool {
        let only = self.only.as_ref().is_some_and(|(_, until)| *until > now);
        self.holders.is_empty()
            && !only
            && self.next <= now
            && self.spread <= now
            && self.booked.back().is_none_or(|last| (*last as f64) < now - 2_000.0)
    }

    fn place_later(&mut self, places: u32, now: f64) -> Turn {
        let step = (self.typical / f64::from(places)).clamp(LOOK_MS.0, LOOK_MS.1);
        self.spread = self.spread.max(now) + step;
        let wait = self.spread - now;
        if wait <= SOON_MS { Turn::Soon(wait.max(1.0)) } else { Turn::Later(wait) }
    }

    /// Books the next start, if its time is near; else gives a turn.
    fn book(&mut self, per_second: f64, asker: Asker<'_>, now: f64) -> Turn {
        let waited = asker.waited;
        let interval = 1_000.0 / per_second;
        let most = (per_second >= WINDOW_FROM).then_some(per_second as usize);
        let turn = most.map_or(interval, |most| (1_000.0 + MARGIN_MS) / most as f64 * TURN_STRETCH);
        let ahead = AHEAD_MS.min(AHEAD_STARTS * interval);
        let come_back = |turn: f64| Turn::Later((turn - now - ahead * LEAD).max(1.0));
        if !waited && self.spread > now + ahead {
            self.spread += turn;
            return come_back(self.spread);
        }
        let mut at = self.next.max(now);
        if let Some(most) = most {
            self.booked.drain(..self.booked.len().saturating_sub(most + KEPT));
            let last = self.booked.back().map_or(0.0, |last| *last as f64 + interval * SPACING);
            let first = self.booked.len().checked_sub(most).and_then(|first| self.booked.get(first));
            let full = first.map_or(0.0, |first| *first as f64 + 1_000.0 + MARGIN_MS);
            at = at.max(last).max(full);
        }
        if at > now + ahead {
            if waited {
                return Turn::Later((at - now - ahead * LEAD).max(AGAIN_MS));
            }
            self.spread = at.max(self.spread + turn);
            return come_back(self.spread);
        }
        if !asker.ready {
            return Turn::Soon(SLOT_MS);
        }
        // Only where others wait has anything been missed.
        let slack = if self.spread > self.next { SLACK_MS } else { 0.0 };
        self.next = self.next.max(now - slack) + interval;
        self.spread = self.spread.max(at);
        if most.is_some() {
            self.booked.push_back(at as Millis);
        }
        if at <= now { Turn::Now } else { Turn::At(at as Millis) }
    }
}

#[cfg(test)]
mod tests;
