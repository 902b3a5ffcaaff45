//! What the broker, its subscriptions and the `rpc://` backend share.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use lapin::Connection;
use tokio::sync::watch;
use umbel_proto::{NodeId, QueueName, TaskId};
use umbel_scheduler::Release;

use super::{
    super::Held,
    lines::Lines,
    session::{Session, Settle},
    state::ClusterState,
};
use crate::amqp::{
    AmqpOptions, Link, Target,
    error::{AmqpError, reply_code},
    link::connect,
};

/// The broker's inside.
pub(crate) struct Shared {
    pub(crate) link: Link,
    pub(crate) options: AmqpOptions,
    pub(super) state: ClusterState,
    /// Sessions by node; a node that subscribes again keeps its session.
    sessions: Mutex<HashMap<NodeId, Weak<Session>>>,
    /// What this process has declared on the connection of that number.
    pub(super) declared: Mutex<Declared>,
    /// Idle channels for publishing.
    pub(super) lines: Lines,
    /// Idle channels for transactions.
    pub(super) transactors: Lines,
    /// Where this process hears of results, if it wants to.
    pub(super) replies: OnceLock<Replies>,
    /// Tasks whose publishing was not answered: sent again, they may be there twice.
    pub(super) doubtful: Mutex<HashSet<TaskId>>,
    /// How many results are being sent again because nobody took them.
    pub(super) unheard: AtomicUsize,
    /// Dropped with the broker: then its sessions end.
    alive: watch::Sender<()>,
    turn: AtomicUsize,
}

/// The queue for results, and whether it is there now.
#[derive(Debug)]
pub(super) struct Replies {
    pub(super) queue: String,
    pub(super) listening: watch::Receiver<bool>,
}

/// What has been declared.
#[derive(Debug, Default)]
pub(super) struct Declared {
    epoch: u64,
    pub(super) queues: HashSet<QueueName>,
    pub(super) fronts: HashSet<QueueName>,
    pub(super) delayed: HashSet<QueueName>,
    pub(super) ladder: bool,
    pub(super) letters: bool,
    /// Exchanges that were asked after, and whether they are there.
    pub(super) exchanges: HashMap<String, bool>,
}

impl Shared {
    pub(super) fn open(target: Target, options: AmqpOptions) -> Arc<Self> {
        let link = Link::open(target, &options, "publisher");
        Arc::new(Self {
            state: ClusterState::follow(link.clone(), options.revoke_expires),
            link,
            options,
            sessions: Mutex::default(),
            declared: Mutex::default(),
            lines: Lines::default(),
            transactors: Lines::default(),
            replies: OnceLock::new(),
            doubtful: Mutex::default(),
            unheard: AtomicUsize::new(0),
            alive: watch::Sender::new(()),
            turn: AtomicUsize::new(0),
        })
    }

    /// Ends with the broker.
    pub(super) fn alive(&self) -> watch::Receiver<()> {
        self.alive.subscribe()
    }

    /// A connection of its own, to the first host that answers.
    pub(super) async fn connect(&self, what: &str) -> Result<Arc<Connection>, AmqpError> {
        let target = self.link.target();
        let mut failed = AmqpError::Unavailable("there is no host".to_owned());
        for _ in 0..target.hosts() {
            match connect(target, self.turn.load(Ordering::Relaxed), &self.options, what).await {
                Ok(connection) => return Ok(Arc::new(connection)),
                Err(error) => failed = error,
            }
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
        Err(failed)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<NodeId, Weak<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's session.
    pub(super) fn session(&self, node: &NodeId) -> Option<Arc<Session>> {
        self.sessions().get(node).and_then(Weak::upgrade)
    }

    /// Remembers a session.
    pub(super) fn keep(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions();
        sessions.retain(|_, session| session.strong_count() > 0);
        sessions.insert(session.node.clone(), Arc::downgrade(session));
    }

    /// The sessions of this process.
    pub(super) fn all_sessions(&self) -> Vec<Arc<Session>> {
        let mut sessions: Vec<_> = self.sessions().values().filter_map(Weak::upgrade).filter(|session| !session.hand.is_dead()).collect();
        sessions.sort_by(|a, b| a.node.cmp(&b.node));
        sessions
    }

    /// The session that holds a delivery at its attempt.
    pub(super) fn holder(&self, held: &Held) -> Option<Arc<Session>> {
        self.all_sessions().into_iter().find(|session| session.hand.find(held).is_some())
    }

    /// Where the sender of a held message wants to hear of its result.
    pub(crate) fn reply_to_of(&self, held: &Held) -> Option<(String, Option<String>)> {
        self.holder(held)?.hand.reply_to(held)
    }

    /// Whether a held message is that of this task.
    pub(crate) fn is_of(&self, held: &Held, id: &TaskId) -> bool {
        self.holder(held).is_some_and(|session| session.hand.task(held).as_deref() == Some(id.as_str()))
    }

    /// Has what this process begins answered to `queue`, as long as the sender says that somebody listens there.
    pub(crate) fn listen_for_results(&self, queue: &str) -> watch::Sender<bool> {
        let sender = watch::Sender::new(false);
        let _ = self.replies.set(Replies { queue: queue.to_owned(), listening: sender.subscribe() });
        sender
    }

    /// Settles; what no session here holds is not held.
    pub(super) async fn settle(&self, batch: Vec<Settle>) -> Vec<Result<bool, AmqpError>> {
        let mut answers: Vec<Result<bool, AmqpError>> = vec![Ok(false); batch.len()];
        let mut rest: Vec<(usize, Settle)> = batch.into_iter().enumerate().collect();
        for session in self.all_sessions() {
            let (mine, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, settle)| session.hand.find(&settle.held).is_some());
            rest = others;
            if mine.is_empty() {
                continue;
            }
            let (places, batch): (Vec<usize>, Vec<Settle>) = mine.into_iter().unzip();
            let released = match self.prepare(&session, &batch).await {
                Ok(()) => session.release(batch).await,
                Err(error) => Err(error),
            };
            match released {
                Ok(done) => places.into_iter().zip(done).for_each(|(place, done)| answers[place] = Ok(done)),
                Err(error) => places.into_iter().for_each(|place| answers[place] = Err(error.clone())),
            }
        }
        answers
    }

    /// Declares what settling these takes.
    async fn prepare(&self, session: &Session, batch: &[Settle]) -> Result<(), AmqpError> {
        let later = batch.iter().filter(|settle| matches!(settle.release, Release::Requeue { due: Some(_), .. }));
        let queues: HashSet<QueueName> = later.filter_map(|settle| session.hand.queue_of(&settle.held)).collect();
        for queue in queues {
            self.declare_delayed(&queue).await?;
        }
        Ok(())
    }

    /// What is declared on this connection; what was on an earlier one may be gone.
    pub(super) fn declared(&self, epoch: u64) -> MutexGuard<'_, Declared> {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        if declared.epoch != epoch {
            *declared = Declared { epoch, ..Declared::default() };
        }
        declared
    }
}

/// Whether the server closed a channel for this reason.
pub(super) fn closed_for(error: &lapin::Error, code: u16) -> bool {
    reply_code(error) == Some(code)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("link", &self.link).finish_non_exhaustive()
    }
}
