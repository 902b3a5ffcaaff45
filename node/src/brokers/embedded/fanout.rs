//! What is no task, within one process: the store belongs to it alone, so everybody who listens is here.
//!
//! **What it owns.** Who listens to what. **What bounds it.** An [`Inbox`] per listener; a listener that was dropped is
//! forgotten with the next message. **When it dies.** With the process, as all who listen do.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use umbel_proto::{Envelope, Limits, Map, QueueName, Value};

use super::super::{
    BrokerError,
    fanout::{Address, Fanout, Heard, Inbox, Listen, Listener, topic_matches},
};

/// The fanout of an embedded broker.
#[derive(Debug, Default)]
pub(super) struct EmbeddedFanout {
    listeners: Mutex<Vec<(Listen, Weak<Inbox>)>>,
}

fn hears(listen: &Listen, address: &Address) -> bool {
    match (listen, address) {
        (Listen::Broadcasts { exchange, .. }, Address::Broadcast { exchange: to }) => exchange == to,
        (Listen::Direct { exchange, key, .. }, Address::Direct { exchange: to, key: to_key }) => exchange == to && key == to_key,
        (Listen::Topics { exchange, pattern, .. }, Address::Topic { exchange: to, key }) => exchange == to && topic_matches(pattern, key),
        _ => false,
    }
}

/// Where it was sent, as every transport writes it.
fn addressed(address: &Address, mut envelope: Envelope) -> Envelope {
    let (exchange, key) = match address {
        Address::Broadcast { exchange } => (exchange, ""),
        Address::Direct { exchange, key } | Address::Topic { exchange, key } => (exchange, key.as_str()),
    };
    let info = Map::from_iter([("exchange".to_owned(), exchange.as_str().into()), ("routing_key".to_owned(), key.into())]);
    envelope.properties.insert("delivery_info".to_owned(), Value::Map(info));
    envelope.properties.insert("delivery_tag".to_owned(), uuid::Uuid::new_v4().to_string().into());
    envelope
}

#[async_trait]
impl Fanout for EmbeddedFanout {
    async fn send(&self, batch: Vec<(Address, Envelope)>) -> Vec<Result<(), BrokerError>> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|(_, inbox)| inbox.strong_count() > 0);
        batch
            .into_iter()
            .map(|(address, envelope)| {
                let payload = addressed(&address, envelope).to_kombu();
                let listening = listeners.iter().filter(|(listen, _)| hears(listen, &address));
                listening.filter_map(|(_, inbox)| inbox.upgrade()).for_each(|inbox| inbox.put(payload.clone()));
                Ok(())
            })
            .collect()
    }

    async fn listening(&self, exchange: &str) -> Result<Option<Vec<QueueName>>, BrokerError> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let there = listeners.iter().filter(|(_, inbox)| inbox.strong_count() > 0);
        let names = there.filter_map(|(listen, _)| match listen {
            Listen::Broadcasts { exchange: to, queue } if to == exchange => Some(queue.clone()),
            _ => None,
        });
        Ok(Some(names.collect()))
    }

    async fn listen(&self, listen: Listen) -> Result<Box<dyn Listener>, BrokerError> {
        let inbox = Arc::new(Inbox::default());
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push((listen, Arc::downgrade(&inbox)));
        Ok(Box::new(EmbeddedListener(inbox)))
    }
}

#[derive(Debug)]
struct EmbeddedListener(Arc<Inbox>);

#[async_trait]
impl Listener for EmbeddedListener {
    async fn next(&mut self) -> Heard {
        match self.0.next().await {
            Ok(payload) => Heard::Message(Envelope::from_kombu(&payload, Limits::default()).map(Box::new)),
            Err(missed) => Heard::Missed(missed),
        }
    }

    async fn close(self: Box<Self>) -> Result<(), BrokerError> {
        Ok(())
    }
}
