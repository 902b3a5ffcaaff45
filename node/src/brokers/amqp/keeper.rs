//! The keeper of a session: the one task that talks on its channel.
//!
//! **What it owns.** The session's connection, its one channel, which is in transaction mode, and its consumers. **Who sends to
//! it.** Subscriptions and the broker ([`Order`]), dropped debts ([`Returns`](super::super::Returns)), and RabbitMQ. **What it
//! sends on.** What comes goes into the session's [`Hand`].
//!
//! **Settling is a transaction.** An acknowledgement alone is a message into the void: nobody answers it. Here a batch of them
//! is followed by `tx.commit`, and its answer says that the server still knew every one of these deliveries. And what is
//! requeued, buried, or held on is published again and acknowledged in one transaction, which RabbitMQ carries out
//! in this order: a node that dies at any point leaves the message in one place.
//!
//! **Front queues.** RabbitMQ cannot change a message that goes back. So every task queue has a queue of its own in front,
//! `umbel.front.<queue>`, from which nodes take first: there goes, with its history in a header, what has been requeued and
//! what a classic queue delivers again (of which it only says that it is not the first time). Where no node takes from it,
//! what is there moves on to the task queue after a minute by itself.
//!
//! **What bounds it.** RabbitMQ sends no more than fetches have asked for, per consumer: windows grow when they are used up,
//! and what has come in vain for two seconds goes back. **When it dies.** So does its connection, and RabbitMQ gives everything
//! it held to somebody else; the next fetch begins another session.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream::SelectAll};
use lapin::{Channel, Connection, message::DeliveryResult};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};
use umbel_proto::QueueName;

use super::{
    super::Held,
    Shared,
    hand::Hand,
    peers,
    session::{Order, Session},
    state::State,
};
use crate::amqp::{QueueType, error::AmqpError, link::answer};

mod arrive;
mod consume;
mod returned;
mod settle;

/// How often the keeper looks around.
const LOOK: Duration = Duration::from_millis(250);

/// How long something that has come may wait for a fetch before it goes back.
const IN_VAIN: Duration = Duration::from_secs(2);

/// How many orders are carried out together.
const ORDERS: usize = 64;

/// Messages of all consumers, with the number of theirs.
type Incoming = SelectAll<Pin<Box<dyn Stream<Item = (u64, DeliveryResult)> + Send>>>;

/// The task's state.
pub(super) struct Keeper {
    hand: Arc<Hand>,
    id: String,
    connection: Arc<Connection>,
    channel: Channel,
    kind: QueueType,
    hold: Duration,
    max_dead_letters: u64,
    incoming: Incoming,
    sources: BTreeMap<u64, Source>,
    sourced: u64,
    /// Numbers of deliveries that are settled, above `low`, up to which all are.
    settled: BTreeSet<u64>,
    low: u64,
    /// What a classic queue has delivered again, to be moved to the front.
    moves: Vec<u64>,
    /// Queues for which this session has a holding queue.
    holding: BTreeSet<QueueName>,
    paused: BTreeSet<QueueName>,
}

/// One consumer.
struct Source {
    queue: QueueName,
    from: From,
    tag: lapin::types::ShortString,
    prefetch: u32,
    /// How many of its deliveries are not settled.
    unsettled: u32,
    /// Nothing comes from it any more.
    cancelled: bool,
}

/// Where a consumer takes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Front,
    Main,
    Holding,
}

/// The queue in front of a task queue.
pub(super) fn front(queue: &QueueName) -> String {
    format!("umbel.front.{queue}")
}

/// Connects and starts the task.
pub(super) async fn start(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    inbox: mpsc::UnboundedReceiver<Order>,
    given_back: mpsc::UnboundedReceiver<Held>,
) -> Result<(), AmqpError> {
    let connection = shared.connect(&format!("node {}", session.node)).await?;
    let channel = answer("opening a channel", connection.create_channel()).await?;
    answer("beginning transactions", channel.tx_select()).await?;
    peers::answer_for(Arc::downgrade(session), answer("opening a channel", connection.create_channel()).await?).await?;
    let mut state = shared.state.watch();
    let keeper = Keeper {
        hand: Arc::clone(&session.hand),
        id: session.id.clone(),
        connection,
        channel,
        kind: shared.options.queue_type,
        hold: shared.options.hold,
        max_dead_letters: shared.options.max_dead_letters,
        incoming: SelectAll::new(),
        sources: BTreeMap::new(),
        sourced: 0,
        settled: BTreeSet::new(),
        low: 0,
        moves: Vec::new(),
        holding: BTreeSet::new(),
        paused: state.borrow_and_update().paused.clone(),
    };
    crate::task::spawn(keeper.run(inbox, given_back, state, shared.alive(), Arc::clone(session)));
    Ok(())
}

impl Keeper {
    /// Runs until nobody uses the session, its connection is lost, or the broker is gone.
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Order>,
        mut given_back: mpsc::UnboundedReceiver<Held>,
        mut state: watch::Receiver<Arc<State>>,
        mut alive: watch::Receiver<()>,
        session: Arc<Session>,
    ) {
        let lease = session.lease;
        let mut look = interval(LOOK.min(lease / 2));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unused: Option<Instant> = None;
        let mut goodbye = None;
        let ended = loop {
            let step = tokio::select! {
                biased;
                changed = alive.changed() => match changed {
                    Ok(()) => Ok(()),
                    Err(_) => break "the broker is closed".to_owned(),
                },
                Some(order) = inbox.recv() => match self.orders(order, &mut inbox, &mut goodbye).await {
                    Ok(true) => break "the subscription is closed".to_owned(),
                    Ok(false) => Ok(()),
                    Err(error) => Err(error),
                },
                Some(held) = given_back.recv() => self.give_back(held, &mut given_back).await,
                Some((source, delivery)) = self.incoming.next() => self.come(source, delivery).await,
                Ok(()) = state.changed() => {
                    let paused = state.borrow_and_update().paused.clone();
                    self.pause(paused).await
                }
                _ = look.tick() => {
                    unused = if session.is_used() { None } else { unused.or_else(|| Some(Instant::now())) };
                    if unused.is_some_and(|since| since.elapsed() >= lease) && session.close_unused() {
                        break "nobody uses it".to_owned();
                    }
                    self.look_around().await
                }
            };
            if let Err(error) = step {
                break error.to_string();
            }
        };
        self.hand.end(&ended);
        // Everything that is held is given to others before the server answers.
        let _ = answer("closing a channel", self.channel.close(200, "OK".into())).await;
        let _ = answer("closing a connection", self.connection.close(200, "OK".into())).await;
        if let Some(goodbye) = goodbye {
            let _: Result<(), ()> = oneshot::Sender::send(goodbye, ());
        }
    }

    /// Carries out what has been ordered; whether the session is over.
    async fn orders(
        &mut self,
        first: Order,
        inbox: &mut mpsc::UnboundedReceiver<Order>,
        goodbye: &mut Option<oneshot::Sender<()>>,
    ) -> Result<bool, AmqpError> {
        let mut releases = Vec::new();
        let mut next = Some(first);
        let mut count = 0;
        while let Some(order) = next {
            count += 1;
            match order {
                Order::Release(batch, reply) => releases.push((batch, reply)),
                other => {
                    // In the order they were given.
                    self.release(std::mem::take(&mut releases)).await?;
                    if self.order(other, goodbye).await? {
                        return Ok(true);
                    }
                }
            }
            next = if count < ORDERS { inbox.try_recv().ok() } else { None };
        }
        self.release(releases).await?;
        Ok(false)
    }

    async fn order(&mut self, order: Order, goodbye: &mut Option<oneshot::Sender<()>>) -> Result<bool, AmqpError> {
        match order {
            Order::Release(batch, reply) => self.release(vec![(batch, reply)]).await?,
            Order::Widen { queues, max, done } => {
                self.widen(&queues, max).await?;
                let _ = done.send(());
            }
            Order::Left { unwanted } => self.unwanted(&unwanted).await?,
            Order::Goodbye { last: true, done, .. } => {
                *goodbye = Some(done);
                return Ok(true);
            }
            Order::Goodbye { subscription, unwanted, done, .. } => {
                self.unwanted(&unwanted).await?;
                self.give_up(subscription).await?;
                let _ = done.send(());
            }
        }
        Ok(false)
    }

    /// Notices a dead connection, gives back what came in vain, and holds on to what is held for long.
    async fn look_around(&mut self) -> Result<(), AmqpError> {
        if !self.connection.status().connected() || !self.channel.status().connected() {
            return Err(AmqpError::Unavailable("the connection to RabbitMQ is lost".to_owned()));
        }
        self.in_vain().await?;
        self.hold_on().await
    }
}
