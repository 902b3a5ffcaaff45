//! Task messages: the transport's [`Envelope`], and the [`Invocation`] it holds.

mod chain;
mod decode;
mod embed;
mod encode;
mod headers;
mod kombu;
mod properties;
mod split;
mod v1;

pub use chain::Chain;
pub use kombu::Unacked;

use bytes::Bytes;

use crate::{DecodeError, GroupId, Limits, Map, Signature, TaskId, TaskName, Timestamp, Value, codec::Serializer};

/// A message as a transport carries it: nothing in it has been looked at yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The body, compressed and serialized as the headers and content type say; not base64.
    pub body: Bytes,
    /// The serializer.
    pub content_type: String,
    /// `utf-8` or `binary`.
    pub content_encoding: String,
    /// AMQP's application headers.
    pub headers: Map,
    /// Everything else: `correlation_id`, `reply_to`, `priority`, `delivery_info`, `delivery_tag`, …
    pub properties: Map,
}

/// A task message that has been understood: what to run, and what follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The header table.
    pub headers: Headers,
    /// The message properties.
    pub properties: Properties,
    /// Arguments and what follows.
    pub body: Body,
}

/// Wire contract §1.1.
#[derive(Debug, Clone, PartialEq)]
pub struct Headers {
    /// The language of the sender.
    pub lang: String,
    /// The task to run.
    pub task: TaskName,
    /// Its id.
    pub id: TaskId,
    /// Another name for logs and events.
    pub shadow: Option<String>,
    /// Not before.
    pub eta: Option<Timestamp>,
    /// Not after.
    pub expires: Option<Timestamp>,
    /// The group it is sent with (also on chord bodies and errbacks, which are no members: look at [`Embed::chord`]).
    pub group: Option<GroupId>,
    /// The position in it.
    pub group_index: Option<i64>,
    /// Attempts already made.
    pub retries: u32,
    /// Limits given by the caller.
    pub timelimit: TimeLimit,
    /// The first task of the workflow.
    pub root_id: Option<TaskId>,
    /// Who sent it.
    pub parent_id: Option<TaskId>,
    /// `repr` of the arguments, for people.
    pub argsrepr: Option<String>,
    /// `repr` of the keyword arguments, for people.
    pub kwargsrepr: Option<String>,
    /// The name of the sending process.
    pub origin: Option<String>,
    /// Whether the result is not wanted; `None` leaves it to the task.
    pub ignore_result: Option<bool>,
    /// How many times this id was replaced.
    pub replaced_task_nesting: u32,
    /// Names of stamps.
    pub stamped_headers: Option<Vec<String>>,
    /// Stamps.
    pub stamps: Map,
    /// Headers of the user's own, kept through retries.
    pub other: Map,
}

/// Limits of a call in seconds, hard first, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TimeLimit {
    /// The run is ended by force.
    pub hard_secs: Option<f64>,
    /// The task is told.
    pub soft_secs: Option<f64>,
}

/// Wire contract §1.2.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    /// The task id, unless the sender says otherwise.
    pub correlation_id: Option<String>,
    /// Where `rpc://` results go.
    pub reply_to: Option<String>,
    /// 0–9; the higher the sooner, except on Redis.
    pub priority: Option<u8>,
    /// The exchange it was sent to; empty for straight to a queue.
    pub exchange: String,
    /// The routing key it was sent with.
    pub routing_key: String,
    /// Whether the broker has delivered it before.
    pub redelivered: bool,
    /// Properties not named above.
    pub other: Map,
}

/// The body: three parts, the first two of which stay bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Protocol 2 in a serializer that can be looked into.
    Parts {
        /// The positional arguments: a list.
        args: Raw,
        /// The keyword arguments: a map.
        kwargs: Raw,
        /// What follows.
        embed: Embed,
    },
    /// A body that only the task's own process can read: pickle, yaml, and serializers that an application has registered with kombu.
    Opaque {
        /// The content type.
        content_type: String,
        /// The content encoding.
        content_encoding: String,
        /// The bytes, decompressed.
        bytes: Bytes,
    },
}

/// A serialized value that nobody has needed to read yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// How it is serialized.
    pub serializer: Serializer,
    /// The bytes.
    pub bytes: Bytes,
}

impl Raw {
    /// The value.
    ///
    /// # Errors
    /// When the bytes are not what the serializer writes.
    pub fn decode(&self) -> Result<Value, DecodeError> {
        self.serializer.decode(&self.bytes, Limits::default())
    }
}

/// What follows a task: the third part of its body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embed {
    /// Sent after success.
    pub callbacks: Vec<Signature>,
    /// Sent after failure.
    pub errbacks: Vec<Signature>,
    /// The rest of the chain, next one last (as on the wire).
    pub chain: Chain,
    /// The body of the chord this task is a header member of.
    pub chord: Option<Box<Signature>>,
    /// Keys that this version does not know, kept as they came.
    pub other: Map,
}

#[cfg(test)]
mod tests;
