//! Messages being handed to a node.
//!
//! A fetch takes what is ready in the session's hand; when there is nothing, it asks the keeper for room, which lets RabbitMQ
//! send as much as was asked for, and waits for news. Everything that is under way belongs to the keeper, so a fetch that is
//! dropped loses nothing.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use umbel_proto::QueueName;

use super::{
    super::{BrokerError, Delivery, Returns, Subscribe, Subscription},
    Shared,
    hand::Taken,
    session::Session,
    state::State,
};
use crate::{
    amqp::error::{AmqpError, KIND},
    clock,
};

/// One subscription.
pub(super) struct AmqpSubscription {
    shared: Arc<Shared>,
    request: Subscribe,
    session: Arc<Session>,
    number: u64,
    returns: Returns,
    turn: usize,
    state: watch::Receiver<Arc<State>>,
}

impl AmqpSubscription {
    pub(super) async fn begin(shared: &Arc<Shared>, mut request: Subscribe) -> Result<Self, BrokerError> {
        request.queues.sort();
        request.queues.dedup();
        if request.queues.is_empty() {
            return Err(AmqpError::Refused("a subscription needs at least one queue".to_owned()).into());
        }
        // What is revoked and paused comes before what is taken.
        shared.state.learned().await?;
        shared.declare(&request.queues).await?;
        let (session, number) = Self::enter(shared, &request).await?;
        let returns = session.returns();
        let state = shared.state.watch();
        Ok(Self { shared: Arc::clone(shared), request, session, number, returns, turn: 0, state })
    }

    /// The node's session, which goes on while any subscription of the node uses it, or a new one.
    async fn enter(shared: &Arc<Shared>, request: &Subscribe) -> Result<(Arc<Session>, u64), AmqpError> {
        if let Some(session) = shared.session(&request.node)
            && let Some(number) = session.enter(&request.queues)
        {
            return Ok((session, number));
        }
        let session = Session::begin(shared, request.node.clone(), request.lease, request.about.clone()).await?;
        let number = session.enter(&request.queues).ok_or_else(|| AmqpError::Unavailable("the session ended at once".to_owned()))?;
        shared.keep(&session);
        Ok((session, number))
    }

    /// The queues that are not paused.
    fn open(&mut self) -> Vec<QueueName> {
        let state = Arc::clone(&self.state.borrow_and_update());
        self.request.queues.iter().filter(|queue| !state.paused.contains(*queue)).cloned().collect()
    }
}

#[async_trait]
impl Subscription for AmqpSubscription {
    async fn fetch(&mut self, max: u32) -> Result<Vec<Delivery>, BrokerError> {
        let max = max.max(1);
        if self.session.hand.is_dead() {
            // Among the reasons is a queue that was deleted.
            self.shared.undeclare(&self.request.queues);
            self.shared.declare(&self.request.queues).await?;
            (self.session, self.number) = Self::enter(&self.shared, &self.request).await?;
            self.returns = self.session.returns();
        }
        let mut news = self.session.hand.news();
        loop {
            news.mark_unchanged();
            let open = self.open();
            // Others may always have something ready, so that nobody would ever ask for more of these.
            let stopped: Vec<QueueName> = {
                let mut hand = self.session.hand.lock();
                open.iter().filter(|queue| hand.stopped.remove(*queue)).cloned().collect()
            };
            if !stopped.is_empty() {
                let _ = self.session.widen(stopped, max).await;
            }
            let mut due = None;
            match self.session.hand.take(self.number, &open, self.turn, max) {
                Taken::Deliveries(deliveries) => {
                    self.turn = self.turn.wrapping_add(deliveries.len());
                    return Ok(deliveries);
                }
                Taken::Dead(reason) => return Err(BrokerError::Unavailable { kind: KIND, reason }),
                Taken::Nothing(at) => due = due.or(at),
            }
            let gone: Vec<QueueName> = std::mem::take(&mut self.session.hand.lock().gone).into_iter().collect();
            if !gone.is_empty() {
                self.shared.undeclare(&gone);
                self.shared.declare(&gone).await?;
            }
            if !open.is_empty() {
                let _ = self.session.widen(open, max).await;
                if news.has_changed().unwrap_or(true) {
                    continue;
                }
            }
            let wait = due.map(|due| std::time::Duration::from_millis(u64::try_from(due - clock::now()).unwrap_or(0) + 1));
            tokio::select! {
                _ = news.changed() => {}
                _ = self.state.changed() => {}
                () = async { match wait { Some(wait) => tokio::time::sleep(wait).await, None => std::future::pending().await } } => {}
            }
        }
    }

    fn returns(&self) -> Returns {
        self.returns.clone()
    }

    async fn close(self: Box<Self>) -> Result<(), BrokerError> {
        self.session.goodbye(self.number).await;
        Ok(())
    }
}

impl Drop for AmqpSubscription {
    fn drop(&mut self) {
        self.session.leave(self.number);
    }
}

impl std::fmt::Debug for AmqpSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpSubscription").field("session", &self.session.id).field("queues", &self.request.queues).finish_non_exhaustive()
    }
}
