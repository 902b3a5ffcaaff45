//! Schedules in RabbitMQ alone: a log that everybody reads, and a queue that only the leader consumes from.
//!
//! RabbitMQ keeps no keys and runs no scripts. What is kept is therefore what all lines of a stream come to ([`log`], [`replica`]), and
//! the lease is a consumer's exclusive hold of a queue ([`reign`]), whose channel is the fence: a tick is one transaction on it.
//!
//! **Time.** RabbitMQ has no clock to ask, so due times go by the clocks of the nodes, which are to be kept right (NTP). A clock that
//! is wrong makes ticks early or late; it cannot double one, because marks only move from where they stand.
//!
//! **A server that is killed in the middle of a commit** may keep the message and lose the mark. Then the tick is sent again, under
//! the same task id.

mod log;
mod reign;
mod replica;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep_until;
use umbel_scheduler::{
    beat::Entry,
    lease::{Standing, Token},
};

use self::{
    log::{Effect, What},
    reign::Reign,
    replica::Replica,
};
use super::{Answer, Book, Candidate, ENTRIES_MAX, Poll, Schedules, Step, node_of};
use crate::{
    amqp::error::{AmqpError, KIND},
    brokers::{
        BrokerError,
        amqp::{Scratch, Shared},
    },
    clock,
};

/// How many entries go into one line.
const SLICE: usize = 200;

/// Schedules in a virtual host.
pub(crate) struct AmqpSchedules(Arc<Inner>);

struct Inner {
    replica: Arc<Replica>,
    /// Leaders of this process, by the name of the candidate.
    reigns: Mutex<HashMap<String, Arc<Reign>>>,
    /// Held by whoever stands for election: one at a time.
    electing: tokio::sync::Mutex<()>,
    is_digesting: AtomicBool,
    /// The channel that followers look with, twice a second. Whoever looks has it for that long.
    looking: Mutex<Option<Scratch>>,
}

impl AmqpSchedules {
    /// Those beside the queues of a broker. Must be called within a runtime.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Inner {
            replica: Replica::follow(shared),
            reigns: Mutex::default(),
            electing: tokio::sync::Mutex::default(),
            is_digesting: AtomicBool::new(false),
            looking: Mutex::default(),
        }))
    }
}

impl Inner {
    fn reigns(&self) -> MutexGuard<'_, HashMap<String, Arc<Reign>>> {
        self.reigns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looking(&self) -> MutexGuard<'_, Option<Scratch>> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reign(&self, name: &str) -> Option<Arc<Reign>> {
        self.reigns().get(name).cloned()
    }

    /// Whoever leads, if anybody consumes.
    async fn is_led(&self) -> Result<Option<bool>, AmqpError> {
        let live = self.replica.shared.link.live().await?;
        let kept = self.looking().take().filter(|scratch| scratch.epoch() == live.epoch);
        let mut scratch = kept.unwrap_or_else(|| Scratch::new(live));
        let looked = scratch.look(reign::QUEUE).await?;
        let other = self.looking().replace(scratch);
        if let Some(other) = other {
            other.close().await;
        }
        Ok(looked.map(|(_, consumers)| consumers > 0))
    }

    async fn campaign(self: &Arc<Self>, name: &str, lease: Duration) -> Result<Poll, AmqpError> {
        let _one_at_a_time = self.electing.lock().await;
        self.replica.learned().await?;
        if let Some(reign) = self.reign(name) {
            if reign.stands().await.is_ok() {
                reign.renew(lease);
                return Ok(self.poll(name, Standing::Leads(Token(reign.token))));
            }
            self.depose(name, reign.token);
        }
        match self.is_led().await? {
            Some(false) => {}
            Some(true) => return Ok(self.follows(lease)),
            None => self.replica.shared.declare_plain(reign::QUEUE).await?,
        }
        let Some(reign) = Reign::begin(&self.replica, name, lease).await? else { return Ok(self.follows(lease)) };
        let token = reign.token;
        self.reigns().insert(name.to_owned(), Arc::new(reign));
        crate::task::spawn(watch(Arc::downgrade(self), name.to_owned(), token));
        Ok(self.poll(name, Standing::Leads(Token(token))))
    }

    fn poll(&self, leader: &str, standing: Standing) -> Poll {
        Poll { standing, leader: node_of(leader), now: clock::now(), revision: self.replica.pages().revision }
    }

    fn follows(&self, lease: Duration) -> Poll {
        let leader = self.replica.pages().leader.as_ref().map(|(_, name)| name.clone()).unwrap_or_default();
        self.poll(&leader, Standing::Follows { ends_in_ms: reign::look_again(lease) })
    }

    /// Forgets a leader; the server takes the queue from its connection.
    fn depose(&self, name: &str, token: u64) -> Option<Arc<Reign>> {
        let mut reigns = self.reigns();
        let is_it = reigns.get(name).is_some_and(|reign| reign.token == token);
        if is_it { reigns.remove(name) } else { None }
    }

    /// Writes a digest if much has been written since the last one. One at a time; who writes half of one has written none.
    fn digest(self: &Arc<Self>) {
        let what = {
            let pages = self.replica.pages();
            let enough = self.replica.shared.options.schedule_log.saturating_add(4 * pages.digest_bytes);
            if pages.bytes < enough || self.is_digesting.swap(true, Ordering::Relaxed) {
                return;
            }
            pages.digest(uuid::Uuid::new_v4().as_u64_pair().0, SLICE)
        };
        let inner = Arc::clone(self);
        crate::task::spawn(async move {
            if let Err(error) = inner.replica.append(what).await {
                tracing::debug!(%error, "a digest of the log of schedules could not be written; the next will be");
            }
            inner.is_digesting.store(false, Ordering::Relaxed);
        });
    }
}

/// Ends a leader whose lease is not renewed.
async fn watch(inner: Weak<Inner>, name: String, token: u64) {
    loop {
        let Some(until) =
            inner.upgrade().and_then(|inner| inner.reign(&name)).filter(|reign| reign.token == token).map(|reign| reign.until())
        else {
            return;
        };
        sleep_until(until).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.reign(&name).is_some_and(|reign| reign.token == token && reign.until() <= tokio::time::Instant::now()) {
            if let Some(reign) = inner.depose(&name, token) {
                reign.end().await;
            }
            return;
        }
    }
}

#[async_trait]
impl Schedules for AmqpSchedules {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn campaign(&self, candidate: &Candidate) -> Result<Poll, BrokerError> {
        // An election is carried through even if nobody waits for it any more: the next question finds its outcome.
        let (inner, name, lease) = (Arc::clone(&self.0), candidate.name(), candidate.lease);
        let campaign = crate::task::spawn(async move { inner.campaign(&name, lease).await }).await;
        let failed = |error: tokio::task::JoinError| AmqpError::Unavailable(format!("an election has failed: {error}"));
        Ok(campaign.map_err(failed)??)
    }

    async fn resign(&self, candidate: &Candidate) -> Result<(), BrokerError> {
        let reign = self.0.reigns().remove(&candidate.name());
        if let Some(reign) = reign {
            reign.end().await;
        }
        Ok(())
    }

    async fn book(&self) -> Result<Book, BrokerError> {
        self.0.replica.learned().await?;
        let is_led = self.0.is_led().await?.unwrap_or(false);
        let book = self.0.replica.pages().book(clock::now());
        Ok(Book { leader: book.leader.filter(|_| is_led), ..book })
    }

    async fn tick(&self, candidate: &Candidate, token: Token, ticks: Vec<Step>) -> Result<Vec<Answer>, BrokerError> {
        let name = candidate.name();
        let reign = self.0.reign(&name).filter(|reign| reign.token == token.0);
        let Some(reign) = reign.filter(|_| self.0.replica.pages().token() == Some(token.0)) else {
            return Ok(vec![Answer::Deposed; ticks.len()]);
        };
        let answers = reign.tick(&self.0.replica, ticks).await;
        if answers.is_err() {
            // What its channel has been told and has not carried out must not be carried out with something else.
            self.0.depose(&name, token.0);
        }
        self.0.digest();
        Ok(answers?)
    }

    async fn put(&self, entries: Vec<Entry>) -> Result<(), BrokerError> {
        for slice in entries.chunks(SLICE) {
            let refused = |error: serde_json::Error| AmqpError::Refused(format!("an entry cannot be written: {error}"));
            let written = slice.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>().map_err(refused)?;
            if self.0.replica.append(vec![What::Put(written)]).await?.contains(&Effect::TooMany) {
                return Err(AmqpError::Refused(format!("there are more than {ENTRIES_MAX} entries")).into());
            }
        }
        Ok(())
    }

    async fn remove(&self, names: &[String]) -> Result<usize, BrokerError> {
        let lines = names.chunks(SLICE).map(|names| What::Remove(names.to_vec())).collect();
        Ok(self.0.replica.append(lines).await?.into_iter().map(count).sum())
    }

    async fn pause(&self, name: &str, paused: bool) -> Result<bool, BrokerError> {
        let line = What::Pause { name: name.to_owned(), paused };
        Ok(self.0.replica.append(vec![line]).await?.into_iter().map(count).sum::<usize>() > 0)
    }
}

fn count(effect: Effect) -> usize {
    match effect {
        Effect::Entries(count) => count,
        Effect::TooMany | Effect::Deposed => 0,
    }
}

impl fmt::Debug for AmqpSchedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begins = self.0.replica.pages().base;
        f.debug_struct("AmqpSchedules").field("link", &self.0.replica.shared.link).field("log_begins", &begins).finish()
    }
}
