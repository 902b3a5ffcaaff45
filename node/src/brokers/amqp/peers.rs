//! Which nodes are there, asked over RabbitMQ: a question to everybody, and whoever takes messages answers.
//!
//! **What it owns.** For every session a task with a channel and a queue of its own, bound to the exchange `umbel.nodes`; both
//! go with the session's connection, which is its lease. **Who sends to it.** Whoever asks [`Shared::presences`]. **What bounds
//! it.** One answer a question. **When it dies.** The node is not listed; its messages are given away at the same moment.

use std::{collections::BTreeMap, sync::Weak, time::Duration};

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, ExchangeKind,
    options::{BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use umbel_proto::QueueName;

use super::{
    super::{About, LiveNode},
    Shared,
    session::Session,
};
use crate::amqp::{error::AmqpError, link::answer, table::name};

const EXCHANGE: &str = "umbel.nodes";

/// RabbitMQ's way to answer a question without a queue of the asker's.
const REPLIES: &str = "amq.rabbitmq.reply-to";

/// How long the first answer may take, and how long silence is the end.
const FIRST: Duration = Duration::from_millis(400);
const SILENCE: Duration = Duration::from_millis(150);

/// What a session says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Presence {
    node: String,
    session: String,
    queues: Vec<String>,
    lease_ms: u64,
    /// How many messages of each queue it holds.
    pub(super) held: BTreeMap<String, u64>,
    about: About,
}

impl Presence {
    fn of(session: &Session) -> Self {
        Self {
            node: session.node.as_str().to_owned(),
            session: session.id.clone(),
            queues: session.queues().iter().map(|queue| queue.as_str().to_owned()).collect(),
            lease_ms: u64::try_from(session.lease.as_millis()).unwrap_or(u64::MAX),
            held: session.hand.held().into_iter().map(|(queue, count)| (queue.as_str().to_owned(), count)).collect(),
            about: session.about.clone(),
        }
    }
}

/// Answers for a session until its channel ends.
pub(super) async fn answer_for(session: Weak<Session>, channel: Channel) -> Result<(), AmqpError> {
    let what = "being there for other nodes";
    declare(&channel).await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = answer(what, channel.queue_declare("".into(), options, FieldTable::default())).await?.name().clone();
    let bind = channel.queue_bind(queue.clone(), EXCHANGE.into(), "".into(), QueueBindOptions::default(), FieldTable::default());
    answer(what, bind).await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut questions = answer(what, channel.basic_consume(queue, "".into(), options, FieldTable::default())).await?;
    crate::task::spawn(async move {
        while let Some(Ok(question)) = questions.next().await {
            let Some(session) = session.upgrade().filter(|session| session.is_used() && !session.hand.is_dead()) else { continue };
            let Some(reply) = question.properties.reply_to().clone() else { continue };
            let Ok(body) = serde_json::to_vec(&Presence::of(&session)) else { continue };
            let properties = BasicProperties::default().with_content_type("application/json".into());
            let _ = channel.basic_publish("".into(), reply, BasicPublishOptions::default(), &body, properties).await;
        }
    });
    Ok(())
}

/// The exchange stays: one that goes with its last queue may go between its declaration and the next binding.
async fn declare(channel: &Channel) -> Result<(), AmqpError> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    answer("finding other nodes", channel.exchange_declare(name(EXCHANGE)?, ExchangeKind::Fanout, options, FieldTable::default())).await
}

impl Shared {
    /// Asks who takes messages, and waits until nobody answers any more.
    pub(super) async fn presences(&self) -> Result<Vec<Presence>, AmqpError> {
        let what = "finding other nodes";
        let (_, channel) = self.link.channel().await?;
        declare(&channel).await?;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut answers = answer(what, channel.basic_consume(REPLIES.into(), "".into(), options, FieldTable::default())).await?;
        let properties = BasicProperties::default().with_reply_to(REPLIES.into());
        let ask = channel.basic_publish(EXCHANGE.into(), "".into(), BasicPublishOptions::default(), b"who", properties);
        answer(what, ask).await?;
        let mut presences: Vec<Presence> = Vec::new();
        let mut patience = FIRST;
        while let Ok(Some(Ok(answered))) = timeout(patience, answers.next()).await {
            patience = SILENCE;
            presences.extend(serde_json::from_slice::<Presence>(&answered.data).ok());
        }
        let _ = answer("closing a channel", channel.close(200, "OK".into())).await;
        presences.sort_by(|a, b| (&a.node, &a.session).cmp(&(&b.node, &b.session)));
        Ok(presences)
    }

    /// The nodes that take messages now.
    pub(super) async fn nodes(&self) -> Result<Vec<LiveNode>, AmqpError> {
        let node = |presence: Presence| LiveNode {
            node: presence.node.as_str().into(),
            session: presence.session,
            queues: presence.queues.iter().map(|queue| QueueName::from(queue.as_str())).collect(),
            // Whoever answers is there now.
            lease_left: Duration::from_millis(presence.lease_ms),
            lease: Duration::from_millis(presence.lease_ms),
            about: presence.about,
        };
        Ok(self.presences().await?.into_iter().map(node).collect())
    }
}
