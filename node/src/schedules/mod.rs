//! The schedule seam: where entries of beat, their progress and the leadership over them are kept.
//!
//! **What a contributor writes.** A [`Schedules`] beside a broker, in the broker's own store, because a tick is two things in one
//! step: the task's message is put into its queue, and the entry's mark is moved. It never sees an actor. The beat actor of each
//! node asks it who leads, and the leader has it carry out ticks.
//!
//! **What it must promise.** At most one candidate leads, for the length of a lease that ends by the store's clock; each change of
//! leader has a higher [`Token`], and ticks under an older one are refused. A tick happens whole or not at all, and only where the
//! entry's mark stands where the tick found it, is not paused and not removed; so a due time is sent once, however often it is
//! asked for and by however many. Entries, marks and pauses are durable. The revision changes whenever entries or pauses do.
//!
//! **What bounds it.** The number of entries ([`ENTRIES_MAX`]) and of ticks in a batch ([`TICKS_MAX`]). **When it dies.** Every
//! operation answers with a [`BrokerError`]; whether a tick that was not answered has happened is told by the mark afterwards.
//!
//! The proof for every implementation is `tests/src/conformance/schedules.rs`.

pub(crate) mod amqp;
pub mod application;
pub mod configured;
pub(crate) mod embedded;
pub(crate) mod redis;
pub mod tables;
pub mod written;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use umbel_proto::{Millis, NodeId};
use umbel_scheduler::{
    Publish,
    beat::{Entry, Mark},
    lease::{Standing, Token},
};

use crate::brokers::BrokerError;

/// The most entries that are kept.
pub const ENTRIES_MAX: usize = 100_000;

/// The most ticks in one call.
pub const TICKS_MAX: usize = 500;

/// A store of schedules.
#[async_trait]
pub trait Schedules: fmt::Debug + Send + Sync + 'static {
    /// What the broker beside it is called.
    fn kind(&self) -> &'static str;

    /// Asks for the lease, or renews it.
    async fn campaign(&self, candidate: &Candidate) -> Result<Poll, BrokerError>;

    /// Gives the lease up, if the candidate has it.
    async fn resign(&self, candidate: &Candidate) -> Result<(), BrokerError>;

    /// Everything that is kept.
    async fn book(&self) -> Result<Book, BrokerError>;

    /// Carries out ticks, in order; an answer for each.
    async fn tick(&self, candidate: &Candidate, token: Token, ticks: Vec<Step>) -> Result<Vec<Answer>, BrokerError>;

    /// Adds entries, or puts them in the place of those of their names. A new entry's mark is the store's time; one that was there
    /// keeps its own.
    async fn put(&self, entries: Vec<Entry>) -> Result<(), BrokerError>;

    /// Removes entries and their marks; how many there were.
    async fn remove(&self, names: &[String]) -> Result<usize, BrokerError>;

    /// Pauses or resumes an entry. A resumed one goes on from now: what was due in between is not missed but was not wanted.
    /// `false` when there is none of that name.
    async fn pause(&self, name: &str, paused: bool) -> Result<bool, BrokerError>;
}

/// Who wants to lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Which life of the node this is: two nodes of one name, or one that was started again, are two candidates.
    pub instance: String,
    /// How long a silent leader leads.
    pub lease: Duration,
}

impl Candidate {
    /// A candidate that nobody has been before.
    pub fn new(node: NodeId, lease: Duration) -> Self {
        Self { node, instance: uuid::Uuid::new_v4().to_string(), lease }
    }

    /// Node and instance in one word: the instance has no spaces.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.instance, self.node)
    }

    /// The lease in whole milliseconds.
    pub(crate) fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

/// The node of a candidate's name.
pub(crate) fn node_of(name: &str) -> NodeId {
    NodeId::from(name.split_once(' ').map_or(name, |(_, node)| node))
}

/// What a candidate is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Whether it leads.
    pub standing: Standing,
    /// Who does.
    pub leader: NodeId,
    /// The store's time.
    pub now: Millis,
    /// A number that changes when entries or pauses do.
    pub revision: u64,
}

/// Everything that is kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Book {
    /// The entries by name.
    pub entries: Vec<Kept>,
    /// Entries that are there and cannot be read: their names, and why.
    pub unreadable: Vec<(String, String)>,
    /// Who leads, if anybody does.
    pub leader: Option<NodeId>,
    /// The store's time.
    pub now: Millis,
    /// As [`Poll::revision`].
    pub revision: u64,
}

/// An entry and its progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The entry.
    pub entry: Entry,
    /// Its progress.
    pub mark: Mark,
}

/// One tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The entry's name.
    pub name: String,
    /// Where its mark must stand.
    pub from: Millis,
    /// The mark afterwards.
    pub mark: Mark,
    /// What is sent with it.
    pub message: Option<Publish>,
}

/// What became of a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It happened; the mark stands where it should.
    Done,
    /// It did not, because the mark stands here: somebody else, or an earlier asking, moved it.
    Moved(Mark),
    /// It did not, because the entry is paused or not there.
    Gone,
    /// It did not, because the candidate does not lead under this token.
    Deposed,
}

/// A mark as text, its pause left out: the due time comes first, so that a script can compare it.
pub(crate) fn write_mark(mark: &Mark) -> String {
    let sent = mark.sent.map_or_else(|| "-".to_owned(), |sent| sent.to_string());
    format!("{} {} {}", mark.due, mark.runs, sent)
}

/// Reads it; `None` when it is no mark.
pub(crate) fn read_mark(text: &str) -> Option<Mark> {
    let mut words = text.split(' ');
    let due = words.next()?.parse().ok()?;
    let runs = words.next()?.parse().ok()?;
    let sent = words.next().and_then(|sent| sent.parse().ok());
    Some(Mark { due, sent, runs, paused: false })
}
