//! From signatures to effects: what to send for a task, chain, group, chord, map, starmap or chunks, at any nesting.
//!
//! The rules and their numbers are those of the canvas rules that the tests of this module are named after.

use thiserror::Error;
use umbel_proto::{DecodeError, EncodeError, Map, Millis, ResultTuple, Signature, TaskId, TaskName, Value};

use crate::{Effect, Settings, TaskSpec};

/// Everything a launch depends on.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// Finds what is known of a task; only for its queue.
    pub specs: &'a dyn Specs,
    /// Positional arguments put before the signature's own (the result of the step before).
    pub args: &'a [Value],
    /// Keyword arguments that override the signature's own.
    pub kwargs: &'a Map,
    /// Who sends it.
    pub sender: Option<Sender<'a>>,
    /// What ids that are not given are derived from: an id of the sender's, or a fresh one. Equal seeds give equal ids.
    pub seed: &'a str,
    /// The time.
    pub now: Millis,
}

/// The task that sends another.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// Its id.
    pub id: &'a TaskId,
    /// The root of its workflow.
    pub root: &'a TaskId,
    /// Its priority, for `task_inherit_parent_priority`.
    pub priority: Option<u8>,
}

/// Looks up what is known of tasks.
pub trait Specs: std::fmt::Debug {
    /// The options of `task`, if it is known here.
    fn spec(&self, task: &TaskName) -> Option<&TaskSpec>;
}

/// What a launch comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Launched {
    /// What to commit.
    pub effects: Vec<Effect>,
    /// The result to wait for: of a chain its last step, of a chord its body, of a group the group. `parent` walks back.
    pub result: ResultTuple,
}

/// Why a signature cannot be launched.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CanvasError {
    /// It, or a part of it, is not a signature.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A value in it has no form on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It holds more tasks than [`MAX_TASKS`].
    #[error("the workflow has more than {MAX_TASKS} tasks; split it into several, or use chunks")]
    TooLarge,
}

/// The most tasks one launch sends.
pub const MAX_TASKS: usize = 1_000_000;

/// Launches `signature`.
///
/// # Errors
/// See [`CanvasError`]. Nothing has been sent then.
pub fn launch(_signature: &Signature, _launch: Launch<'_>) -> Result<Launched, CanvasError> {
    todo!()
}
