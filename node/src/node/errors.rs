//! Why a node does not start, and why one ends by itself.

use thiserror::Error;
use umbel_proto::QueueName;

use crate::{brokers::BrokerError, gossip::GossipError};

/// Why a node could not be started.
#[derive(Debug, Clone, Error)]
pub enum StartError {
    /// Nobody said where messages come from and results go.
    #[error("a node needs a broker, a result backend and a ledger: call `Node::builder().backbone(…)`")]
    NoBackbone,
    /// Nobody said what runs tasks.
    #[error("a node needs at least one executor: call `Node::builder().task(…)` or `.executor(…)`")]
    NoExecutor,
    /// The broker refuses the subscription.
    #[error("cannot take messages from {}: {source}", list(.queues))]
    Subscribe {
        /// The queues.
        queues: Vec<QueueName>,
        /// Why.
        source: BrokerError,
    },
    /// It cannot gossip where it was told to.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// The pipeline could not be put together.
    #[error("cannot start the pipeline: {reason}")]
    Pipeline {
        /// Why.
        reason: String,
    },
}

fn list(queues: &[QueueName]) -> String {
    queues.iter().map(|queue| format!("queue {queue}")).collect::<Vec<_>>().join(", ")
}

/// Why a node ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NodeError {
    /// A part of the pipeline died again and again.
    #[error("the node stopped because its {part} died too often; last: {reason}")]
    GaveUp {
        /// Which part.
        part: &'static str,
        /// What it died of last.
        reason: String,
    },
    /// The supervisor itself died.
    #[error("the node's supervisor died; what the node held goes back when its lease ends")]
    Supervisor,
}
