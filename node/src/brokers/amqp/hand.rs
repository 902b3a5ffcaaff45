//! What a session has in its hands: what it holds for its node, and what has come and not been handed out yet.
//!
//! The keeper puts in and takes out; subscriptions take what is ready; the broker looks. The lock is held for moments and never
//! across a wait.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::watch;
use umbel_proto::{DeliveryTag, Millis, QueueName};

use super::{
    super::{Delivery, Held},
    message::Message,
};
use crate::clock;

/// Shared between the keeper and everybody else of a session.
#[derive(Debug)]
pub(super) struct Hand {
    /// The session, as it stands in the names of takings.
    session: String,
    inner: Mutex<Inner>,
    /// Counts up when there may be something to hand out, or when the session has ended.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    serial: u64,
    pub(super) holdings: HashMap<u64, Holding>,
    queues: BTreeMap<QueueName, Ready>,
    /// How many consumers there are of each task queue.
    pub(super) consumers: BTreeMap<QueueName, u32>,
    /// Queues that RabbitMQ has ended a consumer of: they have been deleted, or have moved.
    pub(super) gone: BTreeSet<QueueName>,
    /// Queues that nothing comes from any more, until somebody fetches.
    pub(super) stopped: BTreeSet<QueueName>,
    /// Why the session has ended, if it has.
    dead: Option<String>,
}

/// One message in hand.
#[derive(Debug)]
pub(super) struct Holding {
    /// RabbitMQ's number for it on the session's channel.
    pub(super) tag: u64,
    pub(super) queue: QueueName,
    /// The consumer it came through.
    pub(super) source: u64,
    pub(super) message: Message,
    pub(super) redelivered: bool,
    pub(super) attempt: u32,
    /// The subscription it was handed to; `None` while it is ready.
    pub(super) handed: Option<u64>,
    pub(super) begun: bool,
    /// Since when this delivery of it is held.
    pub(super) since: Instant,
}

/// What is ready to be handed out of one queue, by serial.
#[derive(Debug, Default)]
struct Ready {
    /// What has come back, before everything else.
    front: VecDeque<u64>,
    main: VecDeque<u64>,
    /// What waits for its time, which is near.
    later: BTreeSet<(Millis, u64)>,
    /// How many are being moved to the front: until they are there, nothing may overtake them.
    moving: usize,
}

/// What came of looking for something to hand out.
pub(super) enum Taken {
    /// These.
    Deliveries(Vec<Delivery>),
    /// Nothing yet; what is known of waits until then.
    Nothing(Option<Millis>),
    /// The session has ended.
    Dead(String),
}

impl Hand {
    pub(super) fn new(session: String) -> Self {
        Self { session, inner: Mutex::default(), news: watch::Sender::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(super) fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Ends it: nothing is held any more.
    pub(super) fn end(&self, reason: &str) {
        let mut inner = self.lock();
        inner.dead.get_or_insert_with(|| reason.to_owned());
        inner.holdings.clear();
        inner.queues.clear();
        drop(inner);
        self.tell();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead.is_some()
    }

    /// The name of a taking.
    fn name(&self, serial: u64) -> DeliveryTag {
        DeliveryTag::from(format!("{}:{serial}", self.session))
    }

    /// The number of a taking, if it was handed out here and is held at that attempt.
    pub(super) fn find(&self, held: &Held) -> Option<u64> {
        let (session, serial) = held.tag.as_str().rsplit_once(':')?;
        let serial = serial.parse().ok().filter(|_| session == self.session)?;
        let inner = self.lock();
        let holding = inner.holdings.get(&serial)?;
        (holding.handed.is_some() && holding.attempt == held.attempt).then_some(serial)
    }

    /// Hands out up to `max`, a message of each queue in turn, beginning with the queue at `turn`.
    pub(super) fn take(&self, subscription: u64, queues: &[QueueName], turn: usize, max: u32) -> Taken {
        let now = clock::now();
        let mut inner = self.lock();
        if let Some(reason) = &inner.dead {
            return Taken::Dead(reason.clone());
        }
        let mut serials = Vec::new();
        let mut next = None;
        for queue in queues {
            next = next.into_iter().chain(inner.queues.get_mut(queue).and_then(|ready| ready.promote(now))).min();
        }
        let mut empty = 0;
        let mut at = turn;
        while serials.len() < max as usize && empty < queues.len() {
            let queue = &queues[at % queues.len()];
            match inner.queues.get_mut(queue).and_then(Ready::pop) {
                Some(serial) => {
                    serials.push(serial);
                    empty = 0;
                }
                None => empty += 1,
            }
            at += 1;
        }
        if serials.is_empty() {
            return Taken::Nothing(next);
        }
        let mut deliveries = Vec::with_capacity(serials.len());
        for serial in serials {
            let Some(holding) = inner.holdings.get_mut(&serial) else { continue };
            holding.handed = Some(subscription);
            deliveries.push(Delivery {
                held: Held { queue: holding.queue.clone(), tag: self.name(serial), attempt: holding.attempt },
                crashes: holding.message.passage.crashes,
                lost: holding.message.passage.lost,
                envelope: holding.message.envelope(holding.attempt > 1),
            });
        }
        Taken::Deliveries(deliveries)
    }

    /// How many messages are held for the node, by queue.
    pub(super) fn held(&self) -> BTreeMap<QueueName, u64> {
        let mut counts = BTreeMap::new();
        for holding in self.lock().holdings.values().filter(|holding| holding.handed.is_some()) {
            *counts.entry(holding.queue.clone()).or_default() += 1;
        }
        counts
    }

    /// What has come of a queue and has not been handed out: what is ready in its order, then what waits for its time.
    pub(super) fn ready(&self, queue: &QueueName) -> (Vec<Message>, Vec<Message>) {
        let inner = self.lock();
        let Some(ready) = inner.queues.get(queue) else { return (Vec::new(), Vec::new()) };
        let message = |serial: &u64| inner.holdings.get(serial).map(|holding| holding.message.clone());
        let waiting = ready.later.iter().filter_map(|(_, serial)| message(serial)).collect();
        (ready.front.iter().chain(&ready.main).filter_map(message).collect(), waiting)
    }

    /// The queue of a taking.
    pub(super) fn queue_of(&self, held: &Held) -> Option<QueueName> {
        let serial = self.find(held)?;
        Some(self.lock().holdings.get(&serial)?.queue.clone())
    }

    /// The id of a taking's task, as its header has it.
    pub(super) fn task(&self, held: &Held) -> Option<String> {
        let serial = self.find(held)?;
        self.lock().holdings.get(&serial)?.message.task()
    }

    /// The reply address of a taking's message.
    pub(super) fn reply_to(&self, held: &Held) -> Option<(String, Option<String>)> {
        let serial = self.find(held)?;
        self.lock().holdings.get(&serial)?.message.reply_to()
    }
}

impl Inner {
    /// Takes a message in; its serial.
    pub(super) fn arrive(&mut self, holding: Holding) -> u64 {
        self.serial += 1;
        self.holdings.insert(self.serial, holding);
        self.serial
    }

    /// Makes it ready, at once or at its time.
    pub(super) fn make_ready(&mut self, serial: u64, front: bool) {
        let Some(holding) = self.holdings.get(&serial) else { return };
        let ready = self.queues.entry(holding.queue.clone()).or_default();
        match holding.message.passage.due.filter(|due| *due > clock::now()) {
            Some(due) => {
                ready.later.insert((due, serial));
            }
            None if front => ready.front.push_back(serial),
            None => ready.main.push_back(serial),
        }
    }

    /// Says that messages of a queue are being moved to its front, or are there.
    pub(super) fn moving(&mut self, queue: &QueueName, by: isize) {
        let ready = self.queues.entry(queue.clone()).or_default();
        ready.moving = ready.moving.saturating_add_signed(by);
    }

    /// Takes out what is not handed out yet, of one queue or of all: what it was, in the order it came.
    pub(super) fn take_back(&mut self, queue: Option<&QueueName>) -> Vec<Holding> {
        let serials: Vec<u64> = self
            .holdings
            .iter()
            .filter(|(_, holding)| holding.handed.is_none() && queue.is_none_or(|queue| holding.queue == *queue))
            .map(|(serial, _)| *serial)
            .collect();
        let mut taken: Vec<Holding> = serials.iter().filter_map(|serial| self.holdings.remove(serial)).collect();
        for ready in self.queues.iter_mut().filter(|(name, _)| queue.is_none_or(|queue| *name == queue)).map(|(_, ready)| ready) {
            ready.front.clear();
            ready.main.clear();
            ready.later.clear();
            ready.moving = 0;
        }
        taken.sort_by_key(|holding| holding.tag);
        taken
    }

    /// How many messages of a queue are ready to be handed out.
    pub(super) fn count(&self, queue: &QueueName) -> usize {
        self.queues.get(queue).map_or(0, |ready| ready.front.len() + ready.main.len())
    }
}

impl Ready {
    /// Makes ready what is due; when the next one is.
    fn promote(&mut self, now: Millis) -> Option<Millis> {
        while let Some((due, serial)) = self.later.first().copied() {
            if due > now {
                return Some(due);
            }
            self.later.pop_first();
            self.front.push_back(serial);
        }
        None
    }

    fn pop(&mut self) -> Option<u64> {
        if self.moving > 0 {
            return None;
        }
        self.front.pop_front().or_else(|| self.main.pop_front())
    }
}
