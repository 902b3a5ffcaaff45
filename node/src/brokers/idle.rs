//! The subscription of a node that takes no messages, such as one that only sends scheduled tasks.

use async_trait::async_trait;

use super::{BrokerError, Delivery, Returns, Subscription};

/// Takes nothing, for ever.
#[derive(Debug)]
pub(crate) struct Idle(Returns);

impl Idle {
    /// A subscription to no queue. Nothing can be given back to it, for it hands nothing out.
    pub(crate) fn new() -> Self {
        Self(Returns::new().0)
    }
}

#[async_trait]
impl Subscription for Idle {
    async fn fetch(&mut self, _: u32) -> Result<Vec<Delivery>, BrokerError> {
        std::future::pending().await
    }

    fn returns(&self) -> Returns {
        self.0.clone()
    }

    async fn close(self: Box<Self>) -> Result<(), BrokerError> {
        Ok(())
    }
}
