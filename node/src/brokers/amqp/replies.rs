//! Results as messages to whoever waits for them (wire contract §4.3).
//!
//! A queue of replies goes with its last consumer. A client that connects anew has none for a moment, and Celery's of 5.6.3
//! does that whenever it has waited for a second (`celery/backends/asynchronous.py::reconnect_on_error` takes the end of a wait
//! for a lost connection). What comes in that moment comes to nobody, and the client waits in vain. So a result for which
//! there is no queue is sent again for some seconds; at most [`UNHEARD`] at a time, and by this process only. States on the
//! way are not: one that came after the result would hide it. What RabbitMQ has put into a queue that is just going is lost;
//! it confirms that like anything else.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use super::{Shared, message};
use crate::amqp::error::AmqpError;

/// How many results that nobody took are sent again at a time.
const UNHEARD: usize = 1_000;

/// How long it is until a result is sent again for the first time; twice as long each time after it.
const AGAIN: Duration = Duration::from_millis(50);

/// How often it is sent again: over 6.35 s in all.
const TIMES: u32 = 7;

/// A state of a task, for a client.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// The queue where the client listens.
    pub(crate) queue: String,
    /// By what the client knows the task.
    pub(crate) correlation: String,
    /// What it reads.
    pub(crate) body: Vec<u8>,
    /// Whether the task has ended with it.
    pub(crate) ready: bool,
}

impl Shared {
    /// Sends states to those who wait for them; that nobody does is no error.
    pub(crate) async fn reply(self: &Arc<Self>, replies: Vec<Reply>) -> Result<(), AmqpError> {
        let unheard: Vec<Reply> = self.reply_once(replies).await?.into_iter().filter(|reply| reply.ready).collect();
        if unheard.is_empty() {
            return Ok(());
        }
        let count = unheard.len();
        if self.unheard.fetch_add(count, Ordering::Relaxed) + count > UNHEARD {
            self.unheard.fetch_sub(count, Ordering::Relaxed);
            tracing::debug!(count, "nobody listens for results, and many are being sent again already; these are dropped");
            return Ok(());
        }
        crate::task::spawn(send_again(Arc::downgrade(self), unheard));
        Ok(())
    }

    /// Sends them; those that no queue took.
    async fn reply_once(&self, replies: Vec<Reply>) -> Result<Vec<Reply>, AmqpError> {
        if replies.is_empty() {
            return Ok(replies);
        }
        let posts: Vec<_> = replies.iter().map(|reply| message::reply(&reply.queue, &reply.correlation, reply.body.clone())).collect();
        let mut unheard = Vec::new();
        for (reply, sent) in replies.into_iter().zip(self.send(&posts).await) {
            match sent {
                Ok(()) => {}
                Err(AmqpError::Refused(_)) => unheard.push(reply),
                Err(error) => return Err(error),
            }
        }
        Ok(unheard)
    }
}

/// Sends them again until each has been taken, or nobody is expected any more.
async fn send_again(shared: Weak<Shared>, mut unheard: Vec<Reply>) {
    for time in 0..TIMES {
        tokio::time::sleep(AGAIN * 2u32.pow(time)).await;
        let Some(shared) = shared.upgrade() else { return };
        let before = unheard.len();
        // What cannot be sent now is tried again: an outage takes of the same time.
        if let Ok(still) = shared.reply_once(unheard.clone()).await {
            unheard = still;
        }
        shared.unheard.fetch_sub(before - unheard.len(), Ordering::Relaxed);
        if unheard.is_empty() {
            return;
        }
    }
    let Some(shared) = shared.upgrade() else { return };
    shared.unheard.fetch_sub(unheard.len(), Ordering::Relaxed);
    tracing::debug!(count = unheard.len(), "nobody listens for these results; they are dropped");
}
