//! What is decided about an entry at one moment: nothing yet, one due time, or what became of those that were missed.

use std::sync::Arc;

use umbel_proto::Millis;

use super::{Action, CatchUp, Entry, Mark, TICKS_MAX, Tick, tick_id};
use crate::schedule::Schedule;

/// A mark further ahead of the clock than this is a clock that was put back.
pub(super) const LEAP_MS: Millis = 60_000;

/// How far a clock is put back before times of the wall clock are gone through again. Up to here a clock is corrected, or
/// somebody has changed it by an hour by hand, and what ran at those times is not run again (as the old crons have it).
const WALL_LEAP_MS: Millis = 3 * 3_600_000;

/// How late something may be and still not count as missed: as long as another node needs to take over, with room to spare.
const LATE_MS: Millis = 10_000;

/// When an entry is to be looked at; `None` when it never will be due.
pub(super) fn next_look(entry: &Entry, schedule: &Schedule, mark: &Mark, now: Millis) -> Option<Millis> {
    if !is_on(entry, mark) {
        return None;
    }
    if has_leapt(schedule, mark, now) {
        return Some(now);
    }
    let due = first(entry, schedule, mark)?;
    Some(due + jitter(entry, due))
}

/// The ticks of an entry that are due, in order. Empty when none is.
pub(super) fn decide(entry: &Arc<Entry>, schedule: &Schedule, mark: &Mark, now: Millis) -> Vec<Tick> {
    let mut stands = mark.clone();
    let mut tick = |to, action| {
        let from = stands.due;
        stands.due = to;
        if action == Action::Send {
            stands.sent = Some(now);
            stands.runs += 1;
        }
        Tick { entry: Arc::clone(entry), from, mark: stands.clone(), action }
    };
    if !is_on(entry, mark) {
        return Vec::new();
    }
    if has_leapt(schedule, mark, now) {
        return vec![tick(now, Action::Rewind)];
    }
    let Some(due) = first(entry, schedule, mark).filter(|due| due + jitter(entry, *due) <= now) else { return Vec::new() };
    let until = entry.ends.map_or(now, |ends| ends.min(now));
    let latest = schedule.latest(due, until).unwrap_or(due);
    match entry.catch_up {
        CatchUp::Skip if latest + entry.jitter_ms + LATE_MS < now => vec![tick(latest, Action::Skip)],
        CatchUp::All { window_ms } if latest > due && !entry.one_off => {
            let mut ticks = Vec::new();
            let mut next = Some(due);
            if due < now - window_ms {
                // The last one that is too old leads to the first that is not.
                next = schedule.after(schedule.latest(due, now - window_ms - 1).unwrap_or(due));
            }
            while let Some(to) = next.filter(|next| *next <= latest && ticks.len() < TICKS_MAX) {
                ticks.push(tick(to, Action::Send));
                next = schedule.after(to);
            }
            if ticks.is_empty() {
                ticks.push(tick(latest, Action::Skip));
            }
            ticks
        }
        CatchUp::All { window_ms } if due < now - window_ms => vec![tick(due, Action::Skip)],
        _ => vec![tick(latest, Action::Send)],
    }
}

fn is_on(entry: &Entry, mark: &Mark) -> bool {
    entry.enabled && !mark.paused && !(entry.one_off && mark.runs > 0)
}

/// The first due time that is not decided.
fn first(entry: &Entry, schedule: &Schedule, mark: &Mark) -> Option<Millis> {
    let due = match (entry.starts.filter(|starts| mark.due < *starts), schedule) {
        (None, _) => schedule.after(mark.due),
        // Distances are counted from there on.
        (Some(starts), Schedule::Every(_)) => Some(starts),
        (Some(starts), _) => schedule.after(starts - 1),
    };
    due.filter(|due| entry.ends.is_none_or(|ends| *due <= ends))
}

/// Whether the mark is so far ahead that it is of a clock that was wrong.
fn has_leapt(schedule: &Schedule, mark: &Mark, now: Millis) -> bool {
    let leap = match schedule {
        Schedule::Every(_) => LEAP_MS,
        Schedule::Crontab(_) | Schedule::Solar(_) => WALL_LEAP_MS,
        // Once is once.
        Schedule::Clocked(_) => return false,
    };
    mark.due - now > leap
}

/// How long after `due` it is sent.
fn jitter(entry: &Entry, due: Millis) -> Millis {
    if entry.jitter_ms <= 0 {
        return 0;
    }
    let id = tick_id(&entry.name, due);
    let drawn = id.as_str().bytes().filter_map(|byte| char::from(byte).to_digit(16)).take(12);
    let drawn = drawn.fold(0_i64, |number, digit| number << 4 | i64::from(digit));
    drawn % (entry.jitter_ms + 1)
}
