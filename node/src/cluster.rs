//! The cluster as this node sees it.
//!
//! Two witnesses speak: gossip, within about a second, of everybody it hears; and the broker, of everybody who holds a lease.
//! The lease is the truth, since what a node holds depends on it alone; gossip is quicker, and knows how busy each node is. A
//! node that gossip has lost and whose lease goes on is shown as not heard, never as down: the network between two nodes is no
//! verdict about either.
//!
//! [`Roster`] joins what they say, without a clock of its own. Every consumer reads a [`ClusterView`] through a watch.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde::Serialize;
use umbel_proto::{Millis, NodeCard, NodeId, NodeLoad, QueueName};

use crate::brokers::LiveNode;

/// How long a node that is down is remembered.
const DOWN_MS: Millis = 10 * 60_000;

/// How long a node that has said farewell is remembered.
const LEFT_MS: Millis = 60_000;

/// How much later than gossip's loss a lease must have been renewed to count as a sign of life.
const DOUBT_MS: Millis = 1_000;

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
    /// When its lease was last seen to run.
    lease_seen: Millis,
    /// The most that was ever seen left of it: about its length.
    lease_full: Millis,
}

impl Roster {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, entries: BTreeMap::new() }
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
                entry.audible = false;
                entry.lost = now;
            }
        }
        for (node, heard) in newest {
            let entry = self.entries.entry(node).or_default();
            // An older life of it that gossip has not yet forgotten does not hide the newer one.
            if entry.heard.as_ref().is_none_or(|known| !entry.audible || known.card.generation <= heard.card.generation) {
                entry.heard = Some(heard);
                entry.audible = true;
            }
        }
    }

    /// The broker knows of these leases, asked at `asked`.
    pub(crate) fn leases(&mut self, nodes: Vec<LiveNode>, asked: Millis) {
        for entry in self.entries.values_mut() {
            entry.lease = None;
        }
        for node in nodes {
            let entry = self.entries.entry(node.node.clone()).or_default();
            entry.lease_seen = asked;
            entry.lease_full = entry.lease_full.max(lease_ms(&node));
            entry.leased = Some(node.clone());
            entry.lease = Some(node);
        }
    }

    /// What all of it comes to.
    pub(crate) fn view(&mut self, gossips: bool, now: Millis) -> ClusterView {
        let mut members = BTreeMap::new();
        self.entries.retain(|node, entry| {
            let state = entry.state(gossips);
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
    fn state(&self, gossips: bool) -> MemberState {
        let load = self.heard.as_ref().map(|heard| heard.load);
        let farewell = load.is_some_and(|load| load.leaving);
        if self.audible {
            return match load {
                _ if farewell => MemberState::Left,
                Some(load) if load.draining => MemberState::Draining,
                _ => MemberState::Alive,
            };
        }
        match (&self.heard, &self.lease) {
            _ if farewell => MemberState::Left,
            // Both gossip, and yet this one has not been heard: not yet, or the network is in the way, or the secret is another.
            (None, Some(lease)) if gossips && lease.about.gossip.is_some() => MemberState::Unheard,
            // Nodes that do not gossip with each other: the lease is all there is.
            (None, Some(_)) => MemberState::Alive,
            // A lease that was renewed since gossip lost it: the node lives. One that was seen to run only before that may
            // be the last word of a dead one.
            (Some(_), Some(lease)) if self.lease_seen + lease_ms(lease) - self.lease_full > self.lost + DOUBT_MS => MemberState::Unheard,
            _ => MemberState::Down,
        }
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

/// What is left of a lease.
fn lease_ms(lease: &LiveNode) -> Millis {
    Millis::try_from(lease.lease_left.as_millis()).unwrap_or(Millis::MAX / 2)
}

/// What consumers read.
pub(crate) type View = tokio::sync::watch::Sender<Arc<ClusterView>>;

#[cfg(test)]
mod tests;
