//! The fanout seam, an optional part of a broker: messages that are no tasks. Commands to every node, their answers, events.
//!
//! **What a contributor writes.** A [`Fanout`] that sends to Celery's exchanges, and a [`Listener`] for each way of hearing:
//! broadcasts (`celery.pidbox`), answers to one client (`reply.celery.pidbox`), and topics (`celeryev`). The exchanges and
//! queues are declared exactly as Celery declares them (wire contract §2.6, §3.1), so that either side may come first.
//!
//! **What it must promise.** Who listens hears what is sent from then on, in the order of each sender. Nothing is durable:
//! what is sent while nobody listens, or while the connection is lost, is gone, and that is no error. A listener that has lost
//! its connection listens again by itself.
//!
//! **What bounds it.** What has been heard and not been asked for waits in an [`Inbox`]; beyond its bound the oldest is
//! dropped, and the listener is told how many.
//!
//! **When it dies.** Sending answers with a [`BrokerError`]. A listener that is dropped is forgotten by the broker within
//! seconds; [`Listener::close`] does it at once.
//!
//! The proof for every implementation is `tests/src/conformance/fanout.rs`.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::Notify;
use umbel_proto::{DecodeError, Envelope, QueueName};

use super::BrokerError;

/// What a broker offers beside queues of tasks.
#[async_trait]
pub trait Fanout: fmt::Debug + Send + Sync + 'static {
    /// Sends messages; an answer for each. That nobody listens is no error. `delivery_info` and the delivery tag are the
    /// broker's to write.
    async fn send(&self, batch: Vec<(Address, Envelope)>) -> Vec<Result<(), BrokerError>>;

    /// The queues of those who listen to a fanout exchange, as far as the broker can tell: some may be gone. `None` where it
    /// cannot tell at all.
    async fn listening(&self, _exchange: &str) -> Result<Option<Vec<QueueName>>, BrokerError> {
        Ok(None)
    }

    /// Begins to listen; what is sent after this has returned is heard.
    async fn listen(&self, listen: Listen) -> Result<Box<dyn Listener>, BrokerError>;
}

/// One way of hearing.
#[async_trait]
pub trait Listener: fmt::Debug + Send {
    /// Waits for the next message. Dropping the future loses nothing. While the connection is lost, it waits.
    async fn next(&mut self) -> Heard;

    /// Stops listening, and removes what was declared for it.
    async fn close(self: Box<Self>) -> Result<(), BrokerError>;
}

/// What a listener hears.
#[derive(Debug)]
pub enum Heard {
    /// A message, or why the transport's form of it cannot be read.
    Message(Result<Box<Envelope>, DecodeError>),
    /// So many messages were dropped, because they came faster than they were asked for.
    Missed(u64),
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// To everybody who listens to a fanout exchange, which is not durable: `celery.pidbox`.
    Broadcast {
        /// The exchange.
        exchange: String,
    },
    /// To whoever listens under a key of a direct exchange, which is not durable: `reply.celery.pidbox`.
    Direct {
        /// The exchange.
        exchange: String,
        /// The routing key: the id of the client.
        key: String,
    },
    /// To everybody who listens to a pattern of a topic exchange, which is durable: `celeryev`.
    Topic {
        /// The exchange.
        exchange: String,
        /// The routing key: `worker.heartbeat`.
        key: String,
    },
}

/// What to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Everything sent to a fanout exchange.
    Broadcasts {
        /// The exchange.
        exchange: String,
        /// The queue of whoever listens: `celery@host.celery.pidbox`.
        queue: QueueName,
    },
    /// What is sent to one key of a direct exchange.
    Direct {
        /// The exchange.
        exchange: String,
        /// The queue of whoever listens: `<id>.reply.celery.pidbox`.
        queue: QueueName,
        /// The routing key.
        key: String,
    },
    /// What is sent to a topic exchange with a matching key.
    Topics {
        /// The exchange.
        exchange: String,
        /// The queue of whoever listens: `celeryev.<uuid>`.
        queue: QueueName,
        /// The pattern: words divided by dots, `*` for one word, and `#` at the end for any number of them.
        pattern: String,
    },
}

impl Listen {
    /// The queue of whoever listens.
    pub fn queue(&self) -> &QueueName {
        match self {
            Self::Broadcasts { queue, .. } | Self::Direct { queue, .. } | Self::Topics { queue, .. } => queue,
        }
    }
}

/// What has been heard and not been asked for. Bounded by number and bytes: the oldest make room for the newest, as old news
/// is worth less.
#[derive(Debug)]
pub struct Inbox {
    content: Mutex<Content>,
    came: Notify,
    max: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Content {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    missed: u64,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new(4_096, 16 << 20)
    }
}

impl Inbox {
    /// An inbox for at most `max` messages of `max_bytes` together.
    pub fn new(max: usize, max_bytes: usize) -> Self {
        Self { content: Mutex::default(), came: Notify::new(), max, max_bytes }
    }

    /// Puts a message in. It never waits.
    pub fn put(&self, message: Vec<u8>) {
        let mut content = self.lock();
        if message.len() > self.max_bytes {
            content.missed += 1;
        } else {
            content.bytes += message.len();
            content.messages.push_back(message);
            while content.messages.len() > self.max || content.bytes > self.max_bytes {
                let Some(oldest) = content.messages.pop_front() else { break };
                content.bytes -= oldest.len();
                content.missed += 1;
            }
        }
        drop(content);
        self.came.notify_one();
    }

    /// The next message, or `Err` with the number of those that were dropped before it. Dropping the future loses nothing.
    pub async fn next(&self) -> Result<Vec<u8>, u64> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.came.notified().await;
        }
    }

    fn take(&self) -> Option<Result<Vec<u8>, u64>> {
        let mut content = self.lock();
        if content.missed > 0 {
            return Some(Err(std::mem::take(&mut content.missed)));
        }
        let message = content.messages.pop_front()?;
        content.bytes -= message.len();
        Some(Ok(message))
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a routing key matches a pattern of a topic exchange.
pub fn topic_matches(pattern: &str, key: &str) -> bool {
    let (mut pattern, mut key) = (pattern.split('.'), key.split('.'));
    loop {
        match (pattern.next(), key.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(expected), Some(word)) if expected == word => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the newest stay, those who listen are told what they missed, and one that fits nowhere is missed by itself.
    #[tokio::test]
    async fn an_inbox_is_bounded() {
        let inbox = Inbox::new(2, 10);
        for message in ["a", "b", "c"] {
            inbox.put(message.into());
        }
        assert_eq!(inbox.next().await, Err(1));
        assert_eq!((inbox.next().await, inbox.next().await), (Ok(b"b".to_vec()), Ok(b"c".to_vec())));
        inbox.put(vec![0; 11]);
        assert_eq!(inbox.next().await, Err(1));
        inbox.put(vec![0; 6]);
        inbox.put(vec![1; 6]);
        assert_eq!(inbox.next().await, Err(1));
        assert_eq!(inbox.next().await, Ok(vec![1; 6]));
        assert!(inbox.take().is_none());
    }

    #[test]
    fn topics_match_as_in_amqp() {
        for (pattern, key, matches) in [
            ("#", "worker.heartbeat", true),
            ("worker.#", "worker.heartbeat", true),
            ("worker.#", "worker.elect.ack", true),
            ("worker.#", "task.multi", false),
            ("worker.*", "worker.elect.ack", false),
            ("*.sent", "task.sent", true),
            ("task.sent", "task.sent", true),
            ("task.sent", "task", false),
            ("task", "task.sent", false),
        ] {
            assert_eq!(topic_matches(pattern, key), matches, "{pattern} {key}");
        }
    }
}
