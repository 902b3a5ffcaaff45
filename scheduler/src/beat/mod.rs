//! Beat: which entries of a schedule are to be sent now, and when to look again. `celery/beat.py`, class `Scheduler`, as a value.
//!
//! An entry's progress is its [`Mark`]: the due time up to which everything is decided. A [`Tick`] moves the mark from one due time
//! to another and says whether a task is sent with it. Whoever carries ticks out does both in one step and only where the mark still
//! stands where the tick found it: so a due time is decided once, by whichever leader, and the id of its task is derived from entry
//! and due time, so that it can also be recognised.
//!
//! Due times follow from due times, never from when something was done about them: a late tick does not push the next one, and a
//! node that takes over goes on with the very times its predecessor had in mind. (Celery counts distances from when it got round
//! to sending.) Between `take` and `moved` or `failed` an entry is *in flight*: it is not taken twice.

mod catch_up;
mod entry;
mod message;
mod rhythm;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use umbel_proto::{Millis, TaskId};

use crate::schedule::Schedule;
pub use entry::{CatchUp, Entry, EntryError, Mark, Source};
pub use message::{Sending, signature};
pub use rhythm::Rhythms;

/// The most due times of one entry that are decided at a time; the rest comes with the next look.
pub const TICKS_MAX: usize = 100;

/// One decision about one entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Where its mark stands.
    pub from: Millis,
    /// The mark afterwards.
    pub mark: Mark,
    /// What happens with it.
    pub action: Action,
}

/// What happens when a mark is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The task is sent.
    Send,
    /// What was due is missed for good, as the entry's policy has it.
    Skip,
    /// The clock went back by far: the entry goes on from now.
    Rewind,
}

impl Tick {
    /// Where the mark will stand: the due time.
    pub fn to(&self) -> Millis {
        self.mark.due
    }

    /// The id of the task: whoever knows entry and due time works it out again.
    pub fn id(&self) -> TaskId {
        tick_id(&self.entry.name, self.to())
    }
}

/// The id of the task of an entry at a due time.
pub fn tick_id(name: &str, due: Millis) -> TaskId {
    TaskId::derive(&format!("beat:{name}"), &due.to_string())
}

/// All entries and when each is to be looked at.
#[derive(Debug, Clone, Default)]
pub struct Beat {
    items: BTreeMap<String, Item>,
    /// When to look at which entry.
    due: BTreeSet<(Millis, String)>,
    /// The latest time it was asked at.
    seen: Millis,
}

#[derive(Debug, Clone)]
struct Item {
    entry: Arc<Entry>,
    schedule: Schedule,
    mark: Mark,
    /// The key in `Beat::due`; `None` while it is in flight, paused or over.
    look_at: Option<Millis>,
    in_flight: bool,
}

/// An entry as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing<'a> {
    /// The entry.
    pub entry: &'a Arc<Entry>,
    /// What has become of it so far.
    pub mark: &'a Mark,
    /// When it is sent next.
    pub next: Option<Millis>,
}

impl Beat {
    /// Adds an entry, or puts another in the place of the one of that name.
    pub fn put(&mut self, entry: Arc<Entry>, schedule: Schedule, mark: Mark, now: Millis) {
        let name = entry.name.clone();
        let in_flight = self.items.get(&name).is_some_and(|item| item.in_flight);
        self.unlook(&name);
        self.items.insert(name.clone(), Item { entry, schedule, mark, look_at: None, in_flight });
        self.look(&name, now);
    }

    /// Removes an entry; `false` when there is none of that name.
    pub fn remove(&mut self, name: &str) -> bool {
        self.unlook(name);
        self.items.remove(name).is_some()
    }

    /// Keeps only entries that are `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        let unwanted: Vec<String> = self.items.keys().filter(|name| !wanted(name)).cloned().collect();
        for name in unwanted {
            self.remove(&name);
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// When to ask again; `None` when nothing will ever be due.
    pub fn next_at(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The entries by name.
    pub fn standings(&self) -> impl Iterator<Item = Standing<'_>> {
        self.items.values().map(|item| Standing { entry: &item.entry, mark: &item.mark, next: item.look_at })
    }

    /// What is due, at most about `max` ticks, the earliest first. Each entry in it is in flight afterwards.
    pub fn take(&mut self, now: Millis, max: usize) -> Vec<Tick> {
        if now < self.seen - catch_up::LEAP_MS {
            // The clock has gone back: what was to be looked at later may have to be now.
            let names: Vec<String> = self.items.keys().cloned().collect();
            names.iter().for_each(|name| self.look(name, now));
        }
        self.seen = now;
        let mut ticks = Vec::new();
        while ticks.len() < max {
            let Some((at, name)) = self.due.first().cloned() else { break };
            if at > now {
                break;
            }
            self.unlook(&name);
            let Some(item) = self.items.get_mut(&name) else { continue };
            let decided = catch_up::decide(&item.entry, &item.schedule, &item.mark, now);
            item.in_flight = !decided.is_empty();
            ticks.extend(decided);
            if !item.in_flight {
                self.look(&name, now);
            }
        }
        ticks
    }

    /// The last of an entry's ticks was carried out, by whomever: its mark stands here now.
    pub fn moved(&mut self, name: &str, mark: Mark, now: Millis) {
        if let Some(item) = self.items.get_mut(name) {
            item.mark = mark;
            item.in_flight = false;
            self.look(name, now);
        }
    }

    /// Nothing is known of what became of an entry's ticks: it is looked at again, not before `at`.
    pub fn failed(&mut self, name: &str, at: Millis) {
        if let Some(item) = self.items.get_mut(name) {
            item.in_flight = false;
            self.look_at(name, Some(at));
        }
    }

    /// Finds when to look at an entry next.
    fn look(&mut self, name: &str, now: Millis) {
        let Some(item) = self.items.get(name) else { return };
        let at = match () {
            () if item.in_flight => None,
            () => catch_up::next_look(&item.entry, &item.schedule, &item.mark, now),
        };
        self.look_at(name, at);
    }

    fn look_at(&mut self, name: &str, at: Option<Millis>) {
        self.unlook(name);
        if let Some(item) = self.items.get_mut(name) {
            item.look_at = at;
            self.due.extend(at.map(|at| (at, name.to_owned())));
        }
    }

    fn unlook(&mut self, name: &str) {
        if let Some(at) = self.items.get_mut(name).and_then(|item| item.look_at.take()) {
            self.due.remove(&(at, name.to_owned()));
        }
    }
}
