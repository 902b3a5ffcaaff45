//! A task that has failed, while its process calls errbacks.
//!
//! Errbacks of the new style are called in the process of the failed task (`celery/backends/base.py::_call_task_errbacks`), and may look
//! at what is stored of it. So the process tells of the failure first (`Failing`), is answered when that is stored under the fence of the
//! run (`Stored`), tells of each errback that it has called (`Called`), and ends the run as ever (`Done`). Should it die or be killed on
//! the way, the task has failed all the same, with what it had told, and the errbacks that were not called are sent as tasks.

use std::collections::BTreeSet;

use bytes::BytesMut;
use serde::Deserialize;
use tokio::sync::oneshot;
use umbel_proto::{ErrbackLeft, Limits, Outcome, TaskError, codec::Serializer};

use super::frame::{self, Frame, Kind};
use crate::executors::{self, Job};

/// The head of a frame that tells of a failure.
#[derive(Deserialize)]
struct Head {
    /// The errbacks that are of the new style, by their places among all.
    new: BTreeSet<usize>,
    traceback: Option<String>,
}

/// The head of a frame that tells that an errback has been called.
#[derive(Deserialize)]
struct Called {
    errback: usize,
}

/// A failure that was told of.
#[derive(Debug)]
pub(super) struct Told {
    error: TaskError,
    new: BTreeSet<usize>,
    called: BTreeSet<usize>,
    /// Until it is answered.
    answer: Option<oneshot::Receiver<bool>>,
    stored: bool,
}

impl Told {
    /// Reads the frame that tells of the failure of `job`, and asks for it to be stored.
    ///
    /// # Errors
    /// When the process does not speak the protocol.
    pub(super) async fn read(frame: &Frame, job: &Job) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("it told of a failure as no one can: {error}");
        let Head { new, traceback } = serde_json::from_slice(&frame.head).map_err(|error| wrong(&error))?;
        let value = Serializer::Json.decode(&frame.payload, Limits::default()).map_err(|error| wrong(&error))?;
        let mut error = TaskError::from_value(&value).map_err(|error| wrong(&error))?;
        error.traceback = traceback;
        let (stored, answer) = oneshot::channel();
        // Where nobody takes it, it is answered by being dropped.
        let _ = job.failing.send(executors::Failing { error: error.clone(), stored }).await;
        Ok(Self { error, new, called: BTreeSet::new(), answer: Some(answer), stored: false })
    }

    /// An errback has been called. One of which that is not heard is called again if the process dies.
    pub(super) fn called(&mut self, frame: &Frame) {
        if let Ok(Called { errback }) = serde_json::from_slice(&frame.head) {
            self.called.insert(errback);
        }
    }

    /// Whether the process may call errbacks.
    pub(super) fn is_stored(&self) -> bool {
        self.stored
    }

    /// How a run ends that has told of its failure, whatever becomes of its process.
    pub(super) fn outcome(self, job: &Job) -> Outcome {
        let errbacks = job.invocation.embed().errbacks.iter().enumerate().filter(|(at, _)| !self.called.contains(at));
        let left = errbacks.map(|(at, errback)| ErrbackLeft { signature: errback.clone(), new_style: self.new.contains(&at) });
        Outcome::FailureTold { errbacks: left.collect(), error: self.error, stored: self.stored }
    }
}

/// Waits for the answer that a process waits for, if one does, and remembers it. One that is not to call errbacks has told nothing.
pub(super) async fn answered(told: &mut Option<Told>) -> bool {
    let Some(Told { answer: Some(answer), .. }) = told else { return std::future::pending().await };
    let stored = answer.await.unwrap_or(false);
    match told {
        Some(told) if stored => (told.answer, told.stored) = (None, true),
        _ => *told = None,
    }
    stored
}

/// Writes the frame that answers the process.
pub(super) fn answer(run: u64, stored: bool, out: &mut BytesMut) {
    frame::pack(Kind::Stored, format!("{{\"run\":{run},\"stored\":{stored}}}").as_bytes(), b"", out);
}
