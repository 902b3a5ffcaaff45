//! A claim: a message taken from a broker, what is owed for it, and the room it takes.

use std::{fmt, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;
use umbel_proto::{DecodeError, Invocation};

use crate::brokers::{Held, Returns};

/// A message on its way through the pipeline. It is moved, never copied: whoever has it answers for it, and dropping it
/// returns the message to its queue and the room to the consumer.
#[derive(Debug)]
pub struct Claim {
    /// What to run, or why it cannot be understood.
    pub invocation: Result<Arc<Invocation>, DecodeError>,
    /// What is owed to the broker; `None` once the message has been acknowledged early.
    pub debt: Option<Debt>,
    /// How many executors have died under it.
    pub crashes: u32,
    /// Whether it was acknowledged early by a node that died before the ending.
    pub lost: bool,
    /// The room it takes.
    pub credit: Credit,
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
pub struct Credit(OwnedSemaphorePermit);

impl Credit {
    /// One permit of the consumer's semaphore.
    pub fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(permit)
    }
}
