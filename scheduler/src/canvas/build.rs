//! Signatures into normal form: ids, splicing, flattening, barriers.
//!
//! The same code reads what this node's own clients launch and what Celery's clients have frozen into messages. Ids and
//! places that are there are kept; what is missing is derived, so that doing it again gives the same. Clients' messages are
//! taken as they are written: the one thing never done to an element of `embed.chain` is to make a barrier of a group that
//! the client left without one (the C cases of the canvas rules).

use std::collections::VecDeque;

use umbel_proto::{DecodeError, GroupId, Map, Options, Signature, SubtaskType, TaskId, Value};

use super::{
    CanvasError, MAX_TASKS,
    node::{Cluster, Node},
};

/// Options that [`Builder`] gives a meaning of its own on composites; all others are handed down.
const STRUCTURAL: [&str; 10] =
    ["task_id", "link", "link_error", "chord", "chain", "group_id", "group_index", "root_id", "parent_id", "add_to_parent"];

/// Where the id of a node's last value comes from.
#[derive(Debug, Clone)]
pub(crate) enum Id {
    /// The signature's own, else a derived one.
    Own,
    /// The signature's own, else this.
    Prefer(TaskId),
    /// This, whatever the signature says: it stands in for another task.
    Force(TaskId),
}

impl Id {
    fn choose(&self, own: Option<TaskId>) -> Option<TaskId> {
        match self {
            Self::Own => own,
            Self::Prefer(id) => own.or_else(|| Some(id.clone())),
            Self::Force(id) => Some(id.clone()),
        }
    }

    /// For the last part of a composite that names `own` as its id.
    fn within(&self, own: Option<TaskId>) -> Self {
        match (self, own) {
            (Self::Force(id), _) => Self::Force(id.clone()),
            (_, Some(own)) => Self::Prefer(own),
            (other, None) => other.clone(),
        }
    }
}

/// Brings signatures into normal form.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    seed: &'a str,
    tasks: usize,
}

impl<'a> Builder<'a> {
    /// Ids that are not given are derived from `seed` and the place in the workflow.
    pub(crate) fn new(seed: &'a str) -> Self {
        Self { seed, tasks: 0 }
    }

    /// `None` for an empty chain, which is nothing at all. `path` tells apart what is built from the same seed.
    pub(crate) fn build(&mut self, signature: &Signature, id: &Id, path: &str) -> Result<Option<Node>, CanvasError> {
        // Known to be too large before any of it is read.
        if ["tasks", "header"].iter().filter_map(|name| signature.kwargs.get(*name)?.as_list()).any(|parts| parts.len() > MAX_TASKS) {
            return Err(CanvasError::TooLarge);
        }
        match signature.subtask_type {
            None => self.task(signature.clone(), id, path).map(Some),
            Some(SubtaskType::Map | SubtaskType::Starmap) => {
                let mut task = signature.clone();
                task.immutable = true;
                self.task(task, id, path).map(Some)
            }
            Some(SubtaskType::Chain) => self.chain(signature, id, path),
            Some(SubtaskType::Group) => self.group(signature, id, path).map(Some),
            Some(SubtaskType::Chunks) => self.group(&chunks(signature)?, id, path).map(Some),
            Some(SubtaskType::Chord) => self.chord(signature, id, path).map(Some),
        }
    }

    fn task(&mut self, mut task: Signature, id: &Id, path: &str) -> Result<Node, CanvasError> {
        self.tasks += 1;
        if self.tasks > MAX_TASKS {
            return Err(CanvasError::TooLarge);
        }
        let id = id.choose(task.options.task_id()).unwrap_or_else(|| TaskId::derive(self.seed, path));
        task.options.0.insert("task_id".to_owned(), id.as_str().into());
        Ok(Node::Task(task))
    }

    fn chain(&mut self, signature: &Signature, id: &Id, path: &str) -> Result<Option<Node>, CanvasError> {
        let steps: Vec<Signature> = signature.tasks()?.into_iter().filter(|step| !is_void(step)).collect();
        let last_id = id.within(signature.options.task_id());
        let mut nodes = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            let id = if index + 1 == steps.len() { &last_id } else { &Id::Own };
            nodes.extend(self.build(step, id, &format!("{path}.{index}"))?);
        }
        let Some(first) = nodes.first_mut() else { return Ok(None) };
        finish_first(first, signature);
        let mut node = in_sequence(nodes);
        finish(&mut node, &signature.options)?;
        Ok(Some(node))
    }

    fn group(&mut self, signature: &Signature, id: &Id, path: &str) -> Result<Node, CanvasError> {
        let own = id.choose(signature.options.task_id());
        let id = own.map_or_else(|| GroupId::derive(self.seed, path), |id| GroupId::from(id.as_str()));
        let members = self.members(&signature.tasks()?, path)?;
        let mut node = Node::Group(Cluster { id, members, each: Vec::new() });
        finish_first(&mut node, signature);
        finish(&mut node, &signature.options)?;
        Ok(node)
    }

    /// Members, those written as groups dissolved into theirs, in order (rule 4; the reversed order of case 18 is the
    /// clients' own and already in what they send).
    fn members(&mut self, tasks: &[Signature], path: &str) -> Result<Vec<Node>, CanvasError> {
        let mut members = Vec::with_capacity(tasks.len());
        for (index, task) in tasks.iter().enumerate() {
            let is_group = task.subtask_type == Some(SubtaskType::Group);
            match self.build(task, &Id::Own, &format!("{path}.{index}"))? {
                Some(Node::Group(Cluster { members: inner, each, .. })) if is_group => {
                    members.extend(inner.into_iter().map(|mut member| {
                        member.follow(&each);
                        member
                    }));
                }
                Some(node) => members.push(node),
                None => {}
            }
        }
        Ok(members)
    }

    fn chord(&mut self, signature: &Signature, id: &Id, path: &str) -> Result<Node, CanvasError> {
        let (tasks, header) = header(signature)?;
        let own = signature.options.task_id();
        let header_id = header.as_ref().and_then(|header| header.options.task_id());
        // A frozen chord is written with its header's id; any other id on it is meant for the body.
        let body_id = own.clone().filter(|own| header_id.as_ref() != Some(own));
        let group = header_id.map_or_else(|| GroupId::derive(self.seed, &format!("{path}.header")), |id| GroupId::from(id.as_str()));
        let mut cluster = Node::Group(Cluster { id: group, members: self.members(&tasks, &format!("{path}.header"))?, each: Vec::new() });
        if let Some(header) = &header {
            finish_first(&mut cluster, header);
            cluster.link(&list(&header.options, "link"));
            cluster.link_error(&list(&header.options, "link_error"));
        }
        let given = signature.kwargs.get("kwargs").and_then(Value::as_map).cloned().unwrap_or_default();
        cluster.prepend(&signature.args, &given);
        if signature.immutable {
            cluster.fix();
        }
        let body = match signature.body()? {
            Some(body) => self.build(&body, &id.within(body_id), &format!("{path}.body"))?,
            None => None,
        };
        let Node::Group(cluster) = cluster else { unreachable!("built above") };
        let mut node = match body {
            Some(body) => Node::Chord(cluster, Box::new(body)),
            None => Node::Group(cluster),
        };
        node.set(&handed_down(&signature.options));
        finish(&mut node, &signature.options)?;
        Ok(node)
    }
}

/// Nodes one after the other: chains among them spliced, and a barrier wherever something follows a group (rules 3, 5, 6).
pub(crate) fn in_sequence(nodes: Vec<Node>) -> Node {
    let spliced: Vec<Node> = nodes.into_iter().flat_map(Node::into_steps).collect();
    let mut done: VecDeque<Node> = VecDeque::with_capacity(spliced.len());
    for node in spliced.into_iter().rev() {
        let node = match (node, done.front()) {
            (Node::Group(cluster), Some(_)) => {
                let body = done.pop_front().expect("looked at above");
                Node::Chord(cluster, Box::new(body))
            }
            (Node::Chord(cluster, body), Some(_)) if body.ends_in_group() => {
                let next = done.pop_front().expect("looked at above");
                Node::Chord(cluster, Box::new(in_sequence(vec![*body, next])))
            }
            (node, _) => node,
        };
        done.push_front(node);
    }
    match done.len() {
        1 => done.pop_front().expect("one"),
        _ => Node::Chain(done.into()),
    }
}

/// What a composite says about its beginning: arguments, immutability, how to send.
fn finish_first(node: &mut Node, signature: &Signature) {
    node.prepend(&signature.args, &Map::new());
    if signature.immutable {
        node.fix();
    }
    node.set(&handed_down(&signature.options));
}

/// What a composite says about its end: callbacks, errbacks, what follows, and the chord it is a part of.
fn finish(node: &mut Node, options: &Options) -> Result<(), DecodeError> {
    node.link(&list(options, "link"));
    node.link_error(&list(options, "link_error"));
    node.follow(&options.chain()?);
    // Members that a client has placed in a chord speak for themselves; the group's own mark is only a copy.
    if let (Some(chord), Some(group), false) = (options.chord()?, options.group_id(), node.is_part()) {
        node.join(&super::node::Place { group: &group, index: options.group_index().unwrap_or(0), chord: &chord });
    }
    Ok(())
}

/// The header of a chord: its members, and the group they are written in, if they are.
fn header(chord: &Signature) -> Result<(Vec<Signature>, Option<Signature>), DecodeError> {
    match chord.kwargs.get("header") {
        Some(value @ Value::Map(_)) => {
            let group = Signature::from_value(value).map_err(|error| error.within("kwargs.header"))?;
            if group.subtask_type == Some(SubtaskType::Group) {
                return Ok((group.tasks()?, Some(group)));
            }
            Ok((vec![group], None))
        }
        _ => Ok((chord.tasks()?, None)),
    }
}

/// Options for every message of a composite.
fn handed_down(options: &Options) -> Map {
    let kept = options.0.iter().filter(|(name, value)| !STRUCTURAL.contains(&name.as_str()) && !value.is_null());
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn list(options: &Options, name: &str) -> Vec<Value> {
    match options.get(name) {
        Some(Value::List(list)) => list.clone(),
        Some(single) => vec![single.clone()],
        None => Vec::new(),
    }
}

/// Whether a signature is an empty chain, or a chain of nothing but such.
fn is_void(signature: &Signature) -> bool {
    signature.subtask_type == Some(SubtaskType::Chain) && signature.tasks().is_ok_and(|steps| steps.iter().all(is_void))
}

/// Chunks as what they stand for: a group of starmaps.
fn chunks(chunks: &Signature) -> Result<Signature, CanvasError> {
    let task = chunks.kwargs.get("task").ok_or_else(|| DecodeError::new("kwargs.task", "missing"))?;
    let items = chunks.kwargs.get("it").and_then(Value::as_list).ok_or_else(|| DecodeError::new("kwargs.it", "not a list"))?;
    let size = chunks.kwargs.get("n").and_then(Value::as_i64).and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| DecodeError::new("kwargs.n", "not a positive number"))?;
    if items.len().div_ceil(size) > MAX_TASKS {
        return Err(CanvasError::TooLarge);
    }
    let starmaps = items.chunks(size).map(|part| {
        let mut starmap = Signature::new("celery.starmap").kwarg("task", task.clone()).kwarg("it", part.to_vec());
        starmap.subtask_type = Some(SubtaskType::Starmap);
        starmap.immutable = true;
        starmap.to_value()
    });
    let mut group = Signature::new("celery.group").kwarg("tasks", starmaps.collect::<Vec<_>>());
    group.subtask_type = Some(SubtaskType::Group);
    group.options = chunks.options.clone();
    Ok(group)
}
