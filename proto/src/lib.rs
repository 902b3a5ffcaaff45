//! What the wire says.
//!
//! Types, encoders and decoders of Celery's messages, results, signatures and events, and of the few records that only
//! Umbel reads. No policy (what to do with a task is decided in `umbel-scheduler`) and no I/O (that is the `umbel` crate).
//!
//! Invariants:
//! * Decoding hostile bytes returns a [`DecodeError`] that names the field; it never panics, and size and depth are capped
//!   by [`Limits`] before anything is allocated for them.
//! * A task's `args` and `kwargs` stay bytes ([`Raw`]) until somebody who needs the values asks for them.
//! * What is decoded encodes again to an equal value, unknown fields included.

mod card;
pub mod codec;
pub mod control;
mod error;
pub mod event;
mod float;
mod ids;
pub mod keyspace;
pub mod message;
mod outcome;
pub mod repr;
mod result;
mod signature;
mod time;
mod value;

pub use card::{NodeCard, NodeLoad};
pub use error::{DecodeError, EncodeError, Limits};
pub use event::Event;
pub use ids::{DeliveryTag, GroupId, NodeId, QueueName, TaskId, TaskName};
pub use message::{Body, Chain, Embed, Envelope, Headers, Invocation, Properties, Raw, TimeLimit};
pub use outcome::{ErrbackLeft, Outcome, Retry, TaskError};
pub use result::{ResultRecord, ResultTuple, State, inflate};
pub use signature::{Options, Signature, SubtaskType};
pub use time::{Millis, Timestamp};
pub use value::{Map, Value};
