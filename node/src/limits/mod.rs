//! The seam of limits: who counts.
//!
//! **What a contributor writes.** A [`Limits`], which gives turns by the arithmetic of [`umbel_scheduler::limits`] and keeps the
//! rules that were set while nodes run. **What it must promise.** A turn is given in one step for all nodes that share it; what
//! has a turn keeps its place until it is done, or until its node is dead; a rule that was set is known to a node before it
//! takes work. **What bounds it.** One [`umbel_scheduler::limits::Meter`] for each limit and key that was used within the hour.
//! **When it dies** it is asked again, and what is limited waits; everything else runs on.
//!
//! Where the broker has limits ([`crate::brokers::Broker::limits`]) they are the cluster's; else those of the result backend
//! are; else each node counts by itself ([`LocalLimits`]), its share of the rate being one in as many as gossip sees. The proof
//! for every implementation is `tests/src/conformance/limits.rs`.

mod key;
mod local;
mod place;
mod redis;
mod rules;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::watch;
use umbel_proto::{Millis, TaskName};
use umbel_scheduler::{
    limits::{Rule, Turn},
    rate_limit::Rate,
};

pub use self::{
    key::{Key, KeyError},
    local::LocalLimits,
    redis::RedisLimits,
    rules::{LimitRule, Rules},
};
pub(crate) use self::{
    place::{Limiting, Permit, Place},
    rules::keep_rules,
};

/// Who gives turns.
#[async_trait]
pub trait Limits: fmt::Debug + Send + Sync + 'static {
    /// A turn for each who asks, and what the time was, in milliseconds since 1970 by the clock that turns are given by. Who may
    /// start now, or has booked a start, does so within [`umbel_scheduler::limits::MARGIN_MS`] of that time or not at all.
    ///
    /// # Errors
    /// When nobody answers; nobody has had a turn then, or those who had lose it.
    async fn turns(&self, asks: &[Ask]) -> Result<(Millis, Vec<Turn>), LimitsError>;

    /// These run no more, or have not begun to.
    ///
    /// # Errors
    /// When nobody answers. Where places are kept by leases they come free by themselves.
    async fn done(&self, done: &[Done]) -> Result<(), LimitsError>;

    /// The rules that were set while nodes ran, by task.
    ///
    /// # Errors
    /// When nobody answers.
    async fn rules(&self) -> Result<BTreeMap<TaskName, LimitRule>, LimitsError>;

    /// Counts the news that rules may have been changed; `None` where nobody tells, and [`Limits::rules`] has to be asked.
    fn news(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Sets the rule of a task for all nodes, durably; `None` brings back what is configured.
    ///
    /// # Errors
    /// When nobody answers.
    async fn set_rule(&self, task: &TaskName, rule: Option<&LimitRule>) -> Result<(), LimitsError>;
}

/// Somebody who asks for a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The limit: the task, and the key if it has one.
    pub limit: String,
    /// What is limited.
    pub rule: Rule,
    /// The delivery it holds.
    pub holder: String,
    /// The task's id.
    pub task: String,
    /// Whether it has waited for its turn.
    pub waited: bool,
    /// Whether there is a slot for it.
    pub ready: bool,
}

/// Somebody who had a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The limit.
    pub limit: String,
    /// The delivery it held.
    pub holder: String,
    /// The task, if it has ended for good.
    pub ended: Option<String>,
    /// Its start, if it has not taken place.
    pub unused: Option<Unused>,
}

/// A start that was allowed or booked and has not taken place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unused {
    /// When it was to be, by the clock that turns are given by.
    pub at: Millis,
    /// What it came under.
    pub rate: Rate,
}

/// Why there are no turns.
#[derive(Debug, Clone, Error)]
#[error("limits cannot be kept: {reason}")]
pub struct LimitsError {
    /// Why.
    pub reason: String,
}

/// How long a rule may take to be heard of by all nodes.
pub const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// The rules in force: what is configured, and over it what was set.
pub(crate) type InForce = watch::Sender<Arc<Rules>>;
