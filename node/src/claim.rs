//! A claim: a message taken from a broker, what is owed for it, and the room it takes.

use std::{fmt, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;
use umbel_proto::{DecodeError, Invocation};
use umbel_scheduler::{Fence, RunId, admission::Ended};

use crate::brokers::{Held, Returns};

/// A message on its way through the pipeline. It is moved, never copied: whoever has it answers for it, and dropping it
/// returns the message to its queue and the room to the consumer.
#[derive(Debug)]
pub struct Claim {
    /// What to run, or why it cannot be understood.
    pub invocation: Result<Arc<Invocation>, DecodeError>,
    /// What is owed to the broker.
    pub debt: Debt,
    /// Whether the message has been acknowledged early ([`umbel_scheduler::Release::Begin`]). The debt goes on until the
    /// ending: a begun claim that is dropped comes back as [`crate::brokers::Delivery::lost`], so that its loss is recorded.
    pub begun: bool,
    /// How many executors have died under it.
    pub crashes: u32,
    /// Whether it was acknowledged early by a node that died before the ending.
    pub lost: bool,
    /// Why there is nothing left to run of it, if there is not.
    pub ended: Option<Ended>,
    /// The room it takes.
    pub credit: Credit,
}

impl Claim {
    /// The condition of everything that is committed in the claim's name: that this taking is still the newest.
    pub fn fence(&self) -> Fence {
        let held = self.debt.held();
        let run = self.invocation.as_ref().ok().map(|invocation| RunId::of(invocation));
        Fence::Delivery { tag: held.tag.clone(), attempt: held.attempt, run }
    }

    /// The ledger has paid, or somebody else holds the delivery now. The room comes back.
    pub fn settled(self) {
        self.debt.settled();
    }
}

/// What is owed to the broker for one delivery. Settled exactly once; dropped unsettled, it returns the message by itself.
pub struct Debt {
    held: Held,
    returns: Option<Returns>,
}

impl Debt {
    /// The debt for `held`.
    pub fn new(held: Held, returns: Returns) -> Self {
        Self { held, returns: Some(returns) }
    }

    /// Which delivery it is for.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The ledger has paid, or somebody else holds the delivery now.
    pub fn settled(mut self) {
        self.returns = None;
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if let Some(returns) = self.returns.take() {
            returns.give_back(self.held.clone());
        }
    }
}

impl fmt::Debug for Debt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.fmt(f)
    }
}

/// Room for one message; comes back to the consumer when it is dropped.
#[derive(Debug)]
pub struct Credit {
    _permit: OwnedSemaphorePermit,
}

impl Credit {
    /// One permit of the consumer's semaphore.
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit }
    }
}
