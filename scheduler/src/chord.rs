//! The end of a chord: body or errbacks, once.

use umbel_proto::{Map, Millis, ResultTuple, Signature, State, TaskError, TaskId, Value, repr};

use crate::{
    Commit, Effect, Fence, PartResult, ReadyChord, ReadyPart, Settings,
    canvas::{
        CanvasError, Specs,
        abandon::Abandon,
        build::{Builder, Id},
        emit::{Planner, collected, collector_part, is_collector},
        node::{Node, collector_id},
    },
    settlement::errbacks,
};

/// What follows from a complete chord: its body with the list of results, or, when a member failed, the failure of the
/// body and of all that was to follow it, its errbacks, and the part of the outer chord it is itself a member of.
///
/// The first failed member in header order gives the exception its text (rule 17): `Dependency <id> raised <repr>`, or
/// `Join error: <repr>` where the member is a nested list. A chord that only collects a nested list hands the original
/// exception on to the chord around it. A body that cannot be sent fails with `Callback error: <repr>`. Errbacks of the body
/// are called with the body's id: those of the chord, of the body, of the first step of a body that is a chain (W12), each one
/// once. A body that is a group fails member by member, each with the original exception and its own errbacks, the chord's among
/// them (`celery/backends/base.py::_handle_group_chord_error` of 5.7).
pub fn conclude(ready: &ReadyChord, settings: &Settings, specs: &dyn Specs, now: Millis) -> Commit {
    let failed = ready.parts.iter().find_map(|part| match &part.result {
        PartResult::Error(error) => Some((part, error)),
        PartResult::Value(_) => None,
    });
    let end = End { ready, settings, specs, now };
    let effects = match failed {
        Some((part, error)) => end.fail(dependency_error(&ready.group, part, error), Some(error)),
        None => end.succeed().unwrap_or_else(|error| end.fail(chord_error(format!("Callback error: {}", canvas_repr(&error))), None)),
    };
    Commit { fence: Fence::Chord { group: ready.group.clone(), failed: failed.is_some() }, effects }
}

struct End<'a> {
    ready: &'a ReadyChord,
    settings: &'a Settings,
    specs: &'a dyn Specs,
    now: Millis,
}

impl End<'_> {
    fn succeed(&self) -> Result<Vec<Effect>, CanvasError> {
        let values = self.ready.parts.iter().filter_map(|part| match &part.result {
            PartResult::Value(value) => Some(value.clone()),
            PartResult::Error(_) => None,
        });
        let values: Vec<Value> = values.collect();
        let body = &self.ready.body;
        if is_collector(body) {
            let part = collected(body, values, self.root())?;
            return Ok(part.into_iter().map(|part| Effect::Part(Box::new(part))).collect());
        }
        let mut planner = Planner::new(self.settings, self.specs, self.now);
        planner.after(self.ready.last.clone());
        if let Some(root) = self.root() {
            planner.rooted(root);
        }
        if let Some(mut node) = self.body()? {
            node.prepend(&[Value::List(values)], &Map::new());
            planner.emit(node)?;
        }
        Ok(planner.effects)
    }

    fn fail(&self, error: TaskError, original: Option<&TaskError>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(original) = original {
            let part = collector_part(&self.ready.body, PartResult::Error(original.clone()), self.root());
            if let Ok(Some(part)) = part {
                effects.push(Effect::Part(Box::new(part)));
                return effects;
            }
        }
        let root = self.root();
        let seed = self.ready.group.as_str();
        if let Ok(Some(node)) = self.body() {
            let error = original.filter(|_| is_group(&node)).cloned().unwrap_or(error);
            let mut abandon = Abandon {
                specs: self.specs,
                state: &State::Failure,
                error: &error,
                root: root.as_ref(),
                seed,
                now: self.now,
                effects: &mut effects,
            };
            // What cannot be read of a membership cannot be told to anybody.
            let _ = abandon.node(&node, true);
            let mut planner = Planner::new(self.settings, self.specs, self.now);
            for (id, signatures) in body_errbacks(&node) {
                planner.rooted(root.clone().unwrap_or_else(|| id.clone()));
                if let Some(called) = errbacks::call(&mut planner, &id, &error, errbacks::Errbacks::All(&signatures)) {
                    adopt(&mut effects, &id, called);
                }
            }
            effects.append(&mut planner.effects);
        }
        effects
    }

    fn body(&self) -> Result<Option<Node>, CanvasError> {
        Builder::new(self.ready.group.as_str()).build(&self.ready.body, &Id::Own, "body")
    }

    /// The root of the member that came last, as for Celery.
    fn root(&self) -> Option<TaskId> {
        let parts = &self.ready.parts;
        let last = parts.iter().find(|part| Some(&part.task_id) == self.ready.last.as_ref());
        last.or_else(|| parts.first()).and_then(|part| part.root_id.clone())
    }
}

/// Lists what a failed task has called among its children, where clients look for it.
fn adopt(effects: &mut [Effect], id: &TaskId, called: ResultTuple) {
    let stored = effects.iter_mut().find_map(|effect| match effect {
        Effect::Store(record) if record.task_id == *id => Some(record),
        _ => None,
    });
    if let Some(record) = stored {
        record.children.get_or_insert_default().push(called);
    }
}

/// Whether a body is a group, that within an outer header included, which is written as a chord that collects it.
fn is_group(body: &Node) -> bool {
    matches!(body, Node::Group(_)) || matches!(body, Node::Chord(_, body) if matches!(&**body, Node::Task(task) if is_collector(task)))
}

/// The errbacks that a failed header calls, with the id each is given; none gets the same one twice. What the chord around this one
/// calls with the very same words is left to that: it fails as well, and a client that links an errback to a chord links it to the
/// chords in its header too (`celery/canvas.py::_chord.link_error`).
fn body_errbacks(body: &Node) -> Vec<(TaskId, Vec<Signature>)> {
    let mut calls = Vec::new();
    collect_errbacks(body, &mut calls);
    for (_, signatures, around) in &mut calls {
        let mut seen: Vec<Signature> = Vec::new();
        signatures.retain(|signature| {
            let called_before = seen.contains(signature);
            seen.push(signature.clone());
            let called_around = signature.immutable && around.contains(signature);
            !called_before && !called_around
        });
    }
    calls.into_iter().filter(|(_, signatures, _)| !signatures.is_empty()).map(|(id, signatures, _)| (id, signatures)).collect()
}

/// An id, its errbacks, and those of the chord that it is a member of.
type Called = (TaskId, Vec<Signature>, Vec<Signature>);

fn collect_errbacks(node: &Node, calls: &mut Vec<Called>) {
    match node {
        Node::Task(task) => {
            if let (Some(id), Ok(errbacks)) = (task.options.task_id(), task.options.link_error()) {
                let around = task.options.chord().ok().flatten().and_then(|body| body.options.link_error().ok());
                calls.push((id, errbacks, around.unwrap_or_default()));
            }
        }
        Node::Chain(nodes) => nodes.iter().take(1).for_each(|first| collect_errbacks(first, calls)),
        Node::Group(cluster) => cluster.members.iter().for_each(|member| collect_errbacks(member, calls)),
        // A group within an outer header is written as a chord that collects it.
        Node::Chord(cluster, body) if matches!(&**body, Node::Task(task) if is_collector(task)) => {
            cluster.members.iter().for_each(|member| collect_errbacks(member, calls));
        }
        Node::Chord(_, body) => collect_errbacks(body, calls),
    }
}

fn dependency_error(group: &umbel_proto::GroupId, part: &ReadyPart, error: &TaskError) -> TaskError {
    let repr = repr::error_repr(error);
    let nested = part.index.is_some_and(|index| part.task_id == collector_id(group, index));
    chord_error(if nested { format!("Join error: {repr}") } else { format!("Dependency {} raised {repr}", part.task_id) })
}

fn chord_error(message: String) -> TaskError {
    TaskError::new("celery.exceptions", "ChordError", message)
}

fn canvas_repr(error: &CanvasError) -> String {
    repr::error_repr(&crate::settlement::canvas_error(error))
}
