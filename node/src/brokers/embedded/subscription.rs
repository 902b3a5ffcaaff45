//! One node taking messages from the embedded broker.
//!
//! **What it owns.** Its end of a mailbox and two tasks: one renews the lease each second (or three times a lease, if that is
//! more often), one carries dropped deliveries back. **Who sends to it.** The consumer, by [`Subscription::fetch`]; the store's
//! writer, which puts messages into the mailbox.
//!
//! **What bounds it.** The writer puts in what `fetch` asked for, and nothing before the next one.
//!
//! **When it dies**, that is, is dropped without a goodbye, its lease is not renewed any more; when no subscription of its node
//! is left, what the node holds goes back when the lease ends. What was on its way to it and has been seen by nobody goes back
//! at once. Dropped deliveries still find their way back until the last of
//! them is settled.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::mpsc, task::JoinHandle};
use umbel_proto::{DeliveryTag, QueueName};

use super::seq;
use crate::{
    actors::chance::Backoff,
    brokers::{BrokerError, Delivery, Held, Returns, Subscribe, Subscription},
    embedded::{Handed, HolderId, Store, StoreError, Sub, Subscriber, decode_envelope, message},
};

/// The longest time between two renewals.
const RENEWAL: Duration = Duration::from_secs(1);
/// A shorter lease would end between two renewals.
const SHORTEST_LEASE: Duration = Duration::from_millis(50);
/// How many returned deliveries share a change.
const RETURNS: usize = 256;

#[derive(Debug)]
pub(super) struct EmbeddedSubscription {
    store: Arc<Store>,
    holder: HolderId,
    mailbox: Mailbox,
    returns: Returns,
    renewing: JoinHandle<()>,
}

/// Its end of the mailbox.
struct Mailbox(Subscriber);

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

impl EmbeddedSubscription {
    pub(super) async fn open(store: Arc<Store>, request: Subscribe) -> Result<Self, BrokerError> {
        let end = Subscriber::default();
        let lease = request.lease.max(SHORTEST_LEASE);
        let holder = {
            let end = end.clone();
            let enter = store.write(0, move |tx| {
                let mut queues = Vec::with_capacity(request.queues.len());
                for id in request.queues.iter().map(|name| tx.state.queue_id(name)) {
                    if !queues.contains(&id) {
                        queues.push(id);
                    }
                }
                let holder = tx.state.next_holder();
                let (node, about, renewals) = (request.node, request.about, end.renewals());
                let sub = Sub { node, about, queues, lease, demand: 0, cursor: 0, end, renewals, silent: Duration::ZERO };
                tx.state.subs.insert(holder, sub);
                Ok(holder)
            });
            enter.await.map_err(StoreError::broker)?
        };
        let (returns, returned) = Returns::new();
        // Not aborted with the subscription: deliveries may outlive it. It ends with the last of them.
        crate::task::spawn(carry_back(Arc::clone(&store), returned));
        let renewing = crate::task::spawn(renew(end.clone(), (lease / 3).min(RENEWAL)));
        Ok(Self { store, holder, mailbox: Mailbox(end), returns, renewing })
    }

    async fn ask(&self, max: u32) -> Result<(), BrokerError> {
        let holder = self.holder;
        let asked = self.store.memory(move |state| match state.subs.get_mut(&holder) {
            Some(sub) => {
                sub.demand = max;
                true
            }
            None => false,
        });
        if asked.await.map_err(StoreError::broker)? { Ok(()) } else { Err(BrokerError::Closed) }
    }
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn fetch(&mut self, max: u32) -> Result<Vec<Delivery>, BrokerError> {
        let max = max.max(1);
        loop {
            let handed = self.mailbox.0.take(max as usize).ok_or(BrokerError::Closed)?;
            if !handed.is_empty() {
                return Ok(handed.into_iter().map(delivery).collect());
            }
            self.ask(max).await?;
            self.mailbox.0.arrival().await;
        }
    }

    fn returns(&self) -> Returns {
        self.returns.clone()
    }

    async fn take_from(&mut self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let (holder, queues) = (self.holder, queues.to_vec());
        let changed = self.store.write(0, move |tx| {
            let mut ids = Vec::with_capacity(queues.len());
            for id in queues.iter().map(|name| tx.state.queue_id(name)) {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            Ok(match tx.state.subs.get_mut(&holder) {
                Some(sub) => {
                    (sub.queues, sub.cursor) = (ids, 0);
                    true
                }
                None => false,
            })
        });
        if changed.await.map_err(StoreError::broker)? { Ok(()) } else { Err(BrokerError::Closed) }
    }

    async fn close(self: Box<Self>) -> Result<(), BrokerError> {
        self.renewing.abort();
        let holder = self.holder;
        let leave = self.store.write(0, move |tx| {
            tx.give_all_back(holder)?;
            tx.outbox.ended.push(holder);
            // It must not be served in this very transaction.
            if let Some(sub) = tx.state.subs.get_mut(&holder) {
                sub.demand = 0;
            }
            Ok(())
        });
        leave.await.map_err(StoreError::broker)
    }
}

impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        self.renewing.abort();
        // What nobody has seen can go back at once.
        for handed in self.mailbox.0.end() {
            self.returns.give_back(held(&handed));
        }
    }
}

fn held(handed: &Handed) -> Held {
    Held { queue: handed.queue.clone(), tag: tag(handed.seq), attempt: handed.attempt }
}

fn delivery(handed: Handed) -> Delivery {
    Delivery { envelope: decode_envelope(message(&handed.row)), held: held(&handed), crashes: handed.crashes, lost: handed.lost }
}

fn tag(seq: u64) -> DeliveryTag {
    DeliveryTag::from(seq.to_string())
}

async fn renew(end: Subscriber, every: Duration) {
    let mut clock = tokio::time::interval(every.max(Duration::from_millis(1)));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        end.renew();
    }
}

async fn carry_back(store: Arc<Store>, mut returned: mpsc::UnboundedReceiver<Held>) {
    let mut batch = Vec::new();
    while returned.recv_many(&mut batch, RETURNS).await > 0 {
        let mut given: Vec<(u64, u32)> = batch.drain(..).filter_map(|held| Some((seq(&held.tag)?, held.attempt))).collect();
        // In the order they were taken, should messages of one priority share the transaction with a handing-out.
        given.sort_unstable();
        let mut backoff = Backoff::new();
        loop {
            let these = given.clone();
            match store.write(0, move |tx| these.iter().try_for_each(|(seq, attempt)| tx.give_back(*seq, *attempt))).await {
                Ok(()) => break,
                // Nobody else would: a node that is well keeps its lease, and what it holds.
                Err(error @ StoreError::Unavailable(_)) if !returned.is_closed() => {
                    tracing::debug!(%error, "dropped deliveries cannot be given back yet");
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "dropped deliveries could not be given back");
                    break;
                }
            }
        }
    }
}
