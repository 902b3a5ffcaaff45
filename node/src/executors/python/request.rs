//! A job as the frame that starts it, or that tells of its loss. Arguments go as the bytes they came in.

use bytes::BytesMut;
use umbel_proto::{EncodeError, Outcome, Value, codec::json};

use super::frame::{self, Kind};
use crate::executors::Job;

/// Writes the frame that has a process run `job` as number `run`.
///
/// # Errors
/// When what follows the task cannot be written in its message's serializer.
pub(super) fn write(run: u64, job: &Job, out: &mut BytesMut) -> Result<(), EncodeError> {
    pack(Kind::Run, run, job, None, out)
}

/// How a run was lost with its process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lost {
    /// The hard limit that it was killed for, in seconds.
    pub(super) limit: Option<f64>,
    /// Else how its process died, for a person.
    pub(super) detail: String,
}

impl Lost {
    /// What that is for a run that has not told of a failure.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome::WorkerLost { detail: self.detail.clone() }
    }

    fn to_value(&self) -> Value {
        let entries = [("limit", self.limit.map_or(Value::Null, Value::Float)), ("detail", Value::from(self.detail.as_str()))];
        Value::Map(entries.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
    }
}

/// Writes the frame that has a process tell, as number `run`, those who listen there that `job` is lost.
///
/// # Errors
/// As of [`write`].
pub(super) fn write_lost(run: u64, job: &Job, lost: &Lost, out: &mut BytesMut) -> Result<(), EncodeError> {
    pack(Kind::Lost, run, job, Some(lost), out)
}

fn pack(kind: Kind, run: u64, job: &Job, lost: Option<&Lost>, out: &mut BytesMut) -> Result<(), EncodeError> {
    let envelope = job.invocation.encode("", None)?;
    let mut properties = envelope.properties;
    properties.shift_remove("delivery_tag");
    let mut head = Vec::with_capacity(1024);
    head.extend_from_slice(format!("{{\"run\":{run},\"attempt\":{},\"headers\":", job.attempt).as_bytes());
    head.extend_from_slice(&json::write(&Value::Map(envelope.headers)));
    head.extend_from_slice(b",\"properties\":");
    head.extend_from_slice(&json::write(&Value::Map(properties)));
    for (name, text) in [("content_type", envelope.content_type), ("content_encoding", envelope.content_encoding)] {
        head.extend_from_slice(format!(",\"{name}\":").as_bytes());
        head.extend_from_slice(&json::write(&Value::Str(text)));
    }
    if let Some(lost) = lost {
        head.extend_from_slice(b",\"lost\":");
        head.extend_from_slice(&json::write(&lost.to_value()));
    }
    head.push(b'}');
    frame::pack(kind, &head, &envelope.body, out);
    Ok(())
}
