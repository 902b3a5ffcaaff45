//! Limits that hold for all nodes together: how often tasks start, how many run at a time, and which are one and the same.
//!
//! One [`Meter`] is the state of one limit and one key. Who keeps it decides how far the limit reaches: a store that all nodes
//! share, and that carries out this very arithmetic in one step (`node/src/redis/scripts/turn.lua`), or a node by itself.
//!
//! **Rates.** A start is allowed when its time has come ([`Meter::next`], one interval after the last) and, from ten a second on,
//! when fewer than the rate have started within the last second and [`MARGIN_MS`]: between the permission and the start lies a
//! way that is not always equally long, and without the margin a second could see more starts than permissions. Whoever has a
//! permission starts within the margin or not at all; one that was not used is given back ([`Meter::unused`]). What could not
//! start because nobody asked in time is caught up with for [`SLACK_MS`], no longer: a limit is no savings account.
//!
//! **Waiting.** What may not start gets a turn, interval after interval ([`Meter::spread`]), and waits for it in the broker's
//! schedule, where it takes no room of any node's. What comes back at its turn and is not lucky waits a moment where it is, or
//! comes back once more; it is never sent behind those that came after it. What comes for the first time while others wait
//! for their turns queues up behind them.

use std::collections::{BTreeMap, VecDeque};

use umbel_proto::Millis;

use crate::rate_limit::Rate;

/// What is left free at the end of the window, in milliseconds.
pub const MARGIN_MS: f64 = 20.0;

/// How far starts that nobody asked for in time are caught up with, in milliseconds.
pub const SLACK_MS: f64 = 200.0;

/// From how many starts a second on they are counted in a window. Below it the interval alone is exact enough.
pub const WINDOW_FROM: f64 = 10.0;

/// How much longer than the interval turns lie apart where a window counts, so that those who come back are seldom too many.
pub const TURN_STRETCH: f64 = 1.03;

/// The width of the window's parts, in milliseconds.
const PART_MS: i64 = 10;

/// How long a message waits where it is for its start, in milliseconds; longer, and it goes to the schedule.
pub const SOON_MS: f64 = 250.0;

/// How soon one that came back at its turn comes back again, in milliseconds.
pub const AGAIN_MS: f64 = 1_000.0;

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
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// It starts now.
    Now,
    /// It waits where it is, for so many milliseconds, and asks again as one that has waited.
    Soon(f64),
    /// It goes to the schedule and comes back in so many milliseconds.
    Later(f64),
    /// It does not run: this task of the same key is there.
    Duplicate(String),
}

/// The state of one limit and one key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meter {
    /// When the next start is due.
    next: f64,
    /// The time up to which turns have been given.
    spread: f64,
    /// Starts of the last second and a little, by parts of it.
    window: VecDeque<(i64, u32)>,
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
    /// is in its way.
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
        if let Some(rate) = rule.rate
            && let Some(turn) = self.start_later(rate.per_second(), asker.waited, now)
        {
            return turn;
        }
        if rule.concurrency.is_some() {
            self.holders.insert(asker.holder.to_owned(), now);
        }
        if let Some(unique) = rule.unique {
            self.only = Some((asker.task.to_owned(), now + unique as f64));
        }
        Turn::Now
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

    /// A start that was allowed at `at` has not taken place: another may in its stead.
    pub fn unused(&mut self, rate: Rate, at: f64) {
        self.next -= 1_000.0 / rate.per_second();
        if let Some((_, count)) = self.window.iter_mut().find(|(part, _)| *part == part_of(at)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether nothing depends on it any more.
    pub fn is_idle(&self, now: f64) -> bool {
        let only = self.only.as_ref().is_some_and(|(_, until)| *until > now);
        self.holders.is_empty()
            && !only
            && self.next <= now
            && self.spread <= now
            && self.window.back().is_none_or(|(part, _)| *part < part_of(now) - 200)
    }

    fn place_later(&mut self, places: u32, now: f64) -> Turn {
        let step = (self.typical / f64::from(places)).clamp(LOOK_MS.0, LOOK_MS.1);
        self.spread = self.spread.max(now) + step;
        soon_or_later(self.spread - now)
    }

    /// When a start has to wait, for how long.
    fn start_later(&mut self, per_second: f64, waited: bool, now: f64) -> Option<Turn> {
        let interval = 1_000.0 / per_second;
        let windowed = per_second >= WINDOW_FROM;
        let turn = if windowed { interval * TURN_STRETCH } else { interval };
        if !waited && self.spread > now + turn {
            self.spread += turn;
            return Some(soon_or_later(self.spread - now));
        }
        let wait = (self.next - now).max(if windowed { self.window_full(per_second, now) } else { 0.0 });
        if wait <= 0.0 {
            self.next = self.next.max(now - SLACK_MS) + interval;
            if windowed {
                self.count(now);
            }
            return None;
        }
        Some(match waited {
            true if wait <= SOON_MS => Turn::Soon(wait.max(1.0)),
            true => Turn::Later(wait.max(AGAIN_MS)),
            false => {
                self.spread = self.spread.max(self.next).max(now) + turn;
                soon_or_later(self.spread - now)
            }
        })
    }

    /// How long until the window has room; zero when it has.
    fn window_full(&mut self, per_second: f64, now: f64) -> f64 {
        let first = part_of(now - 1_000.0 - MARGIN_MS);
        while self.window.front().is_some_and(|(part, _)| *part < first) {
            self.window.pop_front();
        }
        let mut counted: u32 = self.window.iter().map(|(_, count)| count).sum();
        let most = per_second as u32;
        if counted < most {
            return 0.0;
        }
        for (part, count) in &self.window {
            counted -= count;
            if counted < most {
                return ((part + 1) * PART_MS) as f64 + 1_000.0 + MARGIN_MS - now;
            }
        }
        1_000.0
    }

    fn count(&mut self, now: f64) {
        let part = part_of(now);
        match self.window.back_mut() {
            Some((last, count)) if *last >= part => *count += 1,
            _ => self.window.push_back((part, 1)),
        }
    }
}

fn soon_or_later(wait: f64) -> Turn {
    if wait <= SOON_MS { Turn::Soon(wait.max(1.0)) } else { Turn::Later(wait) }
}

fn part_of(at: f64) -> i64 {
    (at / PART_MS as f64).floor() as i64
}

#[cfg(test)]
mod tests;
