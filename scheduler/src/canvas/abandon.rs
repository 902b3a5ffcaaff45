//! What will never run because of something before it: its ids end too, and the chords it is a part of are told.
//!
//! Celery fails the later plain steps of a chain and forgets everything that is a group or a chord (W1–W4, W6). Here every id
//! that a client can hold ends: of a group its members and the group's own id, of a chord its body and its header.

use umbel_proto::{Millis, ResultRecord, Signature, State, TaskError, TaskId, Timestamp};

use super::{
    CanvasError, Specs,
    build::{Builder, Id},
    node::Node,
};
use crate::{ChordPart, Effect, PartResult};

/// Ends what never runs.
#[derive(Debug)]
pub(crate) struct Abandon<'a> {
    /// What is known of tasks: whose results are ignored.
    pub(crate) specs: &'a dyn Specs,
    /// FAILURE, or REVOKED after an expired or revoked step.
    pub(crate) state: &'a State,
    /// The exception, the same for all.
    pub(crate) error: &'a TaskError,
    /// The root of the workflow.
    pub(crate) root: Option<&'a TaskId>,
    /// What ids are derived from that nobody has given.
    pub(crate) seed: &'a str,
    /// The time.
    pub(crate) now: Millis,
    /// Where to put what follows.
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Abandon<'_> {
    /// Ends the rest of a chain, which is written next one last. A step that cannot be read ends nothing but itself.
    pub(crate) fn rest<'s>(&mut self, chain: impl DoubleEndedIterator<Item = &'s Signature>) {
        for (index, step) in chain.rev().enumerate() {
            if let Ok(Some(node)) = Builder::new(self.seed).build(step, &Id::Own, &format!("never.{index}")) {
                // Nothing can be done about a membership that cannot be read.
                let _ = self.node(&node, true);
            }
        }
    }

    /// Ends a node. `parts` is whether the chord that its last value belongs to has been opened.
    pub(crate) fn node(&mut self, node: &Node, parts: bool) -> Result<(), CanvasError> {
        match node {
            Node::Task(task) => self.task(task, parts),
            Node::Chain(nodes) => nodes.iter().try_for_each(|node| self.node(node, parts)),
            Node::Group(cluster) => {
                cluster.members.iter().try_for_each(|member| self.node(member, parts))?;
                self.rest(cluster.each.iter());
                self.store(TaskId::from(cluster.id.as_str()));
                Ok(())
            }
            Node::Chord(cluster, body) => {
                cluster.members.iter().try_for_each(|member| self.node(member, false))?;
                self.store(TaskId::from(cluster.id.as_str()));
                self.node(body, parts)
            }
        }
    }

    fn task(&mut self, task: &Signature, parts: bool) -> Result<(), CanvasError> {
        let options = &task.options;
        let Some(id) = options.task_id() else { return Ok(()) };
        if !self.is_ignored(task) {
            self.store(id.clone());
        }
        if parts && let (Some(body), Some(group)) = (options.chord()?, options.group_id()) {
            let result = PartResult::Error(self.error.clone());
            let part = ChordPart { group, index: options.group_index(), task_id: id, root_id: self.root.cloned(), body, result };
            self.effects.push(Effect::Part(Box::new(part)));
        }
        for (index, step) in options.chain()?.iter().rev().enumerate() {
            if let Some(node) = Builder::new(self.seed).build(step, &Id::Own, &format!("never.after.{index}"))? {
                self.node(&node, parts)?;
            }
        }
        Ok(())
    }

    /// Rule 12: the id of a task whose result is ignored stays PENDING, on failure too.
    fn is_ignored(&self, task: &Signature) -> bool {
        let spec = self.specs.spec(&task.task);
        let kept = spec.is_some_and(|spec| spec.store_errors_even_if_ignored);
        let asked = task.options.get("ignore_result").and_then(umbel_proto::Value::as_bool);
        !kept && asked.unwrap_or_else(|| spec.is_some_and(|spec| spec.ignore_result))
    }

    fn store(&mut self, task_id: TaskId) {
        self.effects.push(Effect::Store(Box::new(ResultRecord {
            task_id,
            status: self.state.clone(),
            result: self.error.to_value(),
            traceback: self.error.traceback.clone(),
            children: None,
            date_done: Some(Timestamp::from_millis(self.now).as_str().to_owned()),
            group_id: None,
            parent_id: None,
            extra: umbel_proto::Map::new(),
        })));
    }
}
