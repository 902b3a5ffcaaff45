//! A job as the frame that starts it, or that tells of its loss or its end. Arguments go as the bytes they came in.

use bytes::BytesMut;
use umbel_proto::{EncodeError, Invocation, Outcome, Value, codec::json};

use super::frame::{self, Kind};
use crate::executors::{Decided, Job, Verdict};

/// Writes the frame that has a process run `job` as number `run`.
///
/// # Errors
/// When what follows the task cannot be written in its message's serializer.
pub(super) fn write(run: u64, job: &Job, out: &mut BytesMut) -> Result<(), EncodeError> {
    pack(Kind::Run, (run, job.attempt), &job.invocation, None, out)
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
    pack(Kind::Lost, (run, job.attempt), &job.invocation, Some(("lost", lost.to_value())), out)
}

/// Writes the frame that has a process store, as number `run`, how a task has ended, or tell those who listen.
///
/// # Errors
/// As of [`write`].
pub(super) fn write_decided(run: u64, decided: &Decided, out: &mut BytesMut) -> Result<(), EncodeError> {
    let verdict = match &decided.verdict {
        Verdict::Failed(error) => vec![("error", error.to_value())],
        Verdict::Revoked { reason, expired, terminated, signal } => vec![
            ("reason", reason.as_str().into()),
            ("expired", (*expired).into()),
            ("terminated", (*terminated).into()),
            ("signal", signal.map_or(Value::Null, Value::from)),
        ],
    };
    let verdict = Value::Map(verdict.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    pack(Kind::Decided, (run, 1), &decided.invocation, Some(("decided", verdict)), out)
}

fn pack(
    kind: Kind,
    (run, attempt): (u64, u32),
    invocation: &Invocation,
    more: Option<(&str, Value)>,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let envelope = invocation.encode("", None)?;
    let mut properties = envelope.properties;
    properties.shift_remove("delivery_tag");
    let mut head = Vec::with_capacity(1024);
    head.extend_from_slice(format!("{{\"run\":{run},\"attempt\":{attempt},\"headers\":").as_bytes());
    head.extend_from_slice(&json::write(&Value::Map(envelope.headers)));
    head.extend_from_slice(b",\"properties\":");
    head.extend_from_slice(&json::write(&Value::Map(properties)));
    for (name, text) in [("content_type", envelope.content_type), ("content_encoding", envelope.content_encoding)] {
        head.extend_from_slice(format!(",\"{name}\":").as_bytes());
        head.extend_from_slice(&json::write(&Value::Str(text)));
    }
    if let Some((name, value)) = more {
        head.extend_from_slice(format!(",\"{name}\":").as_bytes());
        head.extend_from_slice(&json::write(&value));
    }
    head.push(b'}');
    frame::pack(kind, &head, &envelope.body, out);
    Ok(())
}
