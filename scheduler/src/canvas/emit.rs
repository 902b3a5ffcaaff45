//! Nodes into effects: messages, and the chords they are counted by.

use umbel_proto::{Chain, Map, Millis, Signature, TaskId, Value};

use super::{
    CanvasError, MAX_TASKS, Sender, Specs, message,
    node::{Cluster, Node, Place, collector_id, signature, unroll},
};
use crate::{ChordPart, Effect, OpenChord, PartResult, Settings};

/// Collects the effects of sending nodes.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    pub(super) settings: &'a Settings,
    pub(super) specs: &'a dyn Specs,
    pub(super) now: Millis,
    pub(super) parent: Option<TaskId>,
    pub(super) root: Option<TaskId>,
    pub(super) priority: Option<u8>,
    /// Headers that a trace goes on by.
    pub(super) trace: Map,
    /// What has been planned so far, in the order it has to happen.
    pub(crate) effects: Vec<Effect>,
    tasks: usize,
}

impl<'a> Planner<'a> {
    /// Sends for nobody yet.
    pub(crate) fn new(settings: &'a Settings, specs: &'a dyn Specs, now: Millis) -> Self {
        Self { settings, specs, now, parent: None, root: None, priority: None, trace: Map::new(), effects: Vec::new(), tasks: 0 }
    }

    /// What is sent follows from this task.
    pub(crate) fn sent_by(&mut self, sender: &Sender<'_>) {
        self.parent = Some(sender.id.clone());
        self.root = Some(sender.root.clone());
        self.priority = sender.priority;
        self.trace = message::trace(sender.headers);
    }

    /// What is sent has this root.
    pub(crate) fn rooted(&mut self, root: TaskId) {
        self.root = Some(root);
    }

    /// What is sent follows from this task, if from any, without inheriting from it.
    pub(crate) fn after(&mut self, parent: Option<TaskId>) {
        self.parent = parent;
    }

    /// Whether an errback is one of the new style: it takes more than one argument besides those that are stored in it.
    pub(crate) fn calls_inline(&self, errback: &Signature) -> bool {
        let stored = if errback.immutable { 0 } else { errback.args.len() + errback.kwargs.len() };
        let takes = self.specs.spec(&errback.task).and_then(|spec| spec.errback_arguments);
        takes.is_some_and(|takes| takes.saturating_sub(stored) > 1)
    }

    /// Sends a node.
    ///
    /// # Errors
    /// When something in it has no form on the wire, or it is too large. What was planned before it is then incomplete.
    pub(crate) fn emit(&mut self, node: Node) -> Result<(), CanvasError> {
        match node {
            Node::Task(task) => self.publish(task, Chain::default()),
            Node::Chain(nodes) => self.emit(unroll(nodes)),
            Node::Group(cluster) => self.group(cluster),
            Node::Chord(cluster, body) => self.chord(cluster, *body),
        }
    }

    /// Sends a node that `rest` follows.
    ///
    /// # Errors
    /// As [`Planner::emit`].
    pub(crate) fn emit_before(&mut self, mut node: Node, rest: Chain) -> Result<(), CanvasError> {
        match node {
            // The common case: the rest is handed on as it is.
            Node::Task(task) if task.options.get("chain").is_none() => self.publish(task, rest),
            _ => {
                node.follow(&rest.iter().cloned().collect::<Vec<_>>());
                self.emit(node)
            }
        }
    }

    fn publish(&mut self, task: Signature, rest: Chain) -> Result<(), CanvasError> {
        self.tasks += 1;
        if self.tasks > MAX_TASKS {
            return Err(CanvasError::TooLarge);
        }
        let publish = message::publish(task, rest, self)?;
        self.effects.push(Effect::Publish(Box::new(publish)));
        Ok(())
    }

    fn group(&mut self, cluster: Cluster) -> Result<(), CanvasError> {
        for (index, mut member) in cluster.members.into_iter().enumerate() {
            member.follow(&cluster.each);
            member.mark(&cluster.id, index as i64);
            self.emit(member)?;
        }
        Ok(())
    }

    /// The chord is opened before its header is sent, in the same commit, so that no part can come too early. Without a
    /// header the body is sent at once, with the empty list of results.
    fn chord(&mut self, cluster: Cluster, body: Node) -> Result<(), CanvasError> {
        let mut body = match body {
            Node::Chain(nodes) => unroll(nodes),
            body => body,
        };
        if cluster.members.is_empty() {
            if let Node::Task(task) = &body
                && let Some(part) = collected(task, Vec::new(), self.root.clone())?
            {
                self.effects.push(Effect::Part(Box::new(part)));
                return Ok(());
            }
            body.prepend(&[Value::List(Vec::new())], &Map::new());
            return self.emit(body);
        }
        let mut body = signature(body);
        if body.options.group_id().is_none() {
            body.options.0.insert("group_id".to_owned(), cluster.id.as_str().into());
        }
        let size = u32::try_from(cluster.members.len()).map_err(|_| CanvasError::TooLarge)?;
        self.effects.push(Effect::OpenChord(Box::new(OpenChord { group: cluster.id.clone(), size, body: body.clone() })));
        for (index, mut member) in cluster.members.into_iter().enumerate() {
            member.join(&Place { group: &cluster.id, index: index as i64, chord: &body });
            self.emit(member)?;
        }
        Ok(())
    }
}

/// The part that `body` would become once run, if it is a collector of this node's making: it only hands a list on, so it
/// need not be run (a Celery worker that is told the chord is ready runs it, and comes to the same).
pub(crate) fn collected(body: &Signature, values: Vec<Value>, root: Option<TaskId>) -> Result<Option<ChordPart>, CanvasError> {
    collector_part(body, PartResult::Value(Value::List(values)), root)
}

/// Whether `body` is such a collector: its id says so.
pub(crate) fn is_collector(body: &Signature) -> bool {
    let options = &body.options;
    match (options.task_id(), options.group_id(), options.group_index()) {
        (Some(id), Some(group), Some(index)) => id == collector_id(&group, index),
        _ => false,
    }
}

/// The part of the outer chord that `body` stands for, if it is such a collector.
pub(crate) fn collector_part(body: &Signature, result: PartResult, root: Option<TaskId>) -> Result<Option<ChordPart>, CanvasError> {
    let options = &body.options;
    let (Some(id), Some(group), Some(outer), true) = (options.task_id(), options.group_id(), options.chord()?, is_collector(body)) else {
        return Ok(None);
    };
    Ok(Some(ChordPart { group, index: options.group_index(), task_id: id, root_id: root, body: outer, result }))
}
