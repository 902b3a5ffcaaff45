//! A node's session: the lease under which it holds messages.
//!
//! All subscriptions of one node in one process share a session, so that a consumer that restarts keeps what the node runs. A
//! session ends when it is closed, when its last subscription is dropped (its lease then ends by itself), or when others have
//! given it up; in the last case the node goes on under a new name.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use redis::Value;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::timeout,
};
use umbel_proto::{NodeId, QueueName};

use super::{
    super::{About, Delivery, Subscribe},
    Shared,
    nodes::Card,
    subscription::Wanted,
};
use crate::redis::{answer, error::RedisError, instance, script::Script};

static JOIN: Script =
    Script::new("join", concat!(include_str!("../../redis/scripts/pulse.lua"), include_str!("../../redis/scripts/join.lua")));
static TAKE: Script = Script::new("take", include_str!("../../redis/scripts/take.lua"));
static ADOPT: Script = Script::new("adopt", include_str!("../../redis/scripts/adopt.lua"));

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) node: NodeId,
    pub(super) lease: Duration,
    about: About,
    /// Its present name. It changes when others have given it up.
    name: RwLock<Arc<str>>,
    /// Until when this node may be sure to hold what it holds; measured from before the renewal was sent.
    sure_until: Mutex<Instant>,
    /// Told when the lease has been renewed.
    pub(super) renewed: watch::Sender<u64>,
    taking: AsyncMutex<Taking>,
    /// The server may hold more for it than is known here.
    doubtful: AtomicBool,
    queues: Mutex<Vec<QueueName>>,
    /// How many subscriptions have been begun and not closed.
    subscriptions: AtomicUsize,
    /// Whether it has been ended on purpose: then nobody goes on under a new name.
    closed: AtomicBool,
}

/// The state of taking, one take at a time.
#[derive(Debug)]
struct Taking {
    /// The number of the present taker.
    taker: u64,
    /// Whether the answer to a take may have been lost.
    doubt: bool,
    /// The number of the next message.
    next: u64,
}

/// What a take came to.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) deliveries: Vec<Delivery>,
    /// Queues that are paused.
    pub(super) paused: Vec<QueueName>,
    /// Lists that cannot be taken from, as they are keys of another type.
    pub(super) refused: Vec<String>,
    /// Whether it may have left something behind.
    pub(super) more: bool,
}

impl Session {
    /// Begins a session.
    pub(super) async fn begin(shared: &Shared, request: &Subscribe) -> Result<Arc<Self>, RedisError> {
        let session = Arc::new(Self {
            node: request.node.clone(),
            lease: request.lease,
            about: request.about.clone(),
            name: RwLock::new(instance().into()),
            sure_until: Mutex::new(Instant::now()),
            renewed: watch::Sender::new(0),
            taking: AsyncMutex::new(Taking { taker: 1, doubt: false, next: 1 }),
            doubtful: AtomicBool::new(false),
            queues: Mutex::new(request.queues.clone()),
            subscriptions: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        session.join(shared).await?;
        Ok(session)
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds queues that the node takes from.
    pub(super) async fn add_queues(&self, shared: &Shared, queues: &[QueueName]) -> Result<(), RedisError> {
        {
            let mut mine = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            for queue in queues {
                if !mine.contains(queue) {
                    mine.push(queue.clone());
                }
            }
        }
        self.join(shared).await
    }

    /// The node takes from these queues from now on.
    pub(super) async fn set_queues(&self, shared: &Shared, queues: &[QueueName]) -> Result<(), RedisError> {
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner) = queues.to_vec();
        self.join(shared).await
    }

    /// Tells the server who this is.
    async fn join(&self, shared: &Shared) -> Result<(), RedisError> {
        let asked = Instant::now();
        // Held until the server knows the number: it must not learn an older one afterwards.
        let mut taking = self.taking.lock().await;
        taking.taker += 1;
        let taker = taking.taker;
        let what = {
            let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let card = Card { node: self.node.clone(), queues, about: self.about.clone(), lease_ms: self.lease_ms() };
            serde_json::to_string(&card).map_err(|error| RedisError::Refused(format!("the node's card cannot be written: {error}")))?
        };
        let mut call = JOIN.call(4);
        call.arg(shared.keys.leases()).arg(shared.keys.takers()).arg(shared.keys.sessions()).arg(shared.keys.pulse());
        call.arg(&*self.name()).arg(self.lease_ms()).arg(taker).arg(what);
        shared.link.script(&JOIN, &call).await?;
        drop(taking);
        self.is_sure(asked);
        Ok(())
    }

    /// Goes on under a new name, because others have given this session up. What it held is theirs to hand out.
    pub(super) async fn begin_anew(&self, shared: &Shared) -> Result<(), RedisError> {
        let lost = shared.held_by(&self.name());
        tracing::warn!(node = %self.node, count = lost.len(), "the node's lease had ended and others have taken its messages; it begins anew");
        shared.let_go(lost.iter().map(String::as_str));
        {
            // Whatever was taken under the old name is others' now.
            let mut taking = self.taking.lock().await;
            *self.name.write().unwrap_or_else(PoisonError::into_inner) = instance().into();
            taking.doubt = false;
        }
        self.join(shared).await
    }

    /// One more subscription; `false` when the session is being closed.
    pub(super) fn enter(&self) -> bool {
        self.subscriptions.fetch_add(1, Ordering::AcqRel);
        !self.is_closed()
    }

    /// One less; whether it was the last.
    pub(super) fn leave(&self) -> bool {
        let last = self.subscriptions.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            self.closed.store(true, Ordering::Release);
        }
        last
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// A renewal that was asked for at `asked` has succeeded.
    pub(super) fn is_sure(&self, asked: Instant) {
        *self.sure_until.lock().unwrap_or_else(PoisonError::into_inner) = asked + self.lease;
        self.renewed.send_modify(|count| *count += 1);
    }

    /// Whether the lease has still some time to go: enough to hand work out.
    pub(super) fn has_time(&self) -> bool {
        let until = *self.sure_until.lock().unwrap_or_else(PoisonError::into_inner);
        Instant::now() + self.lease / 8 < until
    }

    /// Takes up to `count` messages. What an earlier take took without being heard of comes first.
    pub(super) async fn take(&self, shared: &Shared, wanted: &Wanted, count: u32) -> Result<Taken, RedisError> {
        let mut taking = self.taking.lock().await;
        taking.doubt |= self.doubtful.swap(false, Ordering::Relaxed);
        if taking.doubt {
            let Some(adopted) = self.adopt(shared, &mut taking, wanted.subscription).await? else {
                drop(taking);
                let mut renewed = self.renewed.subscribe();
                let _ = timeout(self.lease / 8, renewed.changed()).await;
                return Ok(Taken::default());
            };
            taking.doubt = false;
            if !adopted.is_empty() {
                return Ok(Taken { deliveries: adopted, more: true, ..Taken::default() });
            }
        }
        let name = self.name();
        let mut call = TAKE.call(4 + wanted.lists.len());
        call.arg(shared.keys.kombu.unacked()).arg(shared.keys.kombu.unacked_index()).arg(shared.keys.takers()).arg(shared.keys.paused());
        let order = wanted.order();
        for level in wanted.lists.chunks(wanted.queues.len()) {
            for at in &order {
                call.arg(&level[*at]);
            }
        }
        call.arg(count).arg(&*name).arg(taking.taker).arg(taking.next).arg(order.len());
        for at in &order {
            call.arg(wanted.queues[*at].as_str());
        }
        for at in &order {
            call.arg(&wanted.tails[*at]);
        }
        let first = taking.next;
        taking.next += u64::from(count);
        // Until the answer is here nobody knows what was taken; a future that is dropped here leaves the doubt behind.
        taking.doubt = true;
        let value = shared.link.script(&TAKE, &call).await?;
        if value == Value::Nil {
            // Another taker of this session, or others have given it up, which the next renewal will find.
            return Ok(Taken::default());
        }
        let mut taken = self.read(shared, wanted, &order, &name, first, value)?;
        taken.more = taken.deliveries.len() >= count as usize;
        taking.doubt = false;
        Ok(taken)
    }

    fn read(&self, shared: &Shared, wanted: &Wanted, order: &[usize], name: &str, first: u64, value: Value) -> Result<Taken, RedisError> {
        let strange = || RedisError::strange("a take");
        let queue = |value: &Value| -> Result<&QueueName, RedisError> {
            let at =
                answer::int(Some(value)).and_then(|at| usize::try_from(at - 1).ok()).and_then(|at| order.get(at)).ok_or_else(strange)?;
            Ok(&wanted.queues[*at])
        };
        let mut items = answer::list(value, "a take")?.into_iter();
        let paused = answer::list(items.next().ok_or_else(strange)?, "a take")?;
        let paused = paused.iter().map(|value| queue(value).cloned()).collect::<Result<_, _>>()?;
        let refused = answer::list(items.next().ok_or_else(strange)?, "a take")?;
        let mut refused: Vec<String> = refused.into_iter().filter_map(answer::text).collect();
        // Another queue comes first each time.
        refused.sort();
        let mut deliveries = Vec::with_capacity(items.len() / 2);
        let mut number = first;
        while let (Some(at), Some(envelope)) = (items.next(), items.next()) {
            let envelope = answer::bytes(envelope).ok_or_else(strange)?;
            let delivery = shared.delivery(format!("umbel:{name}:{number}"), queue(&at)?, &envelope);
            shared.hold(&delivery.held, wanted.subscription);
            deliveries.push(delivery);
            number += 1;
        }
        Ok(Taken { deliveries, paused, refused, more: false })
    }

    /// The next take looks first whether the session holds what nobody here knows of.
    pub(super) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
    }

    /// Finds what the session holds without this process knowing, and makes sure that no take from before comes late. `None` when
    /// the server does not know the session any more, which the next renewal will find.
    async fn adopt(&self, shared: &Shared, taking: &mut Taking, subscription: u64) -> Result<Option<Vec<Delivery>>, RedisError> {
        taking.taker += 1;
        let mut call = ADOPT.call(3);
        call.arg(shared.keys.takers()).arg(shared.keys.kombu.unacked()).arg(shared.keys.leases()).arg(&*self.name()).arg(taking.taker);
        let answer = shared.link.script(&ADOPT, &call).await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let fields = answer::list(answer, "an adoption")?;
        let mut fields: Vec<String> = fields.into_iter().filter_map(answer::text).filter(|field| !shared.is_held(field)).collect();
        fields.sort_by_key(|field| field.rsplit(':').next().and_then(|number| number.parse::<u64>().ok()));
        // What has begun may not begin again: it goes back as what was lost.
        let begun = shared.begun(&fields).await?;
        let (lost, fields): (Vec<_>, Vec<_>) = fields.into_iter().zip(begun).partition(|(_, begun)| *begun);
        let lost: Vec<String> = lost.into_iter().map(|(field, _)| field).collect();
        let fields: Vec<String> = fields.into_iter().map(|(field, _)| field).collect();
        shared.give_back(&lost).await?;
        let entries = shared.entries(fields.iter().map(String::as_str)).await?;
        let mut adopted = Vec::new();
        for (field, entry) in fields.into_iter().zip(entries) {
            let Some(entry) = entry else { continue };
            let (envelope, queue) = crate::redis::entry::split(&entry);
            let delivery = shared.delivery(field, &QueueName::from(queue), envelope);
            shared.hold(&delivery.held, subscription);
            adopted.push(delivery);
        }
        if !adopted.is_empty() {
            tracing::info!(node = %self.node, count = adopted.len(), "messages whose taking was not heard of have been found");
        }
        Ok(Some(adopted))
    }
}
