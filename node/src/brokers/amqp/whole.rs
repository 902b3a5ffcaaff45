//! Publishing what belongs together: all of it or nothing, whenever the sender dies.
//!
//! A sender that dies has often sent only the first of several messages: RabbitMQ throws away what it has not read when a
//! connection is reset. So a workflow's messages go in one transaction, which the server carries out when it has all of them. Its
//! `tx.commit` is answered once every message is where a confirm would say it is. A *server* that dies in the midst of it may
//! have kept a part.

use std::time::Duration;

use futures::future::try_join_all;
use lapin::{Channel, options::BasicPublishOptions};
use tokio::time::timeout;
use umbel_proto::TaskId;
use umbel_scheduler::Publish;

use super::{Shared, message::Post, publish::SLICE};
use crate::amqp::{
    error::{AmqpError, judge},
    link::{ANSWER, answer},
};

/// How many messages the server is given another [`ANSWER`] for.
const PER_ANSWER: usize = 10_000;

impl Shared {
    /// Publishes all of it or nothing; `Ok` means what it means of [`Shared::publish`].
    pub(super) async fn publish_whole(&self, batch: &[Publish]) -> Result<(), AmqpError> {
        let mut posts = Vec::with_capacity(batch.len());
        for slice in batch.chunks(SLICE) {
            posts.extend(self.posts(slice).await?);
        }
        let posts = posts.into_iter().collect::<Result<Vec<Post>, _>>()?;
        self.unblocked()?;
        let sent = self.transact(&posts).await;
        let answers: Vec<_> = batch.iter().map(|_| sent.as_ref().map(drop).map_err(Clone::clone)).collect();
        self.remember_doubts(batch, &answers);
        // Somebody has deleted a queue that was declared from here, or there is none behind a named exchange.
        let returned = sent?;
        for (publish, post) in batch.iter().zip(&posts) {
            if returned.contains(&publish.invocation.headers.id) {
                self.send_elsewhere(publish, post, AmqpError::Refused("it was returned".to_owned())).await?;
            }
        }
        Ok(())
    }

    /// Sends and commits; whose messages have found no queue.
    async fn transact(&self, posts: &[Post]) -> Result<Vec<TaskId>, AmqpError> {
        let line = self.transactor().await?;
        let channel = &line.channel;
        for slice in posts.chunks(SLICE) {
            let sending = slice.iter().map(|post| {
                let Post { exchange, routing_key, body, properties, .. } = post;
                let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
                channel.basic_publish(exchange.clone(), routing_key.clone(), mandatory, body, properties.clone())
            });
            answer("publishing", try_join_all(sending)).await?;
        }
        let patience = ANSWER.saturating_add(ANSWER.saturating_mul(u32::try_from(posts.len() / PER_ANSWER).unwrap_or(u32::MAX)));
        commit(channel, patience).await?;
        let returned = answer("publishing", channel.wait_for_confirms()).await?;
        self.transactors.keep(line);
        let ids = returned.iter().filter_map(|message| message.delivery.properties.correlation_id().as_ref());
        Ok(ids.map(|id| TaskId::from(id.as_str())).collect())
    }
}

async fn commit(channel: &Channel, patience: Duration) -> Result<(), AmqpError> {
    match timeout(patience, channel.tx_commit()).await {
        Ok(committed) => committed.map_err(|error| judge(&error, "publishing")),
        Err(_) => Err(AmqpError::Unavailable(format!("publishing: not confirmed within {patience:?}"))),
    }
}
