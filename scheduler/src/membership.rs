//! Who is there: what it means that a node is silent.
//!
//! Two witnesses speak of a node. Gossip hears it several times a second, and when it has not for a few rounds, something may be
//! wrong: with the node, with the network between two of many, or with the one that listens. The broker knows when the node last
//! renewed its lease, and a node that lives renews in time. So silence is only a reason to ask the broker, at once; and a node is
//! down when it is silent *and* its renewal is overdue. That is sooner than either of them could tell alone without being
//! wrong now and then: gossip would have to wait out every hiccup, and a lease is long enough to outlast some. Since a wrong doubt costs
//! one question, it may come soon: in a small cluster, where there is news of everybody all the time, after a second or so ([`Pace`]).
//! Where there are so many nodes that gossip has little to say of each, a lease that has ended needs no silence ([`lapsed`]).

use umbel_proto::Millis;

/// The longest time between two renewals of a node that lives, in milliseconds; of a short lease it is half.
pub const RENEWAL_MAX_MS: Millis = 1_250;

/// How late a renewal may be, in milliseconds: the way to the broker, and a machine that is busy. Where those that are heard are
/// later than they should be, it counts from there on.
pub const LATE_MS: Millis = 450;

/// How long a node has to be silent where the broker cannot be asked, in milliseconds beyond what made gossip doubt.
pub const UNANSWERED_MS: Millis = 1_000;

/// How long a node that renews may be silent before it is said that it is not heard, in milliseconds.
pub const UNHEARD_MS: Millis = 3_000;

/// How long there is no news of a node of which there is news all the time before the broker is asked about it, at least and at most, in
/// milliseconds. So long before its renewal is overdue that the question can be asked right then.
pub const QUIET_MS: (Millis, Millis) = (800, 1_200);

/// How many times as long as there usually is none, at least: with less, ten nodes that say much would doubt each other all the time.
const QUIET_TIMES: f64 = 2.4;

/// Up to how many nodes gossip has news of everybody several times a second. Where it has not, something is wrong, or keeps it busy: many
/// that died a moment ago, a machine that is slow. Then it is no reason to wait for longer.
pub const FEW: usize = 10;

/// Longer pauses than this many milliseconds say nothing about how often there is news: something was in the way.
const PAUSE_MAX: Millis = 1_000;

/// How often there is news of a node: the mean of the times between, of which the last counts an eighth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace(f64);

impl Default for Pace {
    /// That of a node of which nothing is known yet.
    fn default() -> Self {
        Self(PAUSE_MAX as f64)
    }
}

impl Pace {
    /// There was news of it, so long after the last.
    pub fn heard(&mut self, after: Millis) {
        self.0 += (after.min(PAUSE_MAX) as f64 - self.0) / 8.0;
    }

    /// How long it may be silent, as one of so many `nodes`, before the broker should be asked, in milliseconds; `None` where news comes so
    /// seldom that only the detector of gossip can tell.
    pub fn patience(&self, nodes: usize) -> Option<Millis> {
        let (least, most) = QUIET_MS;
        let patience = (self.0 * QUIET_TIMES).ceil() as Millis;
        (patience <= most || nodes <= FEW).then_some(patience.clamp(least, most))
    }
}

/// A lease, as the broker showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// How long it runs yet.
    pub left: Millis,
    /// How long it runs from each renewal on.
    pub length: Millis,
}

/// A node that gossip does not hear any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Since when.
    pub since: Millis,
    /// When the broker was asked that answered last.
    pub asked: Option<Millis>,
    /// Whether it has not answered since then, although it was asked.
    pub unanswered: bool,
    /// The node's lease, in that answer.
    pub lease: Option<Lease>,
    /// How long before it the last renewal lay of the one, among those that gossip hears, that had renewed the longest ago.
    pub oldest: Millis,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet: the broker should be asked at this time, and all of it be judged again.
    Doubted(Millis),
    /// It lives, and is not heard.
    Unheard,
    /// It is gone.
    Down,
}

/// Whether a node is gone that gossip still takes to live: it held a lease in this life, the broker, asked at `asked`, knows of none,
/// and the last news of it came at `heard`, longer before that than the lease of `length` would have lasted. In a small cluster news of
/// everybody who lives comes several times in that time, and this never tells what silence does not tell sooner. In a large one news
/// takes longer on its way than a lease lasts: there the broker is the quicker witness, and nobody has to be silent for minutes.
pub fn lapsed(heard: Millis, length: Millis, asked: Millis) -> bool {
    heard + length < asked
}

/// Judges a silent node.
pub fn judge(silence: &Silence, now: Millis) -> Verdict {
    let Silence { since, asked, unanswered, lease, oldest } = *silence;
    let Some(asked) = asked.filter(|asked| *asked >= since) else {
        // What the broker said before says nothing about the silence.
        return if unanswered && now >= since + UNANSWERED_MS { Verdict::Down } else { Verdict::Doubted(now) };
    };
    let Some(Lease { left, length }) = lease else { return Verdict::Down };
    if asked >= since + UNHEARD_MS {
        // By then a dead one's lease has ended, or is about to.
        return Verdict::Unheard;
    }
    let renewed = asked - (length - left).max(0);
    // Where everybody is late it is the machine, or the broker.
    let overdue = renewed + (length / 2).min(RENEWAL_MAX_MS).max(oldest) + LATE_MS;
    if asked >= overdue {
        Verdict::Down
    } else if unanswered && now >= since + UNHEARD_MS {
        Verdict::Unheard
    } else {
        Verdict::Doubted(overdue)
    }
}

#[cfg(test)]
mod tests;
