//! The normal form of a workflow: what [`super::build`] makes of signatures and [`super::emit`] sends.
//!
//! A node is ready to be sent: every task has its id, chains are spliced, groups flattened, and a group that something waits
//! for is a chord. What follows a task stays in its options, in Celery's own words (`link`, `link_error`, `chain`, `chord`),
//! so that a node can be written down as a signature at any time and read again by any worker.

use umbel_proto::{GroupId, Map, ResultTuple, Signature, SubtaskType, TaskId, Value};

/// The task that turns `[[…]]` into `[…]`: it gives a group as one value.
pub(crate) const ACCUMULATE: &str = "celery.accumulate";

/// A workflow in normal form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// One message (also `celery.map` and `celery.starmap`).
    Task(Signature),
    /// One after the other; at least two, none of them a chain.
    Chain(Vec<Node>),
    /// Side by side.
    Group(Cluster),
    /// Side by side, then the body.
    Chord(Cluster, Box<Node>),
}

/// The members of a group or of a chord's header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cluster {
    /// The id of the group, and of the chord whose header it is.
    pub(crate) id: GroupId,
    /// The members, none of them written as a group.
    pub(crate) members: Vec<Node>,
    /// What each member is followed by (as `options.chain`: next one last). Only messages of Celery's clients have it.
    pub(crate) each: Vec<Signature>,
}

/// A place in a group, and in the chord whose header it is.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    /// The group.
    pub(crate) group: &'a GroupId,
    /// The position.
    pub(crate) index: i64,
    /// The chord's body.
    pub(crate) chord: &'a Signature,
}

impl Node {
    /// Puts arguments before those of whatever is sent first, as the result of a step before or the arguments of a call.
    pub(crate) fn prepend(&mut self, args: &[Value], kwargs: &Map) {
        if args.is_empty() && kwargs.is_empty() {
            return;
        }
        match self {
            Self::Task(task) if task.immutable => {}
            Self::Task(task) => {
                task.args.splice(0..0, args.iter().cloned());
                task.kwargs.extend(kwargs.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            Self::Chain(nodes) => nodes[0].prepend(args, kwargs),
            Self::Group(cluster) | Self::Chord(cluster, _) => cluster.members.iter_mut().for_each(|member| member.prepend(args, kwargs)),
        }
    }

    /// Keeps the arguments of whatever is sent first from now on.
    pub(crate) fn fix(&mut self) {
        match self {
            Self::Task(task) => task.immutable = true,
            Self::Chain(nodes) => nodes[0].fix(),
            Self::Group(cluster) | Self::Chord(cluster, _) => cluster.members.iter_mut().for_each(Node::fix),
        }
    }

    /// Sets options that say how to send: on the first step of a chain, every member of a group, header and body of a chord
    /// (but a chord's delay only on its header, as Celery 5.7 does).
    pub(crate) fn set(&mut self, options: &Map) {
        match self {
            Self::Task(task) => task.options.0.extend(options.iter().map(|(name, value)| (name.clone(), value.clone()))),
            Self::Chain(nodes) => nodes[0].set(options),
            Self::Group(cluster) => cluster.members.iter_mut().for_each(|member| member.set(options)),
            Self::Chord(cluster, body) => {
                cluster.members.iter_mut().for_each(|member| member.set(options));
                let mut rest = options.clone();
                rest.shift_remove("countdown");
                rest.shift_remove("eta");
                body.set(&rest);
            }
        }
    }

    /// Links callbacks: to the last step of a chain, each member of a group, the body of a chord (rule 19, W8).
    pub(crate) fn link(&mut self, callbacks: &[Value]) {
        match self {
            Self::Task(task) => append(&mut task.options.0, "link", callbacks),
            Self::Chain(nodes) => last(nodes).link(callbacks),
            Self::Group(cluster) => cluster.members.iter_mut().for_each(|member| member.link(callbacks)),
            Self::Chord(_, body) => match &mut **body {
                // The first member cannot speak for its siblings, so the callback is not given its value.
                Self::Group(cluster) => {
                    let kept: Vec<Value> = callbacks.iter().map(immutable).collect();
                    if let Some(first) = cluster.members.first_mut() {
                        first.link(&kept);
                    }
                }
                body => body.link(callbacks),
            },
        }
    }

    /// Links errbacks: to each step of a chain, each member of a group, the body of a chord (rule 21).
    pub(crate) fn link_error(&mut self, errbacks: &[Value]) {
        match self {
            Self::Task(task) => append(&mut task.options.0, "link_error", errbacks),
            Self::Chain(nodes) => nodes.iter_mut().for_each(|node| node.link_error(errbacks)),
            Self::Group(cluster) => cluster.members.iter_mut().for_each(|member| member.link_error(errbacks)),
            Self::Chord(_, body) => body.link_error(errbacks),
        }
    }

    /// Lets `rest` (next one last) follow, after what follows already.
    pub(crate) fn follow(&mut self, rest: &[Signature]) {
        if rest.is_empty() {
            return;
        }
        match self {
            Self::Task(task) => {
                let mut chain: Vec<Value> = rest.iter().map(Signature::to_value).collect();
                chain.extend(task.options.get("chain").and_then(Value::as_list).unwrap_or_default().iter().cloned());
                task.options.0.insert("chain".to_owned(), Value::List(chain));
            }
            Self::Chain(nodes) => last(nodes).follow(rest),
            Self::Group(cluster) => {
                cluster.each.splice(0..0, rest.iter().cloned());
            }
            Self::Chord(_, body) => body.follow(rest),
        }
    }

    /// Makes the last value of this node a part of a chord. A group becomes a chord of its own that gives its list as one
    /// value, so that every header member counts for exactly one part and no executor ever waits to join (rule 7, W11).
    pub(crate) fn join(&mut self, place: &Place<'_>) {
        self.leave();
        match self {
            Self::Task(task) => {
                let target = last_options(&mut task.options.0);
                target.insert("group_id".to_owned(), place.group.as_str().into());
                target.insert("group_index".to_owned(), place.index.into());
                target.insert("chord".to_owned(), place.chord.to_value());
            }
            Self::Chain(nodes) => last(nodes).join(place),
            Self::Chord(_, body) => body.join(place),
            Self::Group(_) => {
                let mut collector = Node::Task(accumulate(collector_id(place.group, place.index)));
                collector.join(place);
                let Self::Group(cluster) = std::mem::replace(self, Node::Chain(Vec::new())) else { return };
                *self = Self::Chord(cluster, Box::new(collector));
            }
        }
    }

    /// Marks the last step of a plain group's member with its place, unless a client has placed it already.
    pub(crate) fn mark(&mut self, group: &GroupId, index: i64) {
        match self {
            Self::Task(task) => {
                let target = last_options(&mut task.options.0);
                if target.get("group_id").is_none_or(Value::is_null) {
                    target.insert("group_id".to_owned(), group.as_str().into());
                    target.insert("group_index".to_owned(), index.into());
                }
            }
            Self::Chain(nodes) => last(nodes).mark(group, index),
            Self::Chord(_, body) => body.mark(group, index),
            Self::Group(_) => {}
        }
    }

    /// Takes the last value out of any chord it is a part of.
    fn leave(&mut self) {
        match self {
            Self::Task(task) => match last_step(&mut task.options.0) {
                Some(step) => unplace(step),
                None => unplace_options(&mut task.options.0),
            },
            Self::Chain(nodes) => last(nodes).leave(),
            Self::Group(cluster) => cluster.members.iter_mut().for_each(Node::leave),
            Self::Chord(_, body) => body.leave(),
        }
    }

    /// Whether the last value is a part of a chord already.
    pub(crate) fn is_part(&self) -> bool {
        match self {
            Self::Task(task) => task.options.get("chord").is_some(),
            Self::Chain(nodes) => nodes.last().is_some_and(Node::is_part),
            Self::Group(cluster) => cluster.members.iter().any(Node::is_part),
            Self::Chord(_, body) => body.is_part(),
        }
    }

    /// The steps of a chain; anything else is its own only step.
    pub(crate) fn into_steps(self) -> Vec<Node> {
        match self {
            Self::Chain(nodes) => nodes,
            node => vec![node],
        }
    }

    /// Whether it gives several values instead of one.
    pub(crate) fn ends_in_group(&self) -> bool {
        match self {
            Self::Task(_) => false,
            Self::Chain(nodes) => nodes.last().is_some_and(Node::ends_in_group),
            Self::Group(_) => true,
            Self::Chord(_, body) => body.ends_in_group(),
        }
    }

    /// The result to wait for, after `parent`: of a chain its last step, of a chord its body (rules 2 and 23). Of a chord
    /// whose body was written as a chain the inner steps are not in the parent line.
    pub(crate) fn result(&self, parent: Option<ResultTuple>) -> ResultTuple {
        match self {
            Self::Task(task) => result(task.options.task_id().map(|id| id.to_string()).unwrap_or_default(), parent),
            Self::Chain(nodes) => {
                let (end, before) = nodes.split_last().expect("a chain has at least two nodes");
                let parent = before.iter().fold(parent, |parent, node| Some(node.result(parent)));
                end.result(parent)
            }
            Self::Group(cluster) => cluster.result(parent),
            Self::Chord(cluster, body) => {
                let header = Some(cluster.result(parent));
                match &**body {
                    Self::Chain(nodes) => nodes.last().expect("a chain has at least two nodes").result(header),
                    body => body.result(header),
                }
            }
        }
    }

    /// What a task that sends this node lists among its children: the next step, or the group that stands before a barrier.
    pub(crate) fn child(&self) -> ResultTuple {
        match self {
            Self::Task(_) => self.result(None),
            Self::Chain(nodes) => nodes[0].child(),
            Self::Group(cluster) | Self::Chord(cluster, _) => cluster.result(None),
        }
    }
}

impl Cluster {
    fn result(&self, parent: Option<ResultTuple>) -> ResultTuple {
        let members = self.members.iter().map(|member| member.result(None)).collect();
        ResultTuple { id: self.id.to_string(), parent: parent.map(Box::new), children: Some(members) }
    }
}

/// The signature of `celery.accumulate` that gives its first argument.
pub(crate) fn accumulate(id: TaskId) -> Signature {
    Signature::new(ACCUMULATE).kwarg("index", 0i64).set("task_id", id.as_str())
}

/// The id of the task that stands for a group within the header of chord `outer`.
pub(crate) fn collector_id(outer: &GroupId, index: i64) -> TaskId {
    TaskId::derive(outer.as_str(), &format!("collect.{index}"))
}

/// A chain as one node that is sent first, the others following it in its options.
pub(crate) fn unroll(nodes: Vec<Node>) -> Node {
    let mut nodes = nodes.into_iter();
    let mut first = nodes.next().expect("a chain has at least two nodes");
    let mut rest: Vec<Signature> = nodes.map(signature).collect();
    rest.reverse();
    first.follow(&rest);
    first
}

/// Writes a node down.
pub(crate) fn signature(node: Node) -> Signature {
    match node {
        Node::Task(task) => task,
        Node::Chain(nodes) => {
            let id = nodes.last().map(|node| node.result(None).id).unwrap_or_default();
            composite(SubtaskType::Chain, "tasks", signatures(nodes)).set("task_id", id)
        }
        Node::Group(cluster) => group(cluster),
        Node::Chord(cluster, body) => {
            let body = match *body {
                Node::Chain(nodes) => unroll(nodes),
                body => body,
            };
            let (body, id) = (signature(body).to_value(), cluster.id.to_string());
            let header = group(cluster).to_value();
            composite(SubtaskType::Chord, "header", header).kwarg("body", body).kwarg("kwargs", Map::new()).set("task_id", id)
        }
    }
}

fn group(cluster: Cluster) -> Signature {
    let each: Vec<Value> = cluster.each.iter().map(Signature::to_value).collect();
    let written = composite(SubtaskType::Group, "tasks", signatures(cluster.members)).set("task_id", cluster.id.as_str());
    if each.is_empty() { written } else { written.set("chain", each) }
}

fn signatures(nodes: Vec<Node>) -> Value {
    Value::List(nodes.into_iter().map(|node| signature(node).to_value()).collect())
}

fn composite(kind: SubtaskType, key: &str, value: Value) -> Signature {
    let mut composite = Signature::new(format!("celery.{}", kind.as_str())).kwarg(key, value);
    composite.subtask_type = Some(kind);
    composite
}

fn result(id: String, parent: Option<ResultTuple>) -> ResultTuple {
    ResultTuple { id, parent: parent.map(Box::new), children: None }
}

fn last(nodes: &mut [Node]) -> &mut Node {
    nodes.last_mut().expect("a chain has at least two nodes")
}

/// What runs last of `options.chain`, if anything does.
fn last_step(options: &mut Map) -> Option<&mut Map> {
    match options.get_mut("chain")? {
        Value::List(steps) => match steps.first_mut()? {
            Value::Map(step) => Some(step),
            _ => None,
        },
        _ => None,
    }
}

/// The options of what runs last: of `options.chain`, else of the task itself.
fn last_options(options: &mut Map) -> &mut Map {
    let chained = last_step(options).is_some_and(|step| matches!(step.get("options"), Some(Value::Map(_))));
    if !chained {
        return options;
    }
    match last_step(options).and_then(|step| step.get_mut("options")) {
        Some(Value::Map(last)) => last,
        _ => unreachable!("checked above"),
    }
}

fn unplace_options(options: &mut Map) {
    for name in ["chord", "group_id", "group_index"] {
        options.shift_remove(name);
    }
}

/// Takes a written signature, and what is written inside it, out of any chord.
fn unplace(step: &mut Map) {
    if let Some(Value::Map(options)) = step.get_mut("options") {
        unplace_options(options);
    }
    let Some(Value::Map(kwargs)) = step.get_mut("kwargs") else { return };
    if let Some(Value::List(tasks)) = kwargs.get_mut("tasks") {
        tasks.iter_mut().filter_map(as_map_mut).for_each(unplace);
    }
    if let Some(body) = kwargs.get_mut("body").and_then(as_map_mut) {
        unplace(body);
    }
}

fn as_map_mut(value: &mut Value) -> Option<&mut Map> {
    match value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// Adds signatures to a list option, each once (`Signature.append_to_list_option`).
fn append(options: &mut Map, name: &str, new: &[Value]) {
    if new.is_empty() {
        return;
    }
    let mut list = match options.shift_remove(name) {
        Some(Value::List(list)) => list,
        None | Some(Value::Null) => Vec::new(),
        Some(single) => vec![single],
    };
    for value in new {
        if !list.contains(value) {
            list.push(value.clone());
        }
    }
    options.insert(name.to_owned(), Value::List(list));
}

fn immutable(signature: &Value) -> Value {
    let mut signature = signature.clone();
    if let Value::Map(map) = &mut signature {
        map.insert("immutable".to_owned(), true.into());
    }
    signature
}
