//! How a run has ended that is not over yet: its process is about to call what may look at the result.
//!
//! Celery stores a result before the handlers of the task class, the signals of its end and errbacks of the new style are called
//! (`celery/app/trace.py::trace_task`, `celery/backends/base.py::_call_task_errbacks`), in the process of the task. So where there are any,
//! the process tells of the ending first (`Early`), is answered when that is stored under the fence of the run, or that it is not
//! (`Stored`), tells of each errback that it has called (`Called`), and ends the run as ever (`Done`). Should it die or be killed on
//! the way, the task has ended all the same, as it had told, and the errbacks that were not called are sent as tasks.

use std::collections::BTreeSet;

use bytes::BytesMut;
use serde::Deserialize;
use tokio::sync::oneshot;
use umbel_proto::{ErrbackLeft, Outcome};

use super::{
    frame::{self, Frame, Kind},
    outcome::Done,
};
use crate::executors::{Early, Job};

/// What the head of a frame says besides how the run has ended.
#[derive(Deserialize)]
struct Head {
    /// The errbacks that are of the new style, by their places among all, where some are about to be called.
    new: Option<BTreeSet<usize>>,
}

/// The head of a frame that tells that an errback has been called.
#[derive(Deserialize)]
struct Called {
    errback: usize,
}

/// An ending that was told of.
#[derive(Debug)]
pub(super) struct Told {
    outcome: Outcome,
    new: Option<BTreeSet<usize>>,
    called: BTreeSet<usize>,
    /// Until it is answered.
    answer: Option<oneshot::Receiver<bool>>,
    stored: bool,
}

impl Told {
    /// Reads the frame that tells how `job` has ended, and asks for that to be stored.
    ///
    /// # Errors
    /// When the process does not speak the protocol.
    pub(super) async fn read(frame: &Frame, job: &Job) -> Result<Self, String> {
        let Head { new } = serde_json::from_slice(&frame.head).map_err(|error| format!("it told of an ending as no one can: {error}"))?;
        let outcome = Done::read(frame)?.outcome(frame);
        let (stored, answer) = oneshot::channel();
        // Where nobody takes it, it is answered by being dropped.
        let _ = job.early.send(Early { outcome: Box::new(outcome.clone()), stored }).await;
        Ok(Self { outcome, new, called: BTreeSet::new(), answer: Some(answer), stored: false })
    }

    /// An errback has been called. One of which that is not heard is called again if the process dies.
    pub(super) fn called(&mut self, frame: &Frame) {
        if let Ok(Called { errback }) = serde_json::from_slice(&frame.head) {
            self.called.insert(errback);
        }
    }

    /// Whether it is known to be stored.
    pub(super) fn is_stored(&self) -> bool {
        self.stored
    }

    /// Whether the process that takes the place of one that dies tells those who listen that the task was lost. Nobody does of one that had
    /// succeeded, or that was about to call the handlers of its failure.
    pub(super) fn may_be_lost(&self) -> bool {
        self.new.is_some()
    }

    /// How a run ends that has told of it, whatever becomes of its process.
    pub(super) fn outcome(self, job: &Job) -> Outcome {
        let Self { outcome, new, called, stored, .. } = self;
        match (outcome, new) {
            (Outcome::Failure(error), Some(new)) => {
                let errbacks = job.invocation.embed().errbacks.iter().enumerate().filter(|(at, _)| !called.contains(at));
                let left = errbacks.map(|(at, errback)| ErrbackLeft { signature: errback.clone(), new_style: new.contains(&at) });
                Outcome::FailureTold { errbacks: left.collect(), error, stored }
            }
            (outcome, _) => Outcome::Told { outcome: Box::new(outcome), stored },
        }
    }
}

/// Waits for the answer that a process waits for, if one does, and remembers it. Where it is not stored
/// and errbacks were to be called, it is told once more when the run is over.
pub(super) async fn answered(told: &mut Option<Told>) -> bool {
    let Some(Told { answer: Some(answer), .. }) = told else { return std::future::pending().await };
    let stored = answer.await.unwrap_or(false);
    match told {
        Some(told) if stored || told.new.is_none() => (told.answer, told.stored) = (None, stored),
        _ => *told = None,
    }
    stored
}

/// Writes the frame that answers the process.
pub(super) fn answer(run: u64, stored: bool, out: &mut BytesMut) {
    frame::pack(Kind::Stored, format!("{{\"run\":{run},\"stored\":{stored}}}").as_bytes(), b"", out);
}
