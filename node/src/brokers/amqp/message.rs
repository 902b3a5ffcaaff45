//! Messages as RabbitMQ carries them, and what is written on them on their way.

use bytes::Bytes;
use lapin::{
    BasicProperties,
    message::Delivery as Delivered,
    types::{AMQPValue, FieldTable, ShortString},
};
use umbel_proto::{DecodeError, Envelope, Map, Millis, Value};
use umbel_scheduler::Publish;

use super::delay;
use crate::{
    amqp::{error::AmqpError, table},
    clock,
};

/// The header in which nodes write what RabbitMQ does not remember of a message. Celery's workers carry it on and do not
/// look at it; tasks do not see it.
const HEADER: &str = "x-umbel";

/// How often a quorum queue has had a message back.
const COUNT: &str = "x-delivery-count";

/// What RabbitMQ does not remember of a message.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Passage {
    /// How often it has been taken, as far as the queue it is in does not count itself.
    pub(super) attempts: u32,
    /// How many executors have died under it.
    pub(super) crashes: u32,
    /// Whether it was acknowledged early by a node that has not ended it.
    pub(super) lost: bool,
    /// Not to be handed out before this time.
    pub(super) due: Option<Millis>,
    /// The name of the taking that holds it by this copy.
    pub(super) hold: Option<String>,
}

/// A message, ready to be read or sent on.
#[derive(Debug, Clone)]
pub(super) struct Message {
    properties: BasicProperties,
    pub(super) body: Bytes,
    /// Where it was sent to first.
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) passage: Passage,
    /// What a dead letter says of its death.
    pub(super) death: Option<Map>,
}

/// How a message came.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) tag: u64,
    pub(super) message: Message,
    pub(super) redelivered: bool,
    /// How often a quorum queue has had it back; `None` of other queues, which do not count.
    pub(super) count: Option<u32>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

impl Arrival {
    pub(super) fn new(delivered: Delivered) -> Self {
        let Delivered { delivery_tag, exchange, routing_key, redelivered, properties, data, .. } = delivered;
        let headers = properties.headers().as_ref();
        let own = headers.and_then(|headers| headers.inner().get(HEADER)).and_then(AMQPValue::as_field_table).map(table::read);
        let count = headers.and_then(|headers| headers.inner().get(COUNT)).map(|count| match count {
            AMQPValue::LongLongInt(count) => u32::try_from(*count).unwrap_or(u32::MAX),
            AMQPValue::LongInt(count) => u32::try_from(*count).unwrap_or(u32::MAX),
            _ => 0,
        });
        let mut message = Message {
            properties,
            body: Bytes::from(data),
            exchange: exchange.to_string(),
            routing_key: routing_key.to_string(),
            passage: Passage::default(),
            death: None,
        };
        if let Some(own) = own {
            message.take(own);
        }
        if let Some(key) = delay::undelayed(&message.routing_key) {
            message.routing_key = key.to_owned();
            message.exchange = String::new();
        }
        Self { tag: delivery_tag, message, redelivered, count }
    }

    /// How often the message had been taken before.
    pub(super) fn takings(&self) -> u32 {
        self.message.passage.attempts.saturating_add(self.count.unwrap_or(0))
    }
}

impl Message {
    fn take(&mut self, own: Map) {
        let int = |name: &str| own.get(name).and_then(Value::as_i64);
        let count = |name: &str| int(name).map_or(0, |count| u32::try_from(count).unwrap_or(0));
        self.passage = Passage {
            attempts: count("attempts"),
            crashes: count("crashes"),
            lost: own.get("lost").and_then(Value::as_bool).unwrap_or(false),
            due: int("due"),
            hold: own.get("hold").and_then(Value::as_str).map(str::to_owned),
        };
        if let Some(key) = own.get("key").and_then(Value::as_str) {
            key.clone_into(&mut self.routing_key);
            own.get("exchange").and_then(Value::as_str).unwrap_or_default().clone_into(&mut self.exchange);
        }
        self.death = own.get("death").and_then(Value::as_map).cloned();
    }

    /// The priority it was sent with.
    pub(super) fn priority(&self) -> Option<u8> {
        *self.properties.priority()
    }

    /// The id of its task, as its header has it.
    pub(super) fn task(&self) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get("id")? {
            AMQPValue::LongString(id) => Some(id.to_string()),
            _ => None,
        }
    }

    /// Where the sender wants to hear of the result, and under which name.
    pub(super) fn reply_to(&self) -> Option<(String, Option<String>)> {
        let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
        Some((text(self.properties.reply_to())?, text(self.properties.correlation_id())))
    }

    /// The transport's form of it.
    pub(super) fn envelope(&self, redelivered: bool) -> Result<Envelope, DecodeError> {
        let text = |text: &Option<ShortString>| text.as_ref().map_or("", |text| text.as_str()).to_owned();
        let mut headers = self.properties.headers().as_ref().map(table::read).unwrap_or_default();
        headers.retain(|name, _| !is_transports(name));
        let mut properties = Map::with_capacity(7);
        let own = &self.properties;
        let named = [("correlation_id", own.correlation_id()), ("reply_to", own.reply_to()), ("app_id", own.app_id())];
        for (name, value) in named.into_iter().chain([("expiration", own.expiration())]) {
            if let Some(value) = value {
                properties.insert(name.to_owned(), value.as_str().into());
            }
        }
        if let Some(mode) = self.properties.delivery_mode() {
            properties.insert("delivery_mode".to_owned(), Value::Int(i64::from(*mode)));
        }
        if let Some(priority) = self.priority() {
            properties.insert("priority".to_owned(), Value::Int(i64::from(priority)));
        }
        let mut info = Map::with_capacity(3);
        info.insert("exchange".to_owned(), self.exchange.as_str().into());
        info.insert("routing_key".to_owned(), self.routing_key.as_str().into());
        if redelivered {
            info.insert("redelivered".to_owned(), true.into());
        }
        properties.insert("delivery_info".to_owned(), Value::Map(info));
        Ok(Envelope {
            body: self.body.clone(),
            content_type: text(self.properties.content_type()),
            content_encoding: text(self.properties.content_encoding()),
            headers,
            properties,
        })
    }

    /// A copy of it for a queue, saying what it has gone through. Its `expiration` stays behind: the queue would begin to
    /// count anew, and its `expires` header says the same.
    pub(super) fn copy(&self, queue: &str, passage: &Passage) -> Result<Post, AmqpError> {
        self.post(ShortString::default(), table::name(queue)?, passage, self.death.as_ref())
    }

    /// A copy that is delayed by so many seconds.
    pub(super) fn delayed(&self, queue: &str, seconds: u32, passage: &Passage) -> Result<Post, AmqpError> {
        self.post(table::name(&delay::entrance(seconds))?, table::name(&delay::key(seconds, queue))?, passage, None)
    }

    /// A copy for the dead letters.
    pub(super) fn dead(&self, queue: &str, death: &Map) -> Result<Post, AmqpError> {
        let passage = Passage { hold: None, ..self.passage.clone() };
        self.post(ShortString::default(), table::name(queue)?, &passage, Some(death))
    }

    /// The message as it was sent first, for its own queue.
    pub(super) fn anew(&self, queue: &str) -> Result<Post, AmqpError> {
        let headers = headers(&self.properties, None);
        Ok(Post {
            exchange: ShortString::default(),
            routing_key: table::name(queue)?,
            properties: properties(&self.properties, headers),
            body: self.body.clone(),
        })
    }

    fn post(&self, exchange: ShortString, routing_key: ShortString, passage: &Passage, death: Option<&Map>) -> Result<Post, AmqpError> {
        let mut own = Map::with_capacity(8);
        own.insert("attempts".to_owned(), i64::from(passage.attempts).into());
        own.insert("crashes".to_owned(), i64::from(passage.crashes).into());
        own.insert("exchange".to_owned(), self.exchange.as_str().into());
        own.insert("key".to_owned(), self.routing_key.as_str().into());
        if passage.lost {
            own.insert("lost".to_owned(), true.into());
        }
        if let Some(due) = passage.due {
            own.insert("due".to_owned(), due.into());
        }
        if let Some(hold) = &passage.hold {
            own.insert("hold".to_owned(), hold.as_str().into());
        }
        if let Some(death) = death {
            own.insert("death".to_owned(), Value::Map(death.clone()));
        }
        let headers = headers(&self.properties, Some(table::write(&own)?));
        Ok(Post { exchange, routing_key, properties: properties(&self.properties, headers), body: self.body.clone() })
    }
}

/// Whether a header is the broker's or this module's business, and no task's.
fn is_transports(name: &str) -> bool {
    name == HEADER || name == COUNT || ["x-death", "x-first-death-", "x-last-death-"].iter().any(|prefix| name.starts_with(prefix))
}

fn headers(properties: &BasicProperties, own: Option<FieldTable>) -> FieldTable {
    let old = properties.headers().as_ref().map(|headers| headers.inner().clone()).unwrap_or_default();
    let mut headers =
        FieldTable::from(old.into_iter().filter(|(name, _)| !is_transports(name.as_str())).collect::<std::collections::BTreeMap<_, _>>());
    if let Some(own) = own {
        headers.insert(HEADER.into(), AMQPValue::FieldTable(own));
    }
    headers
}

/// The properties that travel on, with other headers.
fn properties(old: &BasicProperties, headers: FieldTable) -> BasicProperties {
    let mut new = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    macro_rules! keep {
        ($($get:ident $set:ident),*) => {$(
            if let Some(value) = old.$get() {
                new = new.$set(value.clone());
            }
        )*};
    }
    keep!(content_type with_content_type, content_encoding with_content_encoding, priority with_priority);
    keep!(correlation_id with_correlation_id, reply_to with_reply_to, message_id with_message_id, timestamp with_timestamp);
    keep!(kind with_type, app_id with_app_id);
    new
}

/// A result for whoever listens at a queue (wire contract §4.3).
pub(super) fn reply(queue: &str, correlation: &str, body: Vec<u8>) -> Result<Post, AmqpError> {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(FieldTable::default())
        .with_delivery_mode(1)
        .with_priority(0)
        .with_correlation_id(table::name(correlation)?);
    Ok(Post { exchange: ShortString::default(), routing_key: table::name(queue)?, properties, body: Bytes::from(body) })
}

/// How a new message is on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    /// Where results go that the message itself sends nowhere.
    pub(super) reply_to: Option<&'a str>,
    /// Whether it may have been sent before.
    pub(super) again: bool,
}

/// A new message; what is due in less than a second waits with its taker.
pub(super) fn post(publish: &Publish, way: Way<'_>) -> Result<Post, AmqpError> {
    let Way { exchange, routing_key, reply_to, again } = way;
    let envelope = publish.invocation.encode("", None).map_err(|error| AmqpError::Refused(error.to_string()))?;
    let mut headers = table::write(&envelope.headers)?;
    let now = clock::now();
    let mut place = (table::name(exchange)?, table::name(routing_key)?);
    let mut own = Map::new();
    if again {
        // Whoever takes it looks whether the other has ended.
        own.insert("attempts".to_owned(), Value::Int(1));
    }
    if let Some(due) = publish.due.filter(|due| *due > now) {
        own.insert("due".to_owned(), Value::Int(due));
        let seconds = delay::seconds(due - now);
        if seconds > 0 {
            place = (table::name(&delay::entrance(seconds))?, table::name(&delay::key(seconds, publish.route.queue.as_str()))?);
        }
    }
    if !own.is_empty() {
        headers.insert(HEADER.into(), AMQPValue::FieldTable(table::write(&own)?));
    }
    let mut properties = BasicProperties::default()
        .with_content_type(table::name(&envelope.content_type)?)
        .with_content_encoding(table::name(&envelope.content_encoding)?)
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(publish.invocation.properties.priority.unwrap_or(0))
        .with_timestamp(u64::try_from(now / 1000).unwrap_or(0));
    let text = |name: &str| envelope.properties.get(name).and_then(Value::as_str);
    if let Some(id) = text("correlation_id") {
        properties = properties.with_correlation_id(table::name(id)?);
    }
    if let Some(reply) = text("reply_to").or(reply_to) {
        properties = properties.with_reply_to(table::name(reply)?);
    }
    if let Some(app) = text("app_id") {
        properties = properties.with_app_id(table::name(app)?);
    }
    Ok(Post { exchange: place.0, routing_key: place.1, properties, body: envelope.body })
}
