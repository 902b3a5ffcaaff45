//! What is no task: broadcasts and events by PUBLISH, answers in a list of the client's own.
//!
//! **What it owns.** Per listener of broadcasts or topics a connection that is subscribed from its first moment on, and again
//! after each reconnect; per listener of answers a list, of which the tracked connection brings news.
//!
//! **The names** are kombu's (`kombu/transport/redis.py::_get_publish_topic`): `/<db>.<exchange>` and
//! `/<db>.<exchange>/<routing key>`, behind `global_keyprefix`. Whoever listens is also entered in the exchange's set of
//! bindings: senders of answers find the list there, and `celery list bindings` finds the rest. kombu 5.7 deletes sets that
//! nobody has refreshed in time, so [`REFRESH`] does.
//!
//! **What bounds it.** An [`Inbox`] per listener. A list of answers that nobody takes is deleted by the server after
//! [`ANSWERS_KEPT`]. **When it dies**, its entry in the bindings stays until somebody listens under its name again, or kombu
//! sweeps; a broadcast does not need it, and an answer to it goes to a list that ends by itself.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Envelope, Limits, QueueName, keyspace::BrokerKeys};

use super::{
    super::{
        BrokerError,
        fanout::{Address, Fanout, Heard, Inbox, Listen, Listener},
    },
    Shared,
};
use crate::{
    clock,
    redis::{
        Link, LinkState,
        error::RedisError,
        link::{ANSWER, Habits, Hearer},
    },
};

/// How long answers wait for a client that does not take them, in milliseconds.
const ANSWERS_KEPT: i64 = 60_000;

/// How long kombu leaves a set of bindings alone (`MIN_BINDING_TTL`), in milliseconds.
const BINDING_TTL: i64 = 3_600_000;

/// How often bindings are entered again: a server that was emptied has forgotten them.
const REFRESH: Duration = Duration::from_secs(60);

/// How long a client trusts that it is told of an answer before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The most answers taken at a time.
const ANSWERS: usize = 200;

/// The fanout of a Redis broker.
pub(super) struct RedisFanout {
    shared: Arc<Shared>,
}

impl RedisFanout {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn send_one(&self, address: Address, mut envelope: Envelope) -> Result<(), RedisError> {
        let (exchange, key) = match &address {
            Address::Broadcast { exchange } => (exchange, ""),
            Address::Direct { exchange, key } | Address::Topic { exchange, key } => (exchange, key.as_str()),
        };
        let mut info = umbel_proto::Map::with_capacity(2);
        info.insert("exchange".to_owned(), exchange.as_str().into());
        info.insert("routing_key".to_owned(), key.into());
        let properties = &mut envelope.properties;
        properties.insert("delivery_mode".to_owned(), umbel_proto::Value::Int(1));
        properties.insert("delivery_info".to_owned(), umbel_proto::Value::Map(info));
        properties.entry("priority".to_owned()).or_insert(umbel_proto::Value::Int(0));
        properties.insert("delivery_tag".to_owned(), uuid::Uuid::new_v4().to_string().into());
        let payload = envelope.to_kombu();
        match &address {
            Address::Broadcast { .. } | Address::Topic { .. } => {
                let key = Some(key).filter(|key| !key.is_empty());
                let mut command = redis::cmd("PUBLISH");
                command.arg(self.shared.keys.kombu.channel(exchange, key)).arg(payload);
                self.shared.link.run(&command).await.map(drop)
            }
            Address::Direct { .. } => {
                let Some(queue) = self.shared.bound(exchange, key).await? else { return Ok(()) };
                let list = self.shared.keys.kombu.queue(&queue, 0);
                let mut pipeline = redis::pipe();
                pipeline.cmd("LPUSH").arg(&list).arg(payload).ignore();
                pipeline.cmd("PEXPIRE").arg(&list).arg(ANSWERS_KEPT).ignore();
                self.shared.link.pipeline::<()>(&pipeline).await
            }
        }
    }
}

#[async_trait]
impl Fanout for RedisFanout {
    async fn send(&self, batch: Vec<(Address, Envelope)>) -> Vec<Result<(), BrokerError>> {
        // One after the other, so that their order is kept; they share the connection with everything else.
        let mut answers = Vec::with_capacity(batch.len());
        for (address, envelope) in batch {
            answers.push(self.send_one(address, envelope).await.map_err(Into::into));
        }
        answers
    }

    async fn listening(&self, exchange: &str) -> Result<Option<Vec<QueueName>>, BrokerError> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.shared.keys.kombu.binding(exchange));
        let members: Vec<String> = self.shared.link.query(&command).await?;
        Ok(Some(members.iter().filter_map(|member| self.shared.keys.kombu.bound(member)).map(|(_, _, queue)| queue).collect()))
    }

    async fn listen(&self, listen: Listen) -> Result<Box<dyn Listener>, BrokerError> {
        let binding = Binding::new(&self.shared.keys.kombu, &listen);
        binding.enter(&self.shared).await?;
        let refreshing = refresh(&self.shared, binding.clone());
        let shared = Arc::clone(&self.shared);
        let (exchange, pattern) = match listen {
            Listen::Direct { queue, .. } => {
                let list = shared.keys.kombu.queue(&queue, 0);
                let news = shared.tracking.queues();
                return Ok(Box::new(Answers { shared, binding, list, news, taken: Vec::new(), taking: None, _refreshing: refreshing }));
            }
            Listen::Broadcasts { exchange, .. } => (exchange, None),
            Listen::Topics { exchange, pattern, .. } => (exchange, Some(pattern)),
        };
        let words = match pattern {
            None => ["SUBSCRIBE".to_owned(), shared.keys.kombu.channel(&exchange, None)],
            Some(pattern) => {
                let channel = shared.keys.kombu.channel(&exchange, Some("."));
                let start = literal(channel.strip_suffix('.').unwrap_or(&channel));
                // kombu has one wildcard for both of AMQP's; a word more is sorted out by whoever reads the event.
                ["PSUBSCRIBE".to_owned(), format!("{start}{}", pattern.replace('#', "*"))]
            }
        };
        let inbox = Arc::new(Inbox::default());
        let hearing = Arc::clone(&inbox);
        let pushes: Hearer = Arc::new(move |push| hear(push, &hearing));
        let link = Link::with_habits(shared.link.target().clone(), Habits { greeting: vec![words.to_vec()], pushes: Some(pushes) });
        wait_for(&link).await?;
        Ok(Box::new(Subscribed { shared, binding, inbox, _link: link, _refreshing: refreshing }))
    }
}

impl std::fmt::Debug for RedisFanout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RedisFanout").field(&self.shared.link).finish()
    }
}

/// Waits until a link is up, which is after its greeting.
async fn wait_for(link: &Link) -> Result<(), RedisError> {
    let mut state = link.state();
    let up = timeout(ANSWER, state.wait_for(|state| *state == LinkState::Up)).await;
    match up {
        Ok(Ok(_)) => Ok(()),
        _ => Err(RedisError::Unavailable(format!("{}: there is no connection to listen on yet", link.target()))),
    }
}

/// What is published, as it came.
fn hear(push: PushInfo, inbox: &Inbox) {
    if matches!(push.kind, PushKind::Message | PushKind::PMessage)
        && let Some(Value::BulkString(payload)) = push.data.into_iter().next_back()
    {
        inbox.put(payload);
    }
}

/// `text` in a pattern, standing for itself.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal
}

/// An entry in an exchange's set of bindings.
#[derive(Debug, Clone)]
struct Binding {
    exchange: String,
    member: String,
}

impl Binding {
    fn new(keys: &BrokerKeys, listen: &Listen) -> Self {
        let (exchange, key) = match listen {
            Listen::Broadcasts { exchange, .. } => (exchange, ""),
            Listen::Direct { exchange, key, .. } => (exchange, key.as_str()),
            Listen::Topics { exchange, pattern, .. } => (exchange, pattern.as_str()),
        };
        Self { exchange: exchange.clone(), member: keys.binding_member(key, "", listen.queue()) }
    }

    async fn enter(&self, shared: &Shared) -> Result<(), RedisError> {
        let keys = &shared.keys.kombu;
        let mut pipeline = redis::pipe();
        pipeline.cmd("SADD").arg(keys.binding(&self.exchange)).arg(&self.member).ignore();
        let deadline = clock::now() + BINDING_TTL;
        pipeline.cmd("ZADD").arg(keys.binding_deadlines()).arg("GT").arg(deadline).arg(&self.exchange).ignore();
        shared.link.pipeline::<()>(&pipeline).await
    }

    async fn remove(&self, shared: &Shared) -> Result<(), RedisError> {
        let mut command = redis::cmd("SREM");
        command.arg(shared.keys.kombu.binding(&self.exchange)).arg(&self.member);
        shared.link.run(&command).await.map(drop)
    }
}

/// Enters a binding again and again.
fn refresh(shared: &Arc<Shared>, binding: Binding) -> AbortOnDropHandle<()> {
    let shared = Arc::downgrade(shared);
    AbortOnDropHandle::new(crate::task::spawn(async move {
        let mut due = interval(REFRESH);
        due.tick().await;
        loop {
            due.tick().await;
            let Some(shared) = shared.upgrade() else { return };
            if let Err(error) = binding.enter(&shared).await {
                tracing::debug!(exchange = binding.exchange, "a binding cannot be refreshed now: {error}");
            }
        }
    }))
}

fn read(payload: &[u8]) -> Heard {
    Heard::Message(Envelope::from_kombu(payload, Limits::default()).map(Box::new))
}

/// Hears what is published.
struct Subscribed {
    shared: Arc<Shared>,
    binding: Binding,
    inbox: Arc<Inbox>,
    _link: Link,
    _refreshing: AbortOnDropHandle<()>,
}

#[async_trait]
impl Listener for Subscribed {
    async fn next(&mut self) -> Heard {
        match self.inbox.next().await {
            Ok(payload) => read(&payload),
            Err(missed) => Heard::Missed(missed),
        }
    }

    async fn close(self: Box<Self>) -> Result<(), BrokerError> {
        Ok(self.binding.remove(&self.shared).await?)
    }
}

impl std::fmt::Debug for Subscribed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscribed").field(&self.binding).finish()
    }
}

/// Takes answers out of a list.
struct Answers {
    shared: Arc<Shared>,
    binding: Binding,
    list: String,
    news: watch::Receiver<u64>,
    /// Taken and not yet asked for, the next one last.
    taken: Vec<Vec<u8>>,
    /// A take goes on when the future that began it is dropped, so that nothing is lost between the server and here.
    taking: Option<JoinHandle<Result<Vec<Vec<u8>>, RedisError>>>,
    _refreshing: AbortOnDropHandle<()>,
}

impl Answers {
    /// Whether there are answers, and has the server tell when there are.
    async fn anything(&self) -> Result<bool, RedisError> {
        let mut command = redis::cmd("EXISTS");
        command.arg(&self.list);
        self.shared.tracking.read::<bool>(&command).await
    }

    async fn take(&mut self) -> Result<(), RedisError> {
        let taking = match &mut self.taking {
            Some(taking) => taking,
            none => {
                let (link, mut command) = (self.shared.link.clone(), redis::cmd("RPOP"));
                command.arg(&self.list).arg(ANSWERS);
                none.insert(crate::task::spawn(async move { Ok(link.query::<Option<Vec<Vec<u8>>>>(&command).await?.unwrap_or_default()) }))
            }
        };
        let taken = taking.await;
        self.taking = None;
        self.taken = taken.unwrap_or_else(|error| Err(RedisError::Unavailable(format!("taking answers was interrupted: {error}"))))?;
        self.taken.reverse();
        Ok(())
    }
}

#[async_trait]
impl Listener for Answers {
    async fn next(&mut self) -> Heard {
        loop {
            if let Some(payload) = self.taken.pop() {
                return read(&payload);
            }
            self.news.mark_unchanged();
            let looked = match self.taking.is_some() || self.anything().await.unwrap_or(false) {
                true => self.take().await,
                false => Ok(()),
            };
            match looked {
                Ok(()) if !self.taken.is_empty() => continue,
                Ok(()) => {}
                Err(error) => tracing::debug!("answers cannot be taken now: {error}"),
            }
            // Ends early when there is news; looking again in vain is cheap.
            let _ = timeout(LOOK_AGAIN, self.news.changed()).await;
        }
    }

    async fn close(self: Box<Self>) -> Result<(), BrokerError> {
        self.binding.remove(&self.shared).await?;
        let mut command = redis::cmd("DEL");
        command.arg(&self.list);
        self.shared.link.run(&command).await?;
        Ok(())
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Answers").field(&self.list).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_wildcards_stand_for_themselves() {
        assert_eq!(literal("/0.celeryev/"), "/0.celeryev/");
        assert_eq!(literal("a*b?[c]"), "a\\*b\\?\\[c\\]");
    }
}
