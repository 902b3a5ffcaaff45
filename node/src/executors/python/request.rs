//! A job as the frame that starts it. Arguments go as the bytes they came in.

use bytes::BytesMut;
use umbel_proto::{EncodeError, Value, codec::json};

use super::frame::{self, Kind};
use crate::executors::Job;

/// Writes the frame that has a process run `job` as number `run`.
///
/// # Errors
/// When what follows the task cannot be written in its message's serializer.
pub(super) fn write(run: u64, job: &Job, out: &mut BytesMut) -> Result<(), EncodeError> {
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
    head.push(b'}');
    frame::pack(Kind::Run, &head, &envelope.body, out);
    Ok(())
}
