//! What found no queue although its delivery is acknowledged: somebody has deleted that queue.
//!
//! The only copy is here, then. Its queue is declared again as it has to be, and it is sent once more. What declaring takes is tried on
//! another channel, which a refusal closes: the session's own has everything that the node holds.

use std::sync::Arc;

use lapin::{
    Connection,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use umbel_proto::QueueName;

use super::Keeper;
use crate::{
    amqp::{error::AmqpError, link::answer, table::name},
    brokers::amqp::{
        declare::{front_arguments, letters_arguments, typed},
        delay, letters,
    },
};

impl Keeper {
    /// Sends again what has come back, each to its queue.
    pub(super) async fn returned(&mut self) -> Result<(), AmqpError> {
        let returned = answer("settling", self.channel.wait_for_confirms()).await?;
        if returned.is_empty() {
            return Ok(());
        }
        for message in returned {
            self.again(message).await?;
        }
        self.commit().await?;
        for lost in answer("settling", self.channel.wait_for_confirms()).await? {
            let delivery = lost.delivery;
            let task = delivery.properties.correlation_id().as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::error!(queue = %delivery.routing_key, task_id = task, "a message is lost: its queue is deleted again and again");
        }
        Ok(())
    }

    async fn again(&mut self, message: BasicReturnMessage) -> Result<(), AmqpError> {
        let delivery = message.delivery;
        let key = delivery.routing_key.as_str();
        // One that was to be delayed goes to its queue, whose taker sees when it is due.
        let queue = delay::undelayed(key).unwrap_or(key).to_owned();
        tracing::warn!(%queue, "a queue is gone; declaring it again");
        let held = queue.strip_prefix(&self.holding_queue(&QueueName::from(""))).map(QueueName::from);
        if let Some(of) = held {
            // With its consumer, which has gone with it.
            self.holding.remove(&of);
            self.holding_for(&of).await?;
        } else {
            let arguments = match queue.strip_prefix(&super::front(&QueueName::from(""))) {
                Some(of) => front_arguments(self.kind, of),
                None if queue == letters::QUEUE => letters_arguments(self.kind, self.max_dead_letters),
                None => typed(self.kind),
            };
            declare_aside(&Arc::clone(&self.connection), &queue, arguments).await?;
        }
        let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
        let publish = self.channel.basic_publish("".into(), name(&queue)?, mandatory, &delivery.data, delivery.properties);
        answer("sending a message on", publish).await?;
        Ok(())
    }
}

/// Declares a queue on a channel of its own; whatever is there already will do.
async fn declare_aside(connection: &Connection, queue: &str, arguments: FieldTable) -> Result<(), AmqpError> {
    let channel = answer("opening a channel", connection.create_channel()).await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    match answer("declaring a queue", channel.queue_declare(name(queue)?, durable, arguments)).await {
        Ok(_) => drop(answer("closing a channel", channel.close(200, "OK".into())).await),
        Err(AmqpError::Refused(reason)) => tracing::debug!(queue, %reason, "the queue is there with other properties"),
        Err(error) => return Err(error),
    }
    Ok(())
}
