//! Elections among workers, for what exactly one of them shall do: `celery/worker/consumer/gossip.py`.
//!
//! Every worker that is told of an election says so to all (`worker-elect`, with its logical clock), and each one acknowledges
//! what each other says (`worker-elect-ack`). Who called it concludes it when everybody alive has acknowledged: the winner is
//! the lowest clock, then the lowest name. All of them come to the same conclusion, and the winner does it.

use std::collections::BTreeMap;

use umbel_proto::{Millis, Value};

/// The most elections remembered; beyond it the oldest are forgotten, as nobody would conclude them any more.
const MAX: usize = 256;

/// One worker's bid.
#[derive(Debug, Clone, PartialEq)]
pub struct Bid {
    /// Its logical clock.
    pub clock: i64,
    /// Its name and process: `celery@host.123`.
    pub who: String,
    /// What it is about; `task` is to apply a signature.
    pub topic: String,
    /// What to do.
    pub action: Value,
}

/// The elections under way, as one worker sees them.
#[derive(Debug, Default)]
pub struct Elections {
    bids: BTreeMap<String, Vec<Bid>>,
    /// Those that this worker has called, and who has acknowledged.
    called: BTreeMap<String, Vec<String>>,
    order: Vec<String>,
}

/// How an election ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Elected {
    /// The winner.
    pub winner: Bid,
}

impl Elections {
    /// This worker calls an election: it has to say so to all.
    pub fn call(&mut self, id: &str) {
        self.remember(id);
        self.called.insert(id.to_owned(), Vec::new());
    }

    /// Somebody bids, perhaps this worker itself. It has to be acknowledged.
    pub fn bid(&mut self, id: &str, bid: Bid) {
        self.remember(id);
        let bids = self.bids.entry(id.to_owned()).or_default();
        if bids.len() < MAX && !bids.iter().any(|known| known.who == bid.who) {
            bids.push(bid);
        }
    }

    /// Somebody acknowledges a bid; with `alive` workers in all, the outcome if it was the last one missing.
    pub fn acknowledged(&mut self, id: &str, from: &str, alive: usize) -> Option<Elected> {
        let replies = self.called.get_mut(id)?;
        if replies.len() < MAX {
            replies.push(from.to_owned());
        }
        if replies.len() < alive {
            return None;
        }
        self.called.remove(id);
        self.order.retain(|known| known != id);
        let bids = self.bids.remove(id)?;
        let winner = bids.into_iter().min_by(|a, b| (a.clock, &a.who).cmp(&(b.clock, &b.who)))?;
        Some(Elected { winner })
    }

    fn remember(&mut self, id: &str) {
        if self.order.iter().any(|known| known == id) {
            return;
        }
        self.order.push(id.to_owned());
        if self.order.len() > MAX {
            let oldest = self.order.remove(0);
            self.bids.remove(&oldest);
            self.called.remove(&oldest);
        }
    }
}

/// Which workers are alive, by when they were heard.
#[derive(Debug, Default)]
pub struct Alive(BTreeMap<String, Millis>);

impl Alive {
    /// The most workers remembered.
    const MAX: usize = 10_000;

    /// A worker was heard; it counts as alive until `until` (Celery: twice the time between its heartbeats).
    pub fn heard(&mut self, worker: &str, until: Millis) {
        if self.0.len() < Self::MAX || self.0.contains_key(worker) {
            self.0.insert(worker.to_owned(), until);
        }
    }

    /// A worker said farewell.
    pub fn left(&mut self, worker: &str) {
        self.0.remove(worker);
    }

    /// Those alive at `now`, by name.
    pub fn at(&mut self, now: Millis) -> impl Iterator<Item = &str> {
        self.0.retain(|_, until| *until > now);
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bid(clock: i64, who: &str) -> Bid {
        Bid { clock, who: who.to_owned(), topic: "task".to_owned(), action: Value::Null }
    }

    /// Goal: everybody comes to the same conclusion, whatever the order of bids, and only when all have acknowledged.
    #[test]
    fn the_lowest_clock_wins_when_all_have_acknowledged() {
        for order in [["a", "b", "c"], ["c", "a", "b"], ["b", "c", "a"]] {
            let mut elections = Elections::default();
            elections.call("e");
            for who in order {
                elections.bid("e", bid(if who == "a" { 9 } else { 5 }, who));
            }
            assert_eq!(elections.acknowledged("e", "a", 3), None);
            assert_eq!(elections.acknowledged("e", "b", 3), None);
            assert_eq!(elections.acknowledged("e", "c", 3).unwrap().winner.who, "b");
            assert_eq!(elections.acknowledged("e", "c", 3), None, "it is over");
        }
    }

    #[test]
    fn others_elections_are_not_ours_to_conclude() {
        let mut elections = Elections::default();
        elections.bid("e", bid(1, "a"));
        assert_eq!(elections.acknowledged("e", "a", 1), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut elections = Elections::default();
        for number in 0..2 * MAX {
            elections.call(&number.to_string());
            elections.bid(&number.to_string(), bid(1, "a"));
        }
        assert_eq!((elections.bids.len(), elections.called.len(), elections.order.len()), (MAX, MAX, MAX));
        assert_eq!(elections.acknowledged("0", "a", 1), None);
        assert!(elections.acknowledged(&(2 * MAX - 1).to_string(), "a", 1).is_some());
    }

    #[test]
    fn the_silent_are_not_alive() {
        let mut alive = Alive::default();
        alive.heard("a", 10);
        alive.heard("b", 20);
        alive.heard("c", 20);
        alive.left("c");
        assert_eq!(alive.at(9).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(alive.at(10).collect::<Vec<_>>(), ["b"]);
    }
}
