//! The two ends of a subscription inside this process: the writer puts messages in, the subscription takes them out.
//!
//! Messages lie here between the transaction that marked them as held and the `fetch` that returns them, so that dropping a
//! `fetch` loses none. Bounded by what `fetch` asked for.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;
use umbel_proto::QueueName;

use super::tables::Seq;

/// A message that was handed out.
pub(crate) struct Handed {
    pub(crate) seq: Seq,
    pub(crate) queue: QueueName,
    pub(crate) attempt: u32,
    pub(crate) crashes: u32,
    pub(crate) lost: bool,
    /// The whole row.
    pub(crate) row: Vec<u8>,
}

/// One end; both are alike.
#[derive(Clone, Default)]
pub(crate) struct Subscriber(Arc<Shared>);

#[derive(Default)]
struct Shared {
    content: Mutex<Content>,
    arrived: Notify,
    renewals: AtomicU64,
}

#[derive(Default)]
struct Content {
    messages: VecDeque<Handed>,
    over: bool,
}

impl Subscriber {
    /// Puts messages in; gives them back when nobody will ever take them out.
    pub(crate) fn put(&self, handed: Vec<Handed>) -> Vec<Handed> {
        let mut content = self.lock();
        if content.over {
            return handed;
        }
        content.messages.extend(handed);
        drop(content);
        self.0.arrived.notify_one();
        Vec::new()
    }

    /// Takes up to `max` out; `None` when the subscription is over.
    pub(crate) fn take(&self, max: usize) -> Option<Vec<Handed>> {
        let mut content = self.lock();
        if content.over {
            return None;
        }
        let count = max.min(content.messages.len());
        Some(content.messages.drain(..count).collect())
    }

    /// Waits until something has been put in since the last time, or the subscription is over.
    pub(crate) async fn arrival(&self) {
        self.0.arrived.notified().await;
    }

    /// Lets whoever waits look again.
    pub(crate) fn knock(&self) {
        self.0.arrived.notify_one();
    }

    /// Nothing more goes in or out: the lease has ended, or the subscription was dropped. What lay here is returned.
    pub(crate) fn end(&self) -> Vec<Handed> {
        let mut content = self.lock();
        content.over = true;
        let left = std::mem::take(&mut content.messages);
        drop(content);
        self.0.arrived.notify_one();
        left.into()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }

    pub(crate) fn renew(&self) {
        self.0.renewals.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn renewals(&self) -> u64 {
        self.0.renewals.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
