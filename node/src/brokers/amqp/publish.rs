//! Publishing: what is declared for it, where it goes, and what becomes of what is refused.

use std::{collections::BTreeSet, sync::PoisonError};

use tokio::time::timeout;
use umbel_proto::{QueueName, TaskId};
use umbel_scheduler::{Publish, Release};

use super::{
    Shared,
    message::{Post, Way, post},
    session::Settle,
};
use crate::{
    amqp::{error::AmqpError, link::ANSWER},
    brokers::Held,
    clock,
};

/// How many messages are on their way to the server at a time.
pub(super) const SLICE: usize = 500;

/// How many doubts are remembered.
const DOUBTS: usize = 100_000;

impl Shared {
    /// Publishes; `Ok` means that the server has confirmed it, and that it went into at least one queue.
    pub(super) async fn publish(&self, batch: Vec<Publish>) -> Vec<Result<(), AmqpError>> {
        let mut answers = Vec::with_capacity(batch.len());
        for slice in batch.chunks(SLICE) {
            match self.publish_slice(slice).await {
                Ok(done) => answers.extend(done),
                Err(error) => answers.extend(slice.iter().map(|_| Err(error.clone()))),
            }
        }
        answers
    }

    /// Sends messages in the place of deliveries, each in the transaction that acknowledges its delivery.
    pub(super) async fn send_on(&self, batch: Vec<(Held, Publish)>) -> Vec<Result<bool, AmqpError>> {
        let (held, publishes): (Vec<Held>, Vec<Publish>) = batch.into_iter().unzip();
        if let Err(error) = self.declare_for(&publishes).await {
            return vec![Err(error); held.len()];
        }
        let mut settles = Vec::with_capacity(held.len());
        let mut answers = Vec::with_capacity(held.len());
        for (held, publish) in held.into_iter().zip(&publishes) {
            match self.direct(publish) {
                Ok(post) => {
                    settles.push(Settle { held, release: Release::Ack, post: Some(post) });
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut settled = self.settle(settles).await.into_iter();
        answers.into_iter().map(|answer| answer.or_else(|| settled.next()).unwrap_or(Ok(false))).collect()
    }

    /// Makes messages ready, their queues declared.
    pub(crate) async fn posts(&self, slice: &[Publish]) -> Result<Vec<Result<Post, AmqpError>>, AmqpError> {
        self.declare_for(slice).await?;
        let mut posts = Vec::with_capacity(slice.len());
        for publish in slice {
            posts.push(self.post(publish).await);
        }
        Ok(posts)
    }

    /// Declares what messages are sent through, and waits until their answers would be heard.
    async fn declare_for(&self, slice: &[Publish]) -> Result<(), AmqpError> {
        let queues: BTreeSet<&QueueName> =
            slice.iter().map(|publish| &publish.route.queue).filter(|queue| !queue.as_str().is_empty()).collect();
        self.declare_queues(queues.into_iter()).await?;
        self.heard().await?;
        let now = clock::now();
        let delayed: BTreeSet<&QueueName> =
            slice.iter().filter(|publish| publish.due.is_some_and(|due| due - now >= 1000)).map(|publish| &publish.route.queue).collect();
        for queue in delayed {
            self.declare_delayed(queue).await?;
        }
        Ok(())
    }

    async fn publish_slice(&self, slice: &[Publish]) -> Result<Vec<Result<(), AmqpError>>, AmqpError> {
        let posts = self.posts(slice).await?;
        let mut answers = self.send(&posts).await;
        for ((publish, post), answer) in slice.iter().zip(&posts).zip(&mut answers) {
            if let (Err(AmqpError::Refused(reason)), Ok(post)) = (&*answer, post) {
                if slice.len() > 1 {
                    // The server may have closed the channel over another of them, with this one in its queue.
                    self.doubt(&publish.invocation.headers.id);
                }
                *answer = self.send_elsewhere(publish, post, AmqpError::Refused(reason.clone())).await;
            }
        }
        self.remember_doubts(slice, &answers);
        Ok(answers)
    }

    /// Sends a message that was `refused` because no queue took it.
    pub(super) async fn send_elsewhere(&self, publish: &Publish, post: &Post, refused: AmqpError) -> Result<(), AmqpError> {
        let mut answer = Err(refused);
        // Sent to an exchange that leads nowhere with this key: to the queue that the sender has worked out, then.
        if !post.exchange.as_str().is_empty() && publish.due.is_none() {
            answer = self.send_directly(publish).await;
        }
        // Somebody may have deleted a queue that was declared from here.
        if matches!(answer, Err(AmqpError::Refused(_))) {
            answer = self.send_declared(publish).await;
        }
        answer
    }

    async fn send_directly(&self, publish: &Publish) -> Result<(), AmqpError> {
        self.send(&[Ok(self.direct(publish)?)]).await.remove(0)
    }

    /// Sends it to its queue, which is declared anew.
    async fn send_declared(&self, publish: &Publish) -> Result<(), AmqpError> {
        let queue = &publish.route.queue;
        self.undeclare(std::slice::from_ref(queue));
        self.declare_queues([queue].into_iter()).await?;
        if publish.due.is_some() {
            self.declare_delayed(queue).await?;
        }
        self.send_directly(publish).await
    }

    /// The message for its exchange where that is there and no more than the queue's own; else for its queue.
    async fn post(&self, publish: &Publish) -> Result<Post, AmqpError> {
        let route = &publish.route;
        let plain = route.exchange.is_empty() || route.exchange == route.queue.as_str();
        if plain || !self.has_exchange(&route.exchange).await? {
            return self.direct(publish);
        }
        post(publish, self.way(publish, &route.exchange, &route.routing_key))
    }

    /// The message for its queue, whatever its exchange.
    pub(crate) fn direct(&self, publish: &Publish) -> Result<Post, AmqpError> {
        post(publish, self.way(publish, "", publish.route.queue.as_str()))
    }

    fn way<'a>(&'a self, publish: &Publish, exchange: &'a str, routing_key: &'a str) -> Way<'a> {
        let again = self.doubts().contains(&publish.invocation.headers.id);
        Way { exchange, routing_key, reply_to: self.reply_of(publish), again }
    }

    fn doubts(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<TaskId>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what may have been sent although nobody said so.
    pub(super) fn remember_doubts(&self, slice: &[Publish], answers: &[Result<(), AmqpError>]) {
        for (publish, answer) in slice.iter().zip(answers) {
            let id = &publish.invocation.headers.id;
            match answer {
                Err(AmqpError::Unavailable(_)) => self.doubt(id),
                Ok(()) => drop(self.doubts().remove(id)),
                Err(_) => {}
            }
        }
    }

    /// Remembers that a task's message may be there already.
    fn doubt(&self, id: &TaskId) {
        let mut doubts = self.doubts();
        if doubts.len() < DOUBTS {
            doubts.insert(id.clone());
        }
    }

    /// Waits until somebody hears what is answered to this process.
    async fn heard(&self) -> Result<(), AmqpError> {
        let Some(replies) = self.replies.get() else { return Ok(()) };
        let mut listening = replies.listening.clone();
        match timeout(ANSWER, listening.wait_for(|listening| *listening)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(AmqpError::Unavailable("the queue for results is not there".to_owned())),
        }
    }

    /// Where this process hears of the result of what it has begun itself.
    fn reply_of(&self, publish: &Publish) -> Option<&str> {
        let headers = &publish.invocation.headers;
        let begins = headers.parent_id.is_none() && headers.root_id.as_ref().is_none_or(|root| *root == headers.id);
        self.replies.get().filter(|_| begins).map(|replies| replies.queue.as_str())
    }

    /// Whether the server takes messages now.
    pub(super) fn unblocked(&self) -> Result<(), AmqpError> {
        let Some(reason) = self.link.blocked() else { return Ok(()) };
        Err(AmqpError::Unavailable(format!("RabbitMQ takes no messages now ({reason}); look at its memory and disk alarms")))
    }
}
