//! What operators do: look into queues and dead letters, empty, pause, revoke.

use umbel_proto::QueueName;
use umbel_scheduler::revocation::Revocation;

use super::{Client, ClientError};
use crate::brokers::{DeadLetter, Peeked, QueueStatus};

impl Client {
    /// Every queue that has messages, is consumed or is paused.
    ///
    /// # Errors
    /// When the broker refuses or does not answer in time; so for all of these.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, ClientError> {
        self.patiently("list the queues", || self.0.broker.queues()).await
    }

    /// The next messages of a queue, without taking them.
    ///
    /// # Errors
    /// See [`Client::queues`].
    pub async fn peek(&self, queue: &QueueName, limit: usize) -> Result<Vec<Peeked>, ClientError> {
        self.patiently(&format!("look into queue {queue}"), || self.0.broker.peek(queue, limit)).await
    }

    /// Removes every waiting and scheduled message of a queue and says how many there were.
    ///
    /// # Errors
    /// See [`Client::queues`].
    pub async fn purge(&self, queue: &QueueName) -> Result<u64, ClientError> {
        self.patiently(&format!("purge queue {queue}"), || self.0.broker.purge(queue)).await
    }

    /// Stops or resumes handing out a queue's messages, on every node.
    ///
    /// # Errors
    /// See [`Client::queues`].
    pub async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), ClientError> {
        let verb = if paused { "pause" } else { "resume" };
        self.patiently(&format!("{verb} queue {queue}"), || self.0.broker.pause(queue, paused)).await
    }

    /// Dead letters, newest first.
    ///
    /// # Errors
    /// See [`Client::queues`].
    pub async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, ClientError> {
        self.patiently("list the dead letters", || self.0.broker.dead(limit)).await
    }

    /// Puts a dead letter back into its queue; `false` when there is none of that id.
    ///
    /// # Errors
    /// See [`Client::queues`].
    pub async fn dead_retry(&self, id: &str) -> Result<bool, ClientError> {
        self.patiently(&format!("retry dead letter {id}"), || self.0.broker.dead_retry(id)).await
    }

    /// Removes a dead letter; `false` when there is none of that id.
    ///
    /// # Errors
    /// See [`Client::queues`].
    pub async fn dead_drop(&self, id: &str) -> Result<bool, ClientError> {
        self.patiently(&format!("drop dead letter {id}"), || self.0.broker.dead_drop(id)).await
    }

    /// Orders that things do not run, durably and on every node. What is running is ended by force.
    ///
    /// # Errors
    /// See [`Client::queues`].
    pub async fn revoke(&self, orders: &[Revocation]) -> Result<(), ClientError> {
        self.patiently("revoke", || self.0.broker.revoke(orders)).await
    }
}
