//! What the RabbitMQ broker and the `rpc://` backend have in common: connections, values of header tables, addresses.
//!
//! **What it owns.** A [`Link`] is one supervised connection: it reconnects for ever with jitter, goes from host to host, and
//! says in which state it is, also when the server has blocked it (a memory or disk alarm). Nothing else in this crate talks
//! to the `lapin` crate but the broker and the backend that are built on it. lapin's own recovery is left off: what has to be
//! built up again after a loss is known here, and an acknowledgement of an old channel must fail.
//!
//! **Who sends to it.** Any task of the runtime, by channels; a channel belongs to one task.
//!
//! **What bounds it.** Each request has a time limit; a caller that meets an outage gets an error and decides itself when to
//! ask again.
//!
//! **When it dies.** A lost connection is a [`LinkState`]; requests fail as unavailable until it is back.

pub(crate) mod error;
pub(crate) mod link;
pub(crate) mod table;
mod tls;
mod url;
mod wire;

pub use error::AmqpError;
pub use link::{Link, LinkState};
pub use url::{AmqpUrlError, Target};

use std::time::Duration;

/// The type of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueType {
    /// On one node of the broker's cluster.
    #[default]
    Classic,
    /// Replicated; needs no global prefetch and has no priorities before RabbitMQ 4.
    Quorum,
}

/// How RabbitMQ is used; the defaults are Celery's.
#[derive(Debug, Clone, PartialEq)]
pub struct AmqpOptions {
    /// The type of queues that are not there yet (`task_default_queue_type`, `task_create_missing_queue_type`).
    pub queue_type: QueueType,
    /// The highest priority of queues that are not there yet (`task_queue_max_priority`).
    pub max_priority: Option<u8>,
    /// The type of the delayed-delivery queues if they are not there yet (`broker_native_delayed_delivery_queue_type`).
    pub delayed_type: QueueType,
    /// How many dead letters are kept; beyond it the oldest go.
    pub max_dead_letters: u64,
    /// How long an order not to run something holds.
    pub revoke_expires: Duration,
    /// How often both sides say that they are there. Two in a row missed are a dead connection: what a node held that is
    /// cut off is given to others after two to three times this.
    pub heartbeat: Duration,
    /// How long a message is held by one delivery before it is held by another. RabbitMQ closes the channel of a consumer
    /// that holds one for longer than its `consumer_timeout` (half an hour unless set): this must be well below it.
    pub hold: Duration,
    /// How many bytes of the log of schedules are written before it is summed up, so that it can be read fast.
    pub schedule_log: u64,
    /// What connections are called, with what they are for behind it.
    pub name: String,
}

impl Default for AmqpOptions {
    fn default() -> Self {
        Self {
            queue_type: QueueType::Classic,
            max_priority: None,
            delayed_type: QueueType::Quorum,
            max_dead_letters: 100_000,
            revoke_expires: Duration::from_secs(7 * 24 * 60 * 60),
            heartbeat: Duration::from_secs(5),
            hold: Duration::from_secs(600),
            schedule_log: 2_000_000,
            name: format!("umbel-{}", crate::redis::instance()),
        }
    }
}
