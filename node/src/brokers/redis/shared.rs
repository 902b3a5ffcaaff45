//! What the broker, its subscriptions and the ledger share.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::watch;
use umbel_proto::{DeliveryTag, Envelope, Limits, NodeId, QueueName};
use umbel_scheduler::{revocation::Revoked, tuning::Tunings};

use super::{
    super::{Delivery, Held},
    revoked,
    session::Session,
    tunings,
};
use crate::redis::{Link, RedisOptions, Target, entry::Passage, keys::Keys, tracking::Tracking};

/// The broker's inside.
pub(crate) struct Shared {
    pub(crate) link: Link,
    pub(crate) tracking: Tracking,
    pub(crate) keys: Keys,
    pub(crate) options: RedisOptions,
    pub(super) revoked: watch::Sender<Arc<Revoked>>,
    pub(super) tunings: watch::Sender<Arc<Tunings>>,
    /// What sessions of this process hold: the field of `unacked`, and which attempt it is.
    held: Mutex<HashMap<String, Holding>>,
    /// Sessions by node; a node that subscribes again keeps its session.
    pub(super) sessions: Mutex<HashMap<NodeId, Weak<Session>>>,
    /// Queues that this process has declared.
    pub(super) declared: Mutex<HashSet<QueueName>>,
}

/// One held delivery.
#[derive(Debug, Clone, Copy)]
struct Holding {
    attempt: u32,
    /// Which subscription took it.
    subscription: u64,
}

impl Shared {
    pub(super) fn open(target: Target, options: RedisOptions) -> Arc<Self> {
        let keys = Keys::new(&options.layout, target.db());
        let shared = Arc::new(Self {
            link: Link::open(target.clone()),
            tracking: Tracking::open(target, &keys),
            keys,
            options,
            revoked: watch::Sender::new(Arc::default()),
            tunings: watch::Sender::new(Arc::default()),
            held: Mutex::default(),
            sessions: Mutex::default(),
            declared: Mutex::default(),
        });
        crate::task::spawn(revoked::listen(Arc::downgrade(&shared), shared.tracking.revoked()));
        crate::task::spawn(tunings::listen(Arc::downgrade(&shared), shared.tracking.tunings()));
        shared
    }

    /// The number of the broker's database.
    pub(crate) fn db(&self) -> i64 {
        self.link.target().db()
    }

    fn holdings(&self) -> MutexGuard<'_, HashMap<String, Holding>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what has been taken.
    pub(super) fn hold(&self, held: &Held, subscription: u64) {
        self.holdings().insert(held.tag.as_str().to_owned(), Holding { attempt: held.attempt, subscription });
    }

    /// Forgets what has been settled or taken away.
    pub(crate) fn let_go<'a>(&self, tags: impl IntoIterator<Item = &'a str>) {
        let mut holdings = self.holdings();
        for tag in tags {
            holdings.remove(tag);
        }
    }

    /// Whether this attempt can be the one that holds the delivery. The server has the last word; another attempt than the one
    /// that was handed out here cannot be.
    pub(crate) fn may_hold(&self, tag: &DeliveryTag, attempt: u32) -> bool {
        self.holdings().get(tag.as_str()).is_none_or(|holding| holding.attempt == attempt)
    }

    /// What a session holds, as far as this process knows.
    pub(super) fn held_by(&self, session: &str) -> Vec<String> {
        let prefix = format!("umbel:{session}:");
        self.holdings().keys().filter(|field| field.starts_with(&prefix)).cloned().collect()
    }

    /// Whether nothing is held through this broker.
    pub(super) fn holds_none(&self) -> bool {
        self.holdings().is_empty()
    }

    /// What a subscription has taken and not settled.
    pub(super) fn taken_by(&self, subscription: u64) -> Vec<String> {
        let holdings = self.holdings();
        holdings.iter().filter(|(_, holding)| holding.subscription == subscription).map(|(field, _)| field.clone()).collect()
    }

    pub(super) fn is_held(&self, field: &str) -> bool {
        self.holdings().contains_key(field)
    }

    /// A delivery of what lay in a list.
    pub(super) fn delivery(&self, field: String, queue: &QueueName, envelope: &[u8]) -> Delivery {
        let envelope = Envelope::from_kombu(envelope, Limits::default());
        let (passage, envelope) = match envelope {
            Ok(mut envelope) => (Passage::take(&mut envelope.properties), Ok(envelope)),
            Err(error) => (Passage::default(), Err(error)),
        };
        Delivery {
            held: Held { queue: queue.clone(), tag: DeliveryTag::from(field), attempt: passage.attempts.saturating_add(1) },
            crashes: passage.crashes,
            lost: passage.lost,
            envelope,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("link", &self.link).finish_non_exhaustive()
    }
}
