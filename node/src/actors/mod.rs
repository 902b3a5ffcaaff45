//! The pipeline: who takes messages, who admits, runs and settles them, and who watches over all of them.
//!
//! ```text
//! Supervisor
//! ├─ Control, Events, Gossip, Beat, one_for_one: tasks run without them
//! └─ rest_for_one, spawned in this order, so that each holds only the addresses of those after it on a task's way:
//!    Aggregator ◄─ ExecutorPool × executors (└ ExecutorSlot × n, one_for_one) ◄─ Gate ◄─ Consumer
//! ```
//!
//! Claims flow one way. A message is moved from hand to hand as a [`crate::claim::Claim`]; whoever dies drops what it has,
//! and dropping a claim returns its message to the queue and its credit to the consumer. Handlers do no I/O; what takes
//! time is a task that the actor owns (it ends with the actor) and that reports back with one message. The one exception is
//! the slot, whose handler is the run. Mailboxes are unbounded in type and bounded by the credits that claims carry.

pub(crate) mod aggregator;
mod alarm;
pub mod beat;
mod beside;
pub(crate) mod chance;
pub(crate) mod consumer;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod gate;
pub(crate) mod gauges;
pub(crate) mod gossip;
pub(crate) mod held;
pub(crate) mod link;
pub(crate) mod pool;
mod registry;
pub mod report;
mod rest_for_one;
pub(crate) mod slot;
pub(crate) mod supervisor;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ractor::{ActorRef, Message, RpcReplyPort};
use tokio::sync::{Semaphore, watch};
use umbel_proto::{Invocation, NodeId, QueueName};
use umbel_scheduler::{
    Settings, TaskSpec,
    admission::Refusal,
    autoscale::Bounds,
    devices::Devices,
    placement::{Offer, Why},
    window,
};

pub(crate) use registry::Registry;

use aggregator::AggregatorMsg;

use crate::{
    backends::Backend,
    brokers::{About, Broker, BrokerError, Subscribe, Subscription, idle::Idle},
    claim::Claim,
    client::Client,
    cluster::View,
    facts::Facts,
    fault::Faults,
    gossip::Port,
    ledgers::Ledger,
    limits::{Limiting, Place},
    telling::Telling,
};

/// What every actor of a node is given.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The node's name.
    pub(crate) node: NodeId,
    /// What decisions depend on.
    pub(crate) settings: Arc<Settings>,
    /// The queues it takes from. Remote control changes them; the fetch loop follows.
    pub(crate) queues: watch::Sender<Vec<QueueName>>,
    /// The devices of its slots.
    pub(crate) devices: Devices,
    /// How long it keeps what it holds when it falls silent.
    pub(crate) lease: Duration,
    /// What it says of itself to others on the same broker.
    pub(crate) about: About,
    /// Limits that hold for all nodes.
    pub(crate) limits: Limiting,
    /// What it sends by a schedule, if it does.
    pub(crate) beat: Option<beat::BeatSeat>,
    /// Where it gossips, if it does.
    pub(crate) gossip: Option<Port>,
    /// Who else is there.
    pub(crate) cluster: View,
    /// What it is doing now, in numbers.
    pub(crate) gauges: gauges::Gauges,
    /// Who runs what.
    pub(crate) registry: Registry,
    /// Where facts are told.
    pub(crate) facts: Facts,
    /// Room for messages.
    pub(crate) credits: Credits,
    /// How large pools may be whose size follows their work; `None` where none does. Remote control changes it.
    pub(crate) autoscale: watch::Sender<Option<Bounds>>,
    /// Whether broker and ledger answer.
    pub(crate) links: link::Links,
    /// What it says of itself to Celery's tools.
    pub(crate) telling: Telling,
    /// Submits tasks.
    pub(crate) client: Client,
    /// Where tests make it panic.
    pub(crate) faults: Faults,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) ledger: Arc<dyn Ledger>,
}

impl Shared {
    /// Subscribes as this node. One without queues takes nothing, and no broker needs to know.
    pub(crate) async fn subscribe(&self) -> Result<Box<dyn Subscription>, BrokerError> {
        if self.queues.borrow().is_empty() {
            return Ok(Box::new(Idle::new()));
        }
        self.broker.subscribe(self.subscription()).await
    }

    /// What this node asks of the broker.
    fn subscription(&self) -> Subscribe {
        Subscribe { node: self.node.clone(), queues: self.queues.borrow().clone(), lease: self.lease, about: self.about.clone() }
    }
}

/// The room of one node: a permit for each message it may hold. It outlives any actor, so that a restarted consumer counts
/// what its predecessor took.
#[derive(Debug)]
pub(crate) struct Credits {
    pub(crate) semaphore: Arc<Semaphore>,
    total: AtomicU32,
    batch: AtomicU32,
    /// How many messages for each slot ([`window::credits`]).
    multiplier: u32,
    max: u32,
    /// How many of them placement allows, seeing the other nodes, and why.
    pub(crate) offer: watch::Sender<Offer>,
}

impl Credits {
    /// As many permits as `slots` slots want, at most `max`.
    pub(crate) fn new(slots: u32, multiplier: u32, max: u32) -> Self {
        let offer = watch::Sender::new(Offer { messages: 0, why: Why::Alone });
        let (total, batch) = (AtomicU32::new(0), AtomicU32::new(1));
        let credits = Self { semaphore: Arc::new(Semaphore::new(0)), total, batch, multiplier, max, offer };
        credits.resize(slots);
        credits
    }

    /// As many permits as `slots` slots want from now on. What is too many goes when it comes back.
    pub(crate) fn resize(&self, slots: u32) {
        let total = window::credits(slots, self.multiplier, self.max.max(slots));
        // Half of what waits behind the slots: the other half keeps them busy while the batch comes.
        self.batch.store((total.saturating_sub(slots) / 2).clamp(1, consumer::FETCH_MAX), Ordering::Relaxed);
        let before = self.total.swap(total, Ordering::Relaxed);
        // What is allowed all of it stays so; else placement has its say with the next look at the others.
        self.offer.send_modify(|offer| offer.messages = if offer.messages == before { total } else { offer.messages.min(total) });
        if total >= before {
            self.semaphore.add_permits((total - before) as usize);
            return;
        }
        let excess = (before - total) as usize;
        let left = excess - self.semaphore.forget_permits(excess);
        let semaphore = self.semaphore.clone();
        if left > 0 {
            crate::task::spawn(async move {
                for _ in 0..left {
                    // One by one: to wait for all of them would keep the fetch loop from those that come back meanwhile.
                    let Ok(permit) = semaphore.acquire().await else { return };
                    permit.forget();
                }
            });
        }
    }

    /// How many messages it may hold.
    pub(crate) fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many should be free before more is fetched: batches are cheaper, but no slot may wait for one.
    pub(crate) fn batch(&self) -> u32 {
        self.batch.load(Ordering::Relaxed)
    }

    /// How many messages the node holds.
    pub(crate) fn in_use(&self) -> u32 {
        self.total().saturating_sub(u32::try_from(self.semaphore.available_permits()).unwrap_or(u32::MAX))
    }
}

/// A claim whose message has been understood and whose task is known.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) claim: Claim,
    pub(crate) invocation: Arc<Invocation>,
    pub(crate) spec: Arc<TaskSpec>,
    /// What it holds of its limits.
    pub(crate) place: Option<Place>,
}

impl Admitted {
    /// Tells the aggregator that it never runs, and leaves its key to others.
    pub(crate) fn refuse(self, refusal: Refusal, aggregator: &ActorRef<AggregatorMsg>) {
        self.place.into_iter().for_each(Place::end);
        cast(aggregator, AggregatorMsg::Refused { claim: self.claim, spec: Some(self.spec), refusal });
    }
}

/// Sends a message to an actor that may be dead. If it is, the message is dropped, and every claim in it goes back to its
/// queue: the supervisor is about to restart the one who sends this as well.
pub(crate) fn cast<M: Message>(actor: &ActorRef<M>, message: M) {
    let _ = actor.cast(message);
}

/// Answers a question whose asker may have gone.
pub(crate) fn reply<T: Send + 'static>(port: RpcReplyPort<T>, answer: T) {
    let _ = port.send(answer);
}

/// Runs a decision so that a panic in it harms only the message it is about.
pub(crate) fn guarded<T>(decide: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decide)).map_err(|panic| panic_text(&*panic))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
