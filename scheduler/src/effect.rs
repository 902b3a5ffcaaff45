//! Effects: everything that can follow from a decision, as data.
//!
//! A ledger makes all effects of one [`Commit`] durable or none of them, provided the commit's [`Fence`] holds.

use std::{sync::Arc, time::Duration};

use umbel_proto::{DeliveryTag, GroupId, Invocation, Millis, QueueName, ResultRecord, Signature, TaskError, TaskId, Value};

/// One thing that follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a task.
    Publish(Box<Publish>),
    /// Store a result. A stored SUCCESS is never overwritten (`celery/backends/base.py`); everything else is.
    Store(Box<ResultRecord>),
    /// What this ending has to store is stored already, by an earlier commit under the same fence. There is nothing left to do about
    /// it, but for ledgers that mark what has ended.
    StoredBefore,
    /// Begin to count a chord. Comes before the messages of its header in the same commit.
    OpenChord(Box<OpenChord>),
    /// Expect more parts of a chord (`add_to_chord`).
    GrowChord {
        /// The chord.
        group: GroupId,
        /// How many more.
        by: u32,
    },
    /// Record how one header member of a chord ended.
    Part(Box<ChordPart>),
    /// Pay what is owed to the broker for the delivery of the commit's fence.
    Release(Release),
}

/// A task on its way to a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// The message.
    pub invocation: Invocation,
    /// Where to.
    pub route: Route,
    /// Not to be delivered before this time; `None` is at once.
    pub due: Option<Millis>,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The queue it ends up in, as far as the sender can tell.
    pub queue: QueueName,
    /// The exchange; empty sends straight to the queue.
    pub exchange: String,
    /// The routing key; the queue's name where the exchange is empty.
    pub routing_key: String,
}

/// The beginning of a chord.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenChord {
    /// The chord's id, which is its header's group id.
    pub group: GroupId,
    /// How many parts complete it. Zero is ready at once.
    pub size: u32,
    /// What to send when all parts are there, its `task_id` already in its options.
    pub body: Signature,
}

/// How one header member ended.
///
/// A part is known by its index and the task's id together, never by counting, so that a member delivered twice counts once.
#[derive(Debug, Clone, PartialEq)]
pub struct ChordPart {
    /// The chord.
    pub group: GroupId,
    /// The member's position; `None` sorts last.
    pub index: Option<i64>,
    /// The member.
    pub task_id: TaskId,
    /// The root and the parent that a body started by this part gets.
    pub root_id: Option<TaskId>,
    /// The body as the member's message carried it, for stores that keep none.
    pub body: Signature,
    /// How it ended.
    pub result: PartResult,
}

/// The ending of a header member.
#[derive(Debug, Clone, PartialEq)]
pub enum PartResult {
    /// Its value.
    Value(Value),
    /// Its exception, and whether it failed or was refused.
    Error(TaskError),
}

/// What to pay the broker for one delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Release {
    /// The message is done with.
    Ack,
    /// The message goes back to the front of its queue, not before `due`, having cost `crashes` executors their life so far.
    Requeue {
        /// When to deliver again; `None` is at once.
        due: Option<Millis>,
        /// How many executors died under it.
        crashes: u32,
    },
    /// The message goes to the dead letters.
    Dead {
        /// Why.
        reason: DeadReason,
        /// The reason in words for a person.
        detail: String,
    },
    /// The task begins and its message is done with (early acknowledgement): it will not be run again. The delivery stays
    /// held, marked as begun, until a later commit with the same fence releases it (with [`Release::Ack`], or with
    /// [`Release::Dead`] where the task's options ask for that): should the node die first, the next taker is told
    /// (`Delivery::lost`) and records the loss.
    Begin,
}

/// Why a message is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// It could not be decoded.
    Undecodable,
    /// Nobody here knows its task.
    UnknownTask,
    /// Its arguments do not fit its task's.
    BadArguments,
    /// It was taken too often without an ending, or killed too many executors.
    Crashed,
    /// It failed and has no attempts left (only where the task's options ask for it).
    RetriesExhausted,
    /// The task rejected it.
    Rejected,
}

impl DeadReason {
    /// The name in tables, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnknownTask => "unknown_task",
            Self::BadArguments => "bad_arguments",
            Self::Crashed => "crashed",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Rejected => "rejected",
        }
    }
}

/// Effects that become durable together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// What must still hold for them to.
    pub fence: Fence,
    /// The effects, in order.
    pub effects: Vec<Effect>,
}

/// The condition of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// None.
    Open,
    /// No commit with this token has been carried out: a submission, which its sender repeats when the answer is lost. A
    /// repetition is answered as done and does nothing, as long as the ledger remembers the token; one that cannot remember
    /// takes it for [`Fence::Open`].
    Once {
        /// What all repetitions have in common and no other commit has.
        token: String,
        /// For how long it may be repeated.
        keep: Duration,
    },
    /// This node still holds this delivery, at this attempt: the ending of a task. Without a [`Release`] among the effects
    /// the delivery stays held.
    Delivery {
        /// The delivery.
        tag: DeliveryTag,
        /// The taking of it.
        attempt: u32,
        /// What it asks for, for ledgers that have to recognise it; `None` where the message cannot be read.
        run: Option<RunId>,
    },
    /// This chord is complete and has not been concluded: its body or errbacks, once.
    Chord {
        /// The chord.
        group: GroupId,
        /// Whether a member failed. What the members came to then stays where people look for it, until it expires, as Celery
        /// leaves it (`celery/backends/redis.py::on_chord_part_return`).
        failed: bool,
    },
}

/// What a message asks for: a task, the how manyeth retry of it, and the how manyeth replacement. Whatever else may be the same,
/// messages that differ in one of these ask for different things; messages that do not are one and the same, or copies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Arc<str>);

impl RunId {
    /// What this message asks for.
    pub fn of(invocation: &Invocation) -> Self {
        let headers = &invocation.headers;
        Self(format!("{}:{}:{}", headers.id, headers.retries, headers.replaced_task_nesting).into())
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        let mut parts = self.0.rsplitn(3, ':');
        TaskId::from(parts.nth(2).unwrap_or(&self.0))
    }

    /// As it is written in keys: the task's id, retries and replacements, with colons between them.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is durable.
    Done {
        /// The chords whose last part was among its effects. The one who is told concludes them.
        ready: Vec<ReadyChord>,
    },
    /// Its fence did not hold; nothing of it happened.
    Refused,
}

/// A chord whose parts are all there.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyChord {
    /// The chord.
    pub group: GroupId,
    /// What to send.
    pub body: Signature,
    /// The parts by index, then task id.
    pub parts: Vec<ReadyPart>,
    /// The part that completed it.
    pub last: Option<TaskId>,
}

/// A part of a chord whose parts are all there.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyPart {
    /// The member's position; `None` sorts last.
    pub index: Option<i64>,
    /// The member.
    pub task_id: TaskId,
    /// The root that a body started by this part gets, where it is known.
    pub root_id: Option<TaskId>,
    /// How it ended.
    pub result: PartResult,
}

impl From<ChordPart> for ReadyPart {
    fn from(part: ChordPart) -> Self {
        let ChordPart { index, task_id, root_id, result, .. } = part;
        Self { index, task_id, root_id, result }
    }
}
