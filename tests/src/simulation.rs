//! Many nodes of one cluster in virtual time: what gossip costs each of them, how soon a death is noticed, and who is wrongly
//! thought dead.
//!
//! What decides is the node's own ([`umbel_scheduler::membership`]); what is around it is a model: rounds, the budget and the
//! detector work as `node/src/gossip` and chitchat 0.13 have them, a message has the size of what it says, and each of its
//! datagrams is lost by itself. The broker answers at once. A seed decides everything, so that a run can be seen again.

use std::collections::{BTreeMap, BTreeSet};

use umbel_proto::Millis;
use umbel_scheduler::membership::{Lease, Pace, RENEWAL_MAX_MS, Silence, Verdict, judge, lapsed};

/// The time between two rounds of a node, and whom it speaks to in each.
const ROUND: Millis = 200;
const PEERS: usize = 3;

/// Bytes: of a node in a digest, of anything else in a message, of a datagram beyond its piece, of a piece.
const ENTRY: usize = 49;
const MESSAGE: usize = 60;
const AROUND: usize = 76;
const PIECE: usize = 1_150;

/// How often a node asks the broker who holds a lease, whoever is silent: whenever it greets, which is at least so much apart, and for
/// each node there is; but not before so long.
const GREET: Millis = 2_000;
const GREET_PER_NODE: Millis = 50;
const ASK: Millis = 4_000;

/// Intervals whose mean counts, how much the expected one weighs in it, how long one may be to count at all.
const WINDOW: f64 = 100.0;
const PRIOR: f64 = 5.0;
const INTERVAL_MAX: Millis = 30_000;

const LEASE: Millis = 2_500;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// For how long they gossip before anybody dies, and after each death, in milliseconds.
    pub pause: Millis,
    /// How many die, one after the other.
    pub deaths: usize,
    /// Of a thousand datagrams how many are lost.
    pub loss: u64,
    /// Bytes a second of each node.
    pub budget: u32,
    /// After how many mean intervals of silence the broker is asked.
    pub phi: f64,
    /// What chance begins with.
    pub seed: u64,
}

/// What it came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// Bytes a second of each node, headers included, in order.
    pub bytes: Vec<u64>,
    /// How long each node took to see each death, in milliseconds, in order.
    pub noticed: Vec<Millis>,
    /// How many did not see a death before the next.
    pub unnoticed: usize,
    /// How often a node that lived was thought dead.
    pub wrong: usize,
    /// How often a node that lived was doubted.
    pub doubts: usize,
    /// How often the broker was asked, for each node and minute.
    pub asked_a_minute: f64,
}

impl Told {
    /// The value below which `percent` of `values` lie; 0 when there are none.
    pub fn share<T: Copy + Default>(values: &[T], percent: usize) -> T {
        values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Chance: splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % count
    }

    fn pick(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }
}

fn between_asks(nodes: usize) -> Millis {
    let greet = GREET.max(GREET_PER_NODE * nodes as Millis);
    (ASK + greet - 1) / greet * greet
}

/// What one node has heard of another.
#[derive(Clone, Copy, Default)]
struct Hearing {
    heartbeat: u32,
    last: Millis,
    sum: f64,
    count: f64,
    pace: Pace,
}

impl Hearing {
    fn hear(&mut self, heartbeat: u32, now: Millis) {
        if heartbeat <= self.heartbeat {
            return;
        }
        let interval = now - self.last;
        self.pace.heard(interval);
        if self.heartbeat > 0 && interval <= INTERVAL_MAX {
            if self.count >= WINDOW {
                self.sum -= self.sum / self.count;
                self.count -= 1.0;
            }
            self.sum += interval as f64;
            self.count += 1.0;
        }
        (self.heartbeat, self.last) = (heartbeat, now);
    }

    fn phi(&self, now: Millis) -> Option<f64> {
        let mean = (self.sum + PRIOR * ROUND as f64) / (self.count + PRIOR);
        (self.count > 0.0).then(|| (now - self.last) as f64 / mean)
    }

    /// Since when there has been no news of it, one of so many, where that means something.
    fn quiet_since(&self, nodes: usize, now: Millis) -> Option<Millis> {
        let since = self.last + self.pace.patience(nodes)?;
        (since <= now).then_some(since)
    }
}

struct Node {
    hearings: Vec<Hearing>,
    /// Those that are silent, since when, and whether they are thought dead.
    silent: BTreeMap<usize, (Millis, bool)>,
    /// Those of them that the detector takes to be dead: nobody speaks to them.
    unheard: BTreeSet<usize>,
    /// Those whose death it has seen.
    buried: BTreeSet<usize>,
    /// When the broker is asked whoever is silent.
    ask_at: Millis,
    /// When the broker may be asked again, and when it answered last.
    ask_from: Millis,
    asked: Option<Millis>,
    left: f64,
    left_at: Millis,
    bytes: u64,
    renews: (Millis, Millis),
    died: Option<Millis>,
}

impl Node {
    fn lease(&self, now: Millis) -> Option<Lease> {
        let (phase, pause) = self.renews;
        let last = self.died.unwrap_or(now).min(now);
        let left = phase + (last - phase).div_euclid(pause) * pause + LEASE - now;
        (left > 0).then_some(Lease { left, length: LEASE })
    }

    /// Sends a message; whether all of it arrives.
    fn send(&mut self, size: usize, plan: &Plan, dice: &mut Dice) -> bool {
        let pieces = size.div_ceil(PIECE);
        let bytes = size + pieces * AROUND;
        self.bytes += bytes as u64;
        self.left -= bytes as f64;
        (0..pieces).all(|_| dice.below(1_000) >= plan.loss)
    }
}

struct Cluster<'a> {
    plan: &'a Plan,
    dice: Dice,
    nodes: Vec<Node>,
    told: Told,
    asked: u64,
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Told {
    let mut dice = Dice(plan.seed);
    let count = plan.nodes;
    let nodes = (0..count).map(|_| {
        let pause = 1_000 + dice.below((RENEWAL_MAX_MS - 1_000 + 1) as u64) as Millis;
        Node {
            hearings: vec![Hearing::default(); count],
            silent: BTreeMap::new(),
            unheard: BTreeSet::new(),
            buried: BTreeSet::new(),
            ask_at: dice.below(between_asks(count) as u64) as Millis,
            ask_from: 0,
            asked: None,
            left: f64::from(plan.budget),
            left_at: 0,
            bytes: 0,
            renews: (dice.below(1_000) as Millis - 1_000, pause),
            died: None,
        }
    });
    let nodes = nodes.collect();
    let mut rounds: Vec<(Millis, usize)> = (0..count).map(|node| (dice.below(ROUND as u64) as Millis, node)).collect();
    rounds.sort_unstable();
    let mut cluster = Cluster { plan, dice, nodes, told: Told::default(), asked: 0 };
    let end = plan.pause * (plan.deaths as Millis + 1);
    let mut next_death = plan.pause;
    let mut victim = 0;
    for start in (0..end).step_by(ROUND as usize) {
        for (phase, node) in &rounds {
            let now = start + phase;
            if now >= next_death && victim < plan.deaths {
                cluster.nodes[victim].died = Some(now);
                (victim, next_death) = (victim + 1, next_death + plan.pause);
            }
            if cluster.nodes[*node].died.is_none() {
                cluster.round(*node, now);
            }
        }
    }
    cluster.end(end)
}

impl Cluster<'_> {
    fn round(&mut self, me: usize, now: Millis) {
        let node = &mut self.nodes[me];
        node.left = (node.left + (now - node.left_at) as f64 / 1_000.0 * f64::from(self.plan.budget)).min(f64::from(self.plan.budget));
        node.left_at = now;
        let own = node.hearings[me].heartbeat + 1;
        node.hearings[me] = Hearing { heartbeat: own, last: now, ..Hearing::default() };
        for _ in 0..PEERS {
            if self.nodes[me].left <= 0.0 {
                break;
            }
            let peer = self.dice.pick(self.plan.nodes);
            if peer != me && !self.nodes[me].unheard.contains(&peer) {
                self.talk(me, peer, now);
            }
        }
        self.listen(me, now);
        if now >= self.nodes[me].ask_at {
            self.nodes[me].ask_at = now + between_asks(self.plan.nodes);
            self.ask(me, now);
        }
        self.doubt(me, now);
    }

    /// What both have heard: a digest there, a digest back, and the last word.
    fn talk(&mut self, me: usize, peer: usize, now: Millis) {
        let digest = ENTRY * self.plan.nodes + MESSAGE;
        if !self.nodes[me].send(digest, self.plan, &mut self.dice) || self.nodes[peer].died.is_some() {
            return;
        }
        self.tell(me, peer, now);
        if self.nodes[peer].send(digest, self.plan, &mut self.dice) {
            self.tell(peer, me, now);
            self.nodes[me].send(MESSAGE, self.plan, &mut self.dice);
        }
    }

    fn tell(&mut self, from: usize, to: usize, now: Millis) {
        let (low, high) = self.nodes.split_at_mut(from.max(to));
        let (teller, hearer) = if from < to { (&low[from], &mut high[0]) } else { (&high[0], &mut low[to]) };
        for (heard, hearing) in teller.hearings.iter().zip(&mut hearer.hearings) {
            hearing.hear(heard.heartbeat, now);
        }
    }

    /// Who is silent, and who is not any more.
    fn listen(&mut self, me: usize, now: Millis) {
        let (phi, node) = (self.plan.phi, &mut self.nodes[me]);
        for (other, hearing) in node.hearings.iter().enumerate().filter(|(other, _)| *other != me) {
            // One that has never been heard is nobody yet.
            let unheard = match hearing.phi(now) {
                Some(silence) => silence > phi,
                None => continue,
            };
            let _ = if unheard { node.unheard.insert(other) } else { node.unheard.remove(&other) };
            match hearing.quiet_since(self.plan.nodes, now).or(unheard.then_some(now)) {
                Some(since) => {
                    node.silent.entry(other).or_insert((since, false));
                }
                None => drop(node.silent.remove(&other)),
            }
        }
    }

    /// Asks the broker, and sees whose lease has ended without news of them since.
    fn ask(&mut self, me: usize, now: Millis) {
        self.asked += 1;
        let before = self.nodes[me].asked.replace(now);
        self.nodes[me].ask_from = now + 100.max(10 * self.plan.nodes as Millis);
        for other in (0..self.plan.nodes).filter(|other| *other != me) {
            let hearing = self.nodes[me].hearings[other];
            let gone = match hearing.heartbeat {
                // Never heard: the broker alone has told of it.
                0 => before.is_some_and(|before| self.nodes[other].lease(before).is_some()),
                _ => lapsed(hearing.last, LEASE, now),
            };
            if gone && self.nodes[other].lease(now).is_none() {
                self.bury(me, other, now);
            }
        }
    }

    /// A node is thought dead.
    fn bury(&mut self, me: usize, other: usize, now: Millis) {
        let died = self.nodes[other].died;
        match died {
            None => self.told.wrong += 1,
            Some(died) if self.nodes[me].buried.insert(other) => self.told.noticed.push(now - died),
            Some(_) => {}
        }
    }

    /// Judges those that are silent, and asks the broker about them if that helps.
    fn doubt(&mut self, me: usize, now: Millis) {
        let mut silent = std::mem::take(&mut self.nodes[me].silent);
        for asks in [true, false] {
            let mut wanted = false;
            for (other, (since, down)) in silent.iter_mut().filter(|(_, (_, down))| !*down) {
                let asked = self.nodes[me].asked;
                // An answer is as old as it is.
                let lease = asked.and_then(|asked| self.nodes[*other].lease(asked));
                match judge(&Silence { since: *since, asked, unanswered: false, lease, oldest: 0 }, now) {
                    Verdict::Doubted(at) => wanted |= at <= now,
                    Verdict::Unheard => {}
                    Verdict::Down => {
                        *down = true;
                        self.bury(me, *other, now);
                    }
                }
                self.told.doubts += usize::from(asks && now - *since < ROUND && self.nodes[*other].died.is_none());
            }
            if !asks || !wanted || now < self.nodes[me].ask_from {
                break;
            }
            self.ask(me, now);
        }
        self.nodes[me].silent = silent;
    }

    fn end(mut self, end: Millis) -> Told {
        let secs = end as f64 / 1_000.0;
        let living = self.nodes.iter().filter(|node| node.died.is_none());
        self.told.bytes = living.map(|node| (node.bytes as f64 / secs) as u64).collect();
        self.told.bytes.sort_unstable();
        self.told.noticed.sort_unstable();
        let witnesses: usize = (0..self.plan.deaths).map(|death| self.plan.nodes - death - 1).sum();
        self.told.unnoticed = witnesses.saturating_sub(self.told.noticed.len());
        self.told.asked_a_minute = self.asked as f64 / self.plan.nodes as f64 / secs * 60.0;
        self.told
    }
}
