//! Reports: what each actor says of itself. The same structures serve `inspect`, HTTP, the dashboard and tests.

use std::collections::BTreeMap;

use serde::Serialize;
use umbel_proto::{Millis, NodeId, QueueName, TaskId, TaskName};

pub use super::{beat::BeatReport, link::Link};

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Taking work.
    Running,
    /// A part has died and will be started again in a moment.
    Restarting,
    /// Taking no more work, finishing what it has.
    Draining,
    /// Over.
    Stopped,
}

/// A whole node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub node: NodeId,
    /// Where it is in its life.
    pub phase: Phase,
    /// When it started.
    pub started: Millis,
    /// The queues it takes from.
    pub queues: Vec<QueueName>,
    /// Whether the broker answers.
    pub broker: Link,
    /// Whether the ledger answers.
    pub ledger: Link,
    /// Its room for messages.
    pub credits: CreditReport,
    /// Why it would hold as many messages as it would.
    pub why: String,
    /// How often each part has been restarted: `consumer`, `gate`, `pool`, `aggregator`, and those beside the pipeline.
    pub restarts: BTreeMap<&'static str, u64>,
    /// Its gossip, if it gossips.
    pub gossip: Option<GossipReport>,
    /// Its beat, if it may send scheduled tasks and lives.
    pub beat: Option<BeatReport>,
    /// How often each kind of fact was told.
    pub facts: BTreeMap<&'static str, u64>,
    /// The consumer; `None` while it is down.
    pub consumer: Option<ConsumerReport>,
    /// The gate.
    pub gate: Option<GateReport>,
    /// The pools, in the order of the executors.
    pub pools: Vec<Option<PoolReport>>,
    /// The aggregator.
    pub aggregator: Option<AggregatorReport>,
}

impl NodeReport {
    /// Every task that is running now.
    pub fn running(&self) -> impl Iterator<Item = &RunningTask> {
        self.pools.iter().flatten().flat_map(|pool| &pool.running)
    }
}

/// Gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GossipReport {
    /// What others send to.
    pub address: std::net::SocketAddr,
    /// What it has sent and heard.
    pub traffic: crate::gossip::Traffic,
}

/// Room for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CreditReport {
    /// How many messages the node may hold.
    pub total: u32,
    /// How many it holds.
    pub in_use: u32,
    /// How many it would hold now, seeing the other nodes.
    pub offered: u32,
}

/// The consumer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ConsumerReport {
    /// Messages it has taken since it started.
    pub fetched: u64,
    /// Batches they came in.
    pub batches: u64,
    /// How often messages waited and none came, so that the subscription was renewed.
    pub stalls: u64,
    /// Whether it has stopped fetching for good.
    pub draining: bool,
}

/// The gate.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GateReport {
    /// Messages held until their time.
    pub held: usize,
    /// Messages held by rate limits.
    pub limited: usize,
    /// Orders not to run something.
    pub revoked: usize,
}

/// A pool.
#[derive(Debug, Clone, Serialize)]
pub struct PoolReport {
    /// The kind of its executor.
    pub executor: &'static str,
    /// Its slots.
    pub slots: usize,
    /// Those that can run tasks.
    pub alive: usize,
    /// Tasks waiting for a slot.
    pub waiting: usize,
    /// Slots that died and were replaced.
    pub slot_restarts: u64,
    /// The processes of its slots, one for each; the node's own where they have none.
    pub processes: Vec<u32>,
    /// The devices of its slots, one for each; empty where they have none.
    pub devices: Vec<String>,
    /// What runs.
    pub running: Vec<RunningTask>,
    /// Whether it takes no more tasks.
    pub draining: bool,
}

/// A task that runs.
#[derive(Debug, Clone, Serialize)]
pub struct RunningTask {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// When it started.
    pub started: Millis,
    /// Which taking of its message this is.
    pub attempt: u32,
}

/// The aggregator.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AggregatorReport {
    /// Commits waiting for the flush in flight to return.
    pub waiting: usize,
    /// Commits in flight.
    pub in_flight: usize,
    /// Flushes so far.
    pub flushes: u64,
    /// Commits they carried.
    pub commits: u64,
    /// Chords concluded here.
    pub concluded: u64,
    /// Decisions that panicked; each cost one message an attempt.
    pub panics: u64,
}
