//! Whether what the node depends on answers. An outage is a state: it is reported, logged when it begins and when it ends,
//! and asked again for ever.

use serde::Serialize;
use tokio::sync::watch;
use umbel_proto::Millis;

use crate::clock;

/// The state of the way to a broker or ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Link {
    /// It answers.
    Live {
        /// Since when.
        since: Millis,
    },
    /// It does not; asked again with growing, jittered delays.
    Reconnecting {
        /// Since when.
        since: Millis,
        /// What it said last.
        reason: String,
    },
}

impl Link {
    /// Whether it answers.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

/// The links of one node. Everything that asks a server reports here; watchers read.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) broker: Cell,
    pub(crate) ledger: Cell,
}

/// One link.
#[derive(Debug)]
pub(crate) struct Cell {
    what: String,
    state: watch::Sender<Link>,
}

impl Links {
    pub(crate) fn new(broker: &str, ledger: &str) -> Self {
        Self { broker: Cell::new(format!("{broker} broker")), ledger: Cell::new(format!("{ledger} ledger")) }
    }
}

impl Cell {
    fn new(what: String) -> Self {
        Self { what, state: watch::Sender::new(Link::Live { since: clock::now() }) }
    }

    /// It answered.
    pub(crate) fn up(&self) {
        // The common case must not wake or lock anybody.
        if matches!(*self.state.borrow(), Link::Live { .. }) {
            return;
        }
        let before = self.state.send_replace(Link::Live { since: clock::now() });
        if let Link::Reconnecting { since, .. } = before {
            tracing::info!(away_ms = clock::now() - since, "the {} answers again", self.what);
        }
    }

    /// It did not.
    pub(crate) fn down(&self, why: &str) {
        let mut began = false;
        self.state.send_modify(|link| match link {
            Link::Live { .. } => {
                began = true;
                *link = Link::Reconnecting { since: clock::now(), reason: why.to_owned() };
            }
            Link::Reconnecting { reason, .. } => why.clone_into(reason),
        });
        if began {
            tracing::warn!(reason = why, "the {} does not answer; work in hand is kept, asking again until it does", self.what);
        }
    }

    pub(crate) fn now(&self) -> Link {
        self.state.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Link> {
        self.state.subscribe()
    }
}
