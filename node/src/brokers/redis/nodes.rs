//! Who is there: what sessions say of themselves, and which of them hold a lease.

use std::time::Duration;

use redis::Value;
use serde::{Deserialize, Serialize};
use umbel_proto::{NodeId, QueueName};

use super::Shared;
use crate::{
    brokers::{About, LiveNode},
    redis::{answer, error::RedisError, script::Script},
};

static NODES: Script =
    Script::new("nodes", concat!(include_str!("../../redis/scripts/pulse.lua"), include_str!("../../redis/scripts/nodes.lua")));

/// What is written of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Card {
    pub(super) node: NodeId,
    pub(super) queues: Vec<QueueName>,
    #[serde(default)]
    pub(super) about: About,
    /// How long its lease runs from each renewal on; 0 when an older version does not say.
    #[serde(default)]
    pub(super) lease_ms: u64,
}

impl Shared {
    /// The nodes that hold a lease now, by name. A session whose card cannot be read is left out: it was written by a version
    /// that says it in another way.
    pub(super) async fn nodes(&self) -> Result<Vec<LiveNode>, RedisError> {
        let mut call = NODES.call(3);
        call.arg(self.keys.leases()).arg(self.keys.sessions()).arg(self.keys.pulse());
        let mut answer = answer::list(self.link.script(&NODES, &call).await?, "a look at the nodes")?.into_iter();
        let mut nodes = Vec::with_capacity(answer.len() / 3);
        while let (Some(session), Some(left), Some(card)) = (answer.next(), answer.next(), answer.next()) {
            let (Some(session), Value::Int(left), Some(card)) = (answer::text(session), left, answer::bytes(card)) else {
                return Err(RedisError::strange("a look at the nodes"));
            };
            let Ok(Card { node, mut queues, about, lease_ms }) = serde_json::from_slice(&card) else { continue };
            queues.sort();
            let lease_left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            let lease = Duration::from_millis(lease_ms).max(lease_left);
            nodes.push(LiveNode { node, session, queues, lease_left, lease, about });
        }
        nodes.sort_by(|a, b| (&a.node, &a.session).cmp(&(&b.node, &b.session)));
        Ok(nodes)
    }
}
