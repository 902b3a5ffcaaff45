//! Celery's native delayed delivery (`kombu/transport/native_delayed_delivery.py`): a ladder of 28 queues, the seconds of the
//! delay written in binary into the routing key; each queue keeps what has its bit for 2ⁿ seconds and passes it down.
//!
//! Celery binds task queues to the foot of the ladder by their exchange, which a direct exchange cannot do; and by a pattern
//! that also fits other queues whose names end the same. Here a task queue is bound itself, with a pattern of exactly 28 places
//! and its own name, so direct exchanges work and a message reaches one queue. Where both bindings lead to the same queue,
//! RabbitMQ delivers one message.

use futures::future::try_join_all;
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use umbel_proto::{Millis, QueueName};

use crate::amqp::{
    QueueType,
    error::AmqpError,
    link::answer,
    table::{name, text},
};

/// The highest rung.
pub(super) const TOP: u32 = 27;

/// The most seconds that fit.
const MAX_SECONDS: u32 = (1 << (TOP + 1)) - 1;

/// The exchange at the foot.
pub(super) const FOOT: &str = "celery_delayed_delivery";

/// An exchange that leads nowhere. It is declared last: where it is, the ladder is whole, whoever died while declaring.
pub(super) const WHOLE: &str = "umbel.delayed";

/// The exchange and the queue of a rung.
pub(super) fn exchange(rung: u32) -> String {
    format!("celery_delayed_{rung}")
}

/// The exchange that a message is sent to with so long a delay: that of its highest rung. Celery sends it to the top, from where each rung
/// above would only pass it down, and the server would compare its key with two patterns at each.
pub(super) fn entrance(seconds: u32) -> String {
    exchange(seconds.max(1).ilog2())
}

/// Whole seconds of a delay, rounded down: the rest is waited for by the taker. Longer ones come by and are delayed again.
pub(super) fn seconds(millis: Millis) -> u32 {
    u32::try_from(millis.max(0) / 1000).unwrap_or(MAX_SECONDS).min(MAX_SECONDS)
}

/// The routing key of a delayed message.
pub(super) fn key(seconds: u32, routing_key: &str) -> String {
    let mut key = String::with_capacity(56 + routing_key.len());
    for rung in (0..=TOP).rev() {
        key.push(if seconds >> rung & 1 == 1 { '1' } else { '0' });
        key.push('.');
    }
    key.push_str(routing_key);
    key
}

/// The routing key behind the bits, if there are 28 bits in front.
pub(super) fn undelayed(key: &str) -> Option<&str> {
    let bytes = key.as_bytes();
    let bits = 2 * (TOP as usize + 1);
    if bytes.len() <= bits {
        return None;
    }
    let well = bytes[..bits].chunks(2).all(|pair| matches!(pair, [b'0' | b'1', b'.']));
    well.then(|| &key[bits..])
}

/// Declares the ladder.
///
/// # Errors
/// When the server refuses, for example because the queues are there with another type.
pub(super) async fn declare(channel: &Channel, kind: QueueType) -> Result<(), AmqpError> {
    let what = "declaring delayed delivery";
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    // What does not depend on each other is asked for together: a busy server takes its time for each answer.
    let exchanges = (0..=TOP).map(exchange).chain([FOOT.to_owned()]).map(|exchange| async move {
        answer(what, channel.exchange_declare(name(&exchange)?, ExchangeKind::Topic, durable, FieldTable::default())).await
    });
    try_join_all(exchanges).await?;
    for rung in (0..=TOP).rev() {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text(if kind == QueueType::Quorum { "quorum" } else { "classic" }));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt((1i64 << rung) * 1000));
        arguments.insert("x-dead-letter-exchange".into(), text(&next(rung)));
        if kind == QueueType::Quorum {
            arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        }
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        answer(what, channel.queue_declare(name(&exchange(rung))?, durable, arguments)).await?;
    }
    try_join_all((0..=TOP).map(|rung| bind_rung(channel, rung))).await?;
    answer(what, channel.exchange_declare(name(WHOLE)?, ExchangeKind::Topic, durable, FieldTable::default())).await
}

/// Leads what has the bit of a rung into its queue, and everything else past it.
async fn bind_rung(channel: &Channel, rung: u32) -> Result<(), AmqpError> {
    let what = "binding a queue of delayed delivery";
    let (this, places) = (name(&exchange(rung))?, "*.".repeat((TOP - rung) as usize));
    let into =
        channel.queue_bind(this.clone(), this.clone(), name(&format!("{places}1.#"))?, QueueBindOptions::default(), FieldTable::default());
    answer(what, into).await?;
    let past = name(&format!("{places}0.#"))?;
    let down = channel.exchange_bind(name(&next(rung))?, this, past, ExchangeBindOptions::default(), FieldTable::default());
    answer(what, down).await
}

/// The exchange below a rung.
fn next(rung: u32) -> String {
    if rung > 0 { exchange(rung - 1) } else { FOOT.to_owned() }
}

/// Binds a task queue to the foot of the ladder.
pub(super) async fn bind(channel: &Channel, queue: &QueueName) -> Result<(), AmqpError> {
    let pattern = format!("{}{queue}", "*.".repeat(TOP as usize + 1));
    let bind = channel.queue_bind(name(queue.as_str())?, FOOT.into(), name(&pattern)?, QueueBindOptions::default(), FieldTable::default());
    answer("binding a queue to delayed delivery", bind).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_enter_at_their_highest_rung() {
        for (seconds, rung) in [(0, 0), (1, 0), (2, 1), (5, 2), (64, 6), (MAX_SECONDS, TOP)] {
            assert_eq!(entrance(seconds), exchange(rung), "{seconds}");
        }
    }

    #[test]
    fn keys_are_celerys() {
        assert_eq!(key(5, "qq"), format!("{}1.0.1.qq", "0.".repeat(25)));
        assert_eq!(undelayed(&key(MAX_SECONDS, "a.b")), Some("a.b"));
        assert_eq!(undelayed("0.1.qq"), None);
        assert_eq!(undelayed("a.b"), None);
        assert_eq!((seconds(-5), seconds(999), seconds(5_999), seconds(i64::MAX)), (0, 0, 5, MAX_SECONDS));
    }
}
