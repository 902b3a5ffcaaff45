//! Messages being handed to a node.
//!
//! A fetch takes with one script; when the last one left nothing, it first asks the tracked connection whether there is something now, which
//! also has the server tell of the next message, and waits. A take goes on when its fetch is dropped: what it takes comes with
//! the next fetch.

use std::{
    collections::VecDeque,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, timeout},
};
use umbel_proto::QueueName;

use super::{
    super::{BrokerError, Delivery, Returns, Subscribe, Subscription},
    Shared, keeper,
    session::{Session, Taken},
};
use crate::redis::{entry, error::RedisError};

/// How many messages one script takes at most.
pub(super) const SLICE: u32 = 500;

/// How long a fetch trusts that it will be told of the next message before it looks again. News that got lost cost this long,
/// or less: the stall watch looks as well.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

static SUBSCRIPTIONS: AtomicU64 = AtomicU64::new(1);

/// One subscription.
pub(super) struct RedisSubscription {
    shared: Arc<Shared>,
    session: Arc<Session>,
    wanted: Arc<Wanted>,
    /// Taken and not yet handed out.
    ready: VecDeque<Delivery>,
    /// The last take left nothing behind; with the queues that were paused then.
    emptied: Option<Vec<QueueName>>,
    /// Lists that could not be taken from then.
    refused: Vec<String>,
    taking: Option<JoinHandle<Result<Taken, RedisError>>>,
    news: watch::Receiver<u64>,
    returns: Returns,
}

/// What a subscription takes from.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) subscription: u64,
    pub(super) queues: Vec<QueueName>,
    /// Level by level, one list per queue: what was lost, then the priority steps.
    pub(super) lists: Vec<String>,
    /// What stands behind the envelope in an entry of each queue.
    pub(super) tails: Vec<String>,
    /// Where the next take begins.
    turn: AtomicU64,
}

impl Wanted {
    fn new(shared: &Shared, subscription: u64, queues: Vec<QueueName>) -> Self {
        let levels = shared.options.layout.steps.len();
        let mut lists: Vec<String> = queues.iter().map(|queue| shared.keys.lost(queue)).collect();
        let by_queue: Vec<Vec<String>> = queues.iter().map(|queue| shared.keys.kombu.queue_lists(queue)).collect();
        for level in 0..levels {
            lists.extend(by_queue.iter().map(|lists| lists[level].clone()));
        }
        let tails = queues.iter().map(|queue| entry::tail(queue.as_str())).collect();
        Self { subscription, queues, lists, tails, turn: AtomicU64::new(0) }
    }

    /// Positions of the queues, another one first each time.
    pub(super) fn order(&self) -> Vec<usize> {
        let count = self.queues.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        (0..count).map(|at| (turn + at) % count).collect()
    }

    /// The lists of the queues that are not paused.
    fn open_lists<'a>(&'a self, paused: &'a [QueueName]) -> impl Iterator<Item = &'a String> {
        let count = self.queues.len();
        self.lists.iter().enumerate().filter(move |(at, _)| !paused.contains(&self.queues[at % count])).map(|(_, list)| list)
    }
}

impl RedisSubscription {
    pub(super) async fn begin(shared: &Arc<Shared>, mut request: Subscribe) -> Result<Self, BrokerError> {
        request.queues.sort();
        request.queues.dedup();
        let Subscribe { node, queues, .. } = &request;
        if queues.is_empty() {
            return Err(RedisError::Refused("a subscription needs at least one queue".to_owned()).into());
        }
        shared.learn_revoked().await?;
        shared.learn_tunings().await?;
        shared.declare(queues).await?;
        let known = {
            let sessions = shared.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.get(node).and_then(std::sync::Weak::upgrade).filter(|session| session.enter())
        };
        let session = match known {
            Some(session) => {
                session.add_queues(shared, queues).await?;
                session
            }
            None => {
                let session = Session::begin(shared, &request).await?;
                session.enter();
                keeper::start(shared, &session);
                let mut sessions = shared.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                sessions.retain(|_, session| session.strong_count() > 0);
                sessions.insert(node.clone(), Arc::downgrade(&session));
                session
            }
        };
        // What dead nodes held comes before what waits.
        shared.rescue(None).await?;
        let returns = keeper::returns(shared, &session);
        Ok(Self {
            shared: Arc::clone(shared),
            session,
            wanted: Arc::new(Wanted::new(shared, SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed), request.queues)),
            ready: VecDeque::new(),
            emptied: None,
            refused: Vec::new(),
            taking: None,
            news: shared.tracking.queues(),
            returns,
        })
    }

    /// Waits for the take that is under way, or for a new one.
    async fn take(&mut self, max: u32) -> Result<Taken, RedisError> {
        let taking = match &mut self.taking {
            Some(taking) => taking,
            none => {
                let (shared, session, wanted) = (Arc::clone(&self.shared), Arc::clone(&self.session), Arc::clone(&self.wanted));
                none.insert(crate::task::spawn(async move { session.take(&shared, &wanted, max.min(SLICE)).await }))
            }
        };
        let taken = taking.await;
        self.taking = None;
        taken.unwrap_or_else(|error| Err(RedisError::Unavailable(format!("taking messages was interrupted: {error}"))))
    }

    /// Asks whether there is anything to take, and has the server tell when there is.
    async fn anything(&self, paused: &[QueueName]) -> Result<bool, RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SMEMBERS").arg(self.shared.keys.paused());
        let lists: Vec<&String> = self.wanted.open_lists(paused).filter(|list| !self.refused.contains(list)).collect();
        if lists.is_empty() {
            let (now,): (Vec<String>,) = self.shared.tracking.read_all(&pipeline).await?;
            return Ok(!self.same_pauses(&now, paused));
        }
        pipeline.cmd("EXISTS").arg(&lists);
        let (now, count): (Vec<String>, u64) = self.shared.tracking.read_all(&pipeline).await?;
        Ok(count > 0 || !self.same_pauses(&now, paused))
    }

    fn same_pauses(&self, now: &[String], paused: &[QueueName]) -> bool {
        self.wanted.queues.iter().all(|queue| now.iter().any(|name| name == queue.as_str()) == paused.contains(queue))
    }

    /// Waits until the lease has time again: a node that cannot renew hands out nothing.
    async fn wait_for_lease(&self) {
        let mut renewed = self.session.renewed.subscribe();
        while !self.session.has_time() {
            if renewed.changed().await.is_err() {
                return;
            }
        }
    }
}

#[async_trait]
impl Subscription for RedisSubscription {
    async fn fetch(&mut self, max: u32) -> Result<Vec<Delivery>, BrokerError> {
        let max = max.max(1);
        loop {
            self.wait_for_lease().await;
            if !self.ready.is_empty() {
                let count = self.ready.len().min(max as usize);
                let handed: Vec<Delivery> =
                    self.ready.drain(..count).filter(|delivery| self.shared.is_held(delivery.held.tag.as_str())).collect();
                if handed.is_empty() {
                    continue;
                }
                return Ok(handed);
            }
            if let Some(paused) = self.emptied.take() {
                // Waiting ends early when there is news. Without any, what is asked again is only whether there is something.
                // What could not be taken from is tried again as rarely.
                while !self.anything(&paused).await? {
                    if timeout(LOOK_AGAIN, self.news.changed()).await.is_ok() || !self.refused.is_empty() {
                        break;
                    }
                }
                self.wait_for_lease().await;
            }
            self.news.mark_unchanged();
            let mut taken = self.take(max).await?;
            if taken.refused != self.refused {
                if !taken.refused.is_empty() {
                    let lists = taken.refused.join(", ");
                    tracing::error!(%lists, "a queue's list is a key of another type; nothing comes from it until that is removed (redis-cli TYPE, DEL)");
                }
                self.refused = std::mem::take(&mut taken.refused);
            }
            // What came while it took is news, or found by the look that precedes the next take.
            self.emptied = (!taken.more).then_some(taken.paused);
            self.ready.extend(taken.deliveries);
        }
    }

    fn returns(&self) -> Returns {
        self.returns.clone()
    }

    async fn take_from(&mut self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let mut queues = queues.to_vec();
        queues.sort();
        queues.dedup();
        self.shared.declare(&queues).await?;
        if self.taking.is_some() {
            let taken = self.take(1).await?;
            self.ready.extend(taken.deliveries);
        }
        if queues.is_empty() {
            // Nobody fetches until there are queues again.
            let tags: Vec<String> = self.ready.drain(..).map(|delivery| delivery.held.tag.as_str().to_owned()).collect();
            self.shared.give_back(&tags).await?;
        }
        self.emptied = None;
        self.session.set_queues(&self.shared, &queues).await?;
        self.wanted = Arc::new(Wanted::new(&self.shared, self.wanted.subscription, queues));
        Ok(())
    }

    async fn close(mut self: Box<Self>) -> Result<(), BrokerError> {
        if self.taking.is_some() {
            // What it takes is given back with the rest.
            let _ = self.take(1).await;
        }
        if self.session.leave() {
            self.shared.give_up(&self.session.name()).await?;
            self.shared.leave_schedules().await?;
        } else {
            let tags = self.shared.taken_by(self.wanted.subscription);
            self.shared.give_back(&tags).await?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for RedisSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSubscription")
            .field("session", &self.session.name())
            .field("queues", &self.wanted.queues)
            .finish_non_exhaustive()
    }
}
