//! From signatures to effects: what to send for a task, chain, group, chord, map, starmap or chunks, at any nesting.
//!
//! A signature is first brought into normal form (`build` makes a `node`) and then sent (`emit`); what will never be sent
//! because of a failure is failed by `abandon`. Everything that follows a task rides in its own message, so that no executor
//! ever waits for another task, and every header member of a chord that is opened here counts for exactly one part: one that
//! ends in a group becomes a chord of its own, whose body is Celery's `celery.accumulate`.
//!
//! The rules and their numbers are those of the canvas rules that the tests of this module are named after.

pub(crate) mod abandon;
pub(crate) mod build;
pub(crate) mod emit;
pub(crate) mod message;
pub(crate) mod node;

use thiserror::Error;
use umbel_proto::{DecodeError, EncodeError, Map, Millis, ResultTuple, Signature, TaskId, TaskName, Value};

use crate::{Effect, Settings, TaskSpec};
use build::{Builder, Id};
use emit::Planner;
use node::Node;

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
    /// Headers of the user's own, for those that a trace goes on by.
    pub headers: &'a Map,
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

impl Launched {
    /// The root of the workflow: the id its parents lead back to, which every task of it carries as `root_id` (of a launch
    /// without a sender), so that [`crate::revocation::Revocation::Workflow`] reaches them all.
    pub fn root(&self) -> TaskId {
        root(&self.result)
    }
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
/// Without a sender all tasks get one root: the first step of a chain (as Celery's do), or the group where the workflow
/// begins with one (Celery gives each of its members a root of its own, which leaves a workflow without a name).
///
/// # Errors
/// See [`CanvasError`]. Nothing has been sent then.
pub fn launch(signature: &Signature, launch: Launch<'_>) -> Result<Launched, CanvasError> {
    message::check_depth(&signature.kwargs)?;
    message::check_depth(&signature.options.0)?;
    let Some(mut node) = Builder::new(launch.seed).build(signature, &Id::Own, "")? else {
        let id = TaskId::derive(launch.seed, "nothing").to_string();
        return Ok(Launched { effects: Vec::new(), result: ResultTuple { id, parent: None, children: Some(Vec::new()) } });
    };
    node.prepend(launch.args, launch.kwargs);
    let result = outer_result(&node);
    let mut planner = Planner::new(launch.settings, launch.specs, launch.now);
    match &launch.sender {
        Some(sender) => planner.sent_by(sender),
        None => planner.rooted(root(&result)),
    }
    planner.emit(node)?;
    Ok(Launched { effects: planner.effects, result })
}

/// The result of a launch: a group whose only member gives several values is as good as that member (rule 8).
fn outer_result(node: &Node) -> ResultTuple {
    let result = node.result(None);
    match (node, &result.children) {
        (Node::Group(_), Some(members)) if members.len() == 1 && members[0].children.is_some() => members[0].clone(),
        _ => result,
    }
}

fn root(result: &ResultTuple) -> TaskId {
    let mut at = result;
    while let Some(parent) = &at.parent {
        at = parent;
    }
    at.id.as_str().into()
}

#[cfg(test)]
mod tests;
