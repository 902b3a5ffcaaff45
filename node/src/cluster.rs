//! The cluster as this node sees it.
//!
//! Two witnesses speak: gossip, within about a second, of everybody it hears; and the broker, of everybody who holds a lease.
//! The lease is the truth, since what a node holds depends on it alone; gossip is quicker, as long as there are not hundreds of
//! nodes, and knows how busy each node is. A node that gossip has lost and whose lease goes on is shown as not heard, never as down:
//! the network between two nodes is no verdict about either.
//!
//! [`Roster`] joins what they say ([`umbel_scheduler::membership`]), without a clock of its own. Every consumer reads a
//! [`ClusterView`] through a watch.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use umbel_proto::{Millis, NodeCard, NodeId, NodeLoad, QueueName};
use umbel_scheduler::membership::{self, Lease, Pace, Silence, Verdict};

use crate::brokers::LiveNode;

/// How long a node that is down is remembered.
const DOWN_MS: Millis = 10 * 60_000;

/// How long a node that has said farewell is remembered.
const LEFT_MS: Millis = 60_000;

/// The most members shown; those that are down are forgotten first.
const MEMBERS_MAX: usize = 10_000;

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// There, and taking work.
    Alive,
    /// There, finishing what it has.
    Draining,
    /// Its lease goes on, and gossip does not hear it.
    Unheard,
    /// It has said farewell.
    Left,
    /// Gone without a word.
    Down,
}

impl MemberState {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Unheard => "unheard",
            Self::Left => "left",
            Self::Down => "down",
        }
    }

    /// Whether it is there at all.
    pub fn is_there(self) -> bool {
        matches!(self, Self::Alive | Self::Draining | Self::Unheard)
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    /// Its name.
    pub node: NodeId,
    /// How it is.
    pub state: MemberState,
    /// Since when it is so.
    pub since: Millis,
    /// Its roles; empty when only the broker speaks of it.
    pub roles: Vec<String>,
    /// The queues it takes from.
    pub queues: Vec<QueueName>,
    /// Its version.
    pub version: String,
    /// The machine it runs on.
    pub host: String,
    /// Where its HTTP API answers.
    pub http: Option<String>,
    /// Where its gossip answers.
    pub gossip: Option<SocketAddr>,
    /// How busy it is; `None` when only the broker speaks of it.
    pub load: Option<NodeLoad>,
}

/// Everybody, as one node sees them at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterView {
    /// Who looks.
    pub me: NodeId,
    /// Whether it gossips.
    pub gossips: bool,
    /// Everybody, the looker included, by name.
    pub members: BTreeMap<NodeId, Member>,
}

impl ClusterView {
    /// A node that sees nobody.
    pub fn alone(me: NodeId) -> Self {
        Self { me, gossips: false, members: BTreeMap::new() }
    }

    /// Those that are there, the looker included.
    pub fn there(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.state.is_there())
    }

    /// How many nodes are there; at least the one that looks.
    pub fn size(&self) -> usize {
        self.there().count().max(1)
    }

    /// Those that are there besides the looker.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.there().filter(|member| member.node != self.me)
    }
}

/// What gossip hears of one node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heard {
    pub(crate) card: NodeCard,
    pub(crate) load: NodeLoad,
    pub(crate) address: SocketAddr,
}

/// What both witnesses have said.
#[derive(Debug)]
pub(crate) struct Roster {
    me: NodeId,
    entries: BTreeMap<NodeId, Entry>,
    /// When the broker was asked that answered last.
    asked: Option<Millis>,
    /// Whether it has not answered since.
    unanswered: bool,
    /// How long before that the last renewal lay of the one, among those that are heard, that had renewed the longest ago.
    oldest: Millis,
    /// When the broker should be asked about a node that is silent.
    doubted: Option<Millis>,
}

#[derive(Debug, Default)]
struct Entry {
    heard: Option<Heard>,
    /// Whether gossip hears it now.
    audible: bool,
    lease: Option<LiveNode>,
    /// The last lease that was seen: what is known of a node that has never been heard.
    leased: Option<LiveNode>,
    /// What was last shown.
    shown: Option<(MemberState, Millis)>,
    /// When gossip lost it.
    lost: Millis,
    /// The last news of it: its heartbeat, and when that came.
    news: (u64, Millis),
    /// How often there is news of it.
    pace: Pace,
    /// How long it may be silent, as of the last news of anybody.
    patience: Option<Millis>,
    /// The life of it that has held a lease.
    holder: Option<Millis>,
    /// Whether its lease had ended, and news of it was older than that, when the broker answered last.
    lapsed: bool,
    /// When the broker should be asked about it.
    doubted: Option<Millis>,
}

impl Roster {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, entries: BTreeMap::new(), asked: None, unanswered: false, oldest: 0, doubted: None }
    }

    /// Gossip hears these, and nobody else.
    pub(crate) fn heard(&mut self, live: Vec<Heard>, now: Millis) {
        let mut newest: BTreeMap<NodeId, Heard> = BTreeMap::new();
        for heard in live {
            let known = newest.get(&heard.card.node);
            if known.is_none_or(|known| known.card.generation <= heard.card.generation) {
                newest.insert(heard.card.node.clone(), heard);
            }
        }
        for (node, entry) in &mut self.entries {
            if entry.audible && !newest.contains_key(node) {
                entry.lost = entry.quiet_since(now).unwrap_or(now);
                entry.audible = false;
            }
        }
        for (node, heard) in newest {
            let entry = self.entries.entry(node).or_default();
            // An older life of it that gossip has not yet forgotten does not hide the newer one.
            if entry.heard.as_ref().is_none_or(|known| !entry.audible || known.card.generation <= heard.card.generation) {
                if entry.life() != Some(heard.card.generation) {
                    entry.pace = Pace::default();
                }
                if !entry.audible || entry.life() != Some(heard.card.generation) {
                    entry.news = (0, now);
                }
                entry.heard = Some(heard);
                entry.audible = true;
            }
        }
        self.weigh();
    }

    /// Says how long each may be silent.
    fn weigh(&mut self) {
        let nodes = self.entries.values().filter(|entry| entry.audible).count();
        self.entries.values_mut().for_each(|entry| entry.patience = entry.pace.patience(nodes));
    }

    /// The heartbeats of those that gossip takes to live, by their addresses: higher ones are news.
    pub(crate) fn news(&mut self, heartbeats: &HashMap<SocketAddr, u64>, now: Millis) {
        for entry in self.entries.values_mut() {
            let heartbeat = entry.heard.as_ref().and_then(|heard| heartbeats.get(&heard.address));
            if let Some(heartbeat) = heartbeat.filter(|heartbeat| **heartbeat != entry.news.0) {
                entry.pace.heard(now - entry.news.1);
                entry.news = (*heartbeat, now);
            }
        }
        self.weigh();
    }

    /// Whether anybody is silent, or was and is doubted: then a view has to be made although nothing was heard.
    pub(crate) fn is_uneasy(&self, now: Millis) -> bool {
        self.doubted.is_some() || self.others().any(|entry| entry.quiet_since(now).is_some())
    }

    fn others(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|(node, _)| **node != self.me).map(|(_, entry)| entry)
    }

    /// The broker was asked and did not answer, or cannot tell.
    pub(crate) fn unanswered(&mut self) {
        self.unanswered = true;
    }

    /// When the broker should be asked about a node that is silent, as of the last view.
    pub(crate) fn doubted(&self) -> Option<Millis> {
        self.doubted
    }

    /// The broker knows of these leases, asked at `asked`.
    pub(crate) fn leases(&mut self, nodes: Vec<LiveNode>, asked: Millis) {
        (self.asked, self.unanswered) = (Some(asked), false);
        for entry in self.entries.values_mut() {
            entry.lease = None;
        }
        for node in nodes {
            let entry = self.entries.entry(node.node.clone()).or_default();
            // That of a life before runs on until its end.
            if entry.lease.as_ref().is_some_and(|other| other.lease_left > node.lease_left) {
                continue;
            }
            entry.leased = Some(node.clone());
            entry.lease = Some(node);
            entry.holder = entry.life().filter(|_| entry.audible);
        }
        for entry in self.entries.values_mut() {
            // One that takes from no queue never had a lease.
            let ended = entry.lease.is_none() && entry.holder.is_some() && entry.holder == entry.life();
            let length = entry.leased.as_ref().map_or(0, |lease| millis(lease.lease));
            entry.lapsed = ended && membership::lapsed(entry.news.1, length, asked);
        }
        let heard = self.entries.values().filter(|entry| entry.audible && entry.quiet_since(asked).is_none());
        let ages = heard.filter_map(Entry::own_lease).map(|lease| lease.length - lease.left);
        self.oldest = ages.max().unwrap_or(0).max(0);
    }

    /// What all of it comes to.
    pub(crate) fn view(&mut self, gossips: bool, now: Millis) -> ClusterView {
        let mut members = BTreeMap::new();
        // What is the same for all that are silent.
        let silence = Silence { since: 0, asked: self.asked, unanswered: self.unanswered, lease: None, oldest: self.oldest };
        self.entries.retain(|node, entry| {
            let state = entry.state(*node == self.me, gossips, &silence, now);
            let since = match entry.shown {
                Some((shown, since)) if shown == state => since,
                _ => now,
            };
            entry.shown = Some((state, since));
            let kept = match state {
                MemberState::Left => now - since < LEFT_MS,
                MemberState::Down => now - since < DOWN_MS,
                _ => true,
            };
            if kept && let Some(member) = entry.member(node, state, since) {
                members.insert(node.clone(), member);
            }
            kept
        });
        self.doubted = self.entries.values().filter_map(|entry| entry.doubted).min();
        while members.len() > MEMBERS_MAX {
            let gone = members.values().max_by_key(|member| (member.state, -member.since)).map(|member| member.node.clone());
            let Some(gone) = gone.filter(|gone| *gone != self.me) else { break };
            members.remove(&gone);
            self.entries.remove(&gone);
        }
        ClusterView { me: self.me.clone(), gossips, members }
    }
}

impl Entry {
    fn state(&mut self, is_me: bool, gossips: bool, silence: &Silence, now: Millis) -> MemberState {
        self.doubted = None;
        let load = self.heard.as_ref().map(|heard| heard.load);
        let farewell = load.is_some_and(|load| load.leaving);
        let there = if load.is_some_and(|load| load.draining) { MemberState::Draining } else { MemberState::Alive };
        if self.audible {
            return match (farewell, is_me) {
                (true, _) => MemberState::Left,
                (false, true) => there,
                (false, false) if self.lapsed && self.holder == self.life() => MemberState::Down,
                (false, false) => self.quiet_state(there, silence, now),
            };
        }
        match (&self.heard, &self.lease) {
            _ if farewell => MemberState::Left,
            // Both gossip, and yet this one has not been heard: not yet, or the network is in the way, or the secret is another.
            (None, Some(lease)) if gossips && lease.about.gossip.is_some() => MemberState::Unheard,
            // Nodes that do not gossip with each other: the lease is all there is.
            (None, Some(_)) => MemberState::Alive,
            (None, None) => MemberState::Down,
            (Some(_), _) => {
                let lease = self.own_lease();
                match membership::judge(&Silence { since: self.lost, lease, ..*silence }, now) {
                    Verdict::Doubted(look) => {
                        self.doubted = Some(look);
                        // Until more is known it is what it was. One that was given up and renews after all is not heard.
                        match self.shown {
                            Some((MemberState::Down | MemberState::Unheard, _)) if lease.is_some() => MemberState::Unheard,
                            Some((MemberState::Down, _)) => MemberState::Down,
                            _ => there,
                        }
                    }
                    Verdict::Unheard => MemberState::Unheard,
                    Verdict::Down => MemberState::Down,
                }
            }
        }
    }

    /// How one is that gossip takes to live. If there was no news of it for a while, and in this life it has held a lease, the broker
    /// knows better.
    fn quiet_state(&mut self, there: MemberState, silence: &Silence, now: Millis) -> MemberState {
        let Some(since) = self.quiet_since(now) else { return there };
        let lease = self.own_lease();
        // Where the broker does not answer, so short a silence is not enough.
        match membership::judge(&Silence { since, lease, unanswered: false, ..*silence }, now) {
            Verdict::Doubted(look) => {
                self.doubted = Some(look);
                if matches!(self.shown, Some((MemberState::Down, _))) { MemberState::Down } else { there }
            }
            Verdict::Down if self.holder == self.life() => MemberState::Down,
            Verdict::Down | Verdict::Unheard => there,
        }
    }

    /// Since when there has been no news of it, if it is heard, and news of it came so often before that this means something.
    fn quiet_since(&self, now: Millis) -> Option<Millis> {
        let since = self.news.1 + self.patience.filter(|_| self.audible)?;
        (since <= now).then_some(since)
    }

    fn own_lease(&self) -> Option<Lease> {
        self.lease.as_ref().map(|lease| Lease { left: millis(lease.lease_left), length: millis(lease.lease) })
    }

    /// Which life of it is heard.
    fn life(&self) -> Option<Millis> {
        self.heard.as_ref().map(|heard| heard.card.generation)
    }

    fn member(&self, node: &NodeId, state: MemberState, since: Millis) -> Option<Member> {
        if let Some(Heard { card, load, address }) = &self.heard {
            return Some(Member {
                node: node.clone(),
                state,
                since,
                roles: card.roles.clone(),
                queues: card.queues.clone(),
                version: card.version.clone(),
                host: card.host.clone(),
                http: card.http.clone(),
                gossip: Some(*address),
                load: Some(*load),
            });
        }
        let leased = self.leased.as_ref()?;
        let about = &leased.about;
        Some(Member {
            node: node.clone(),
            state,
            since,
            roles: Vec::new(),
            queues: leased.queues.clone(),
            version: about.version.clone(),
            host: about.host.clone(),
            http: about.http.map(|http| http.to_string()),
            gossip: about.gossip,
            load: None,
        })
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 4)
}

/// What consumers read.
pub(crate) type View = tokio::sync::watch::Sender<Arc<ClusterView>>;

#[cfg(test)]
mod tests;
