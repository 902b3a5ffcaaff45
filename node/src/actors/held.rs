//! The tasks that a node has, one by one, as remote control asks for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use umbel_proto::{Invocation, Millis};
use umbel_scheduler::Acknowledge;

use super::Admitted;
use crate::brokers::Held;

/// A task that a node has.
#[derive(Debug, Clone)]
pub(crate) struct HeldTask {
    /// The task.
    pub(crate) invocation: Arc<Invocation>,
    /// The delivery.
    pub(crate) held: Held,
    /// Whether its message has been acknowledged.
    pub(crate) acknowledged: bool,
    /// How far it is.
    pub(crate) stage: Stage,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It runs.
    Active {
        /// Since when.
        since: Millis,
        /// In which process.
        process: Option<u32>,
    },
    /// It waits for a slot or for its rate limit.
    Reserved,
    /// It waits for its time.
    Scheduled {
        /// When that is.
        due: Millis,
    },
}

impl HeldTask {
    pub(crate) fn new(task: &Admitted, stage: Stage) -> Self {
        let early = task.spec.acknowledge == Acknowledge::Early;
        Self { invocation: task.invocation.clone(), held: task.claim.debt.held().clone(), acknowledged: early && task.claim.begun, stage }
    }
}

/// Which tasks an order is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those with these ids.
    Ids(BTreeSet<String>),
    /// Those with any of these stamps.
    Stamps(BTreeMap<String, Vec<String>>),
}
