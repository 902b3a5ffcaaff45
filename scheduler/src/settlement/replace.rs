//! Another signature takes the task's place (rules 13 and 22, P13–P16).

use umbel_proto::{Embed, Options, Signature, SubtaskType, Value};

use super::{Ending, Settlement, canvas_error, run::Run};
use crate::{
    Effect, Release,
    canvas::{
        CanvasError,
        build::{Builder, Id, in_sequence},
        emit::Planner,
        node::{Cluster, Node, Place, accumulate},
    },
};

impl Run<'_> {
    /// Sends the replacement. The task's id takes its final value; callbacks, the rest of the chain and the place in a chord
    /// move to its last task, each exactly once (P14, P16); errbacks move to every step (of a group or chord, to the body).
    pub(super) fn replace(&self, replacement: &Signature) -> Settlement {
        let mut planner = self.planner();
        match self.plan_replacement(replacement, &mut planner) {
            Ok(()) => {
                let mut effects = planner.effects;
                effects.push(Effect::Release(Release::Ack));
                Settlement { effects, ending: Ending::Replaced }
            }
            Err(error) => self.fail(canvas_error(&error)),
        }
    }

    fn plan_replacement(&self, replacement: &Signature, planner: &mut Planner<'_>) -> Result<(), CanvasError> {
        let headers = &self.invocation.headers;
        let nesting = headers.replaced_task_nesting.saturating_add(1);
        let id = Id::Force(headers.id.clone());
        let mut node = self.build_replacement(replacement, &id, nesting)?;
        let embed = self.invocation.embed();
        node.link(&values(&embed.callbacks));
        node.link_error(&values(&embed.errbacks));
        each_task(&mut node, &mut |options| {
            options.0.insert("replaced_task_nesting".to_owned(), nesting.into());
        });
        if let Some(ignore) = headers.ignore_result {
            last_options(&mut node, &mut |options| {
                options.0.entry("ignore_result".to_owned()).or_insert(ignore.into());
            });
        }
        self.place(&mut node, embed);
        let rest: Vec<Signature> = embed.chain.iter().cloned().map(|step| step.set("replaced_task_nesting", nesting)).collect();
        node.follow(&rest);
        planner.emit(node)
    }

    /// A replacement that gives several values is collected into a list first, by a task of the replaced one's id; nothing at
    /// all gives the empty list.
    fn build_replacement(&self, replacement: &Signature, id: &Id, nesting: u32) -> Result<Node, CanvasError> {
        let seed = format!("{}.replace.{nesting}", self.id());
        let several = |node: &Option<Node>| node.as_ref().is_none_or(Node::ends_in_group);
        let node = Builder::new(&seed).build(&without_id(replacement), id, "")?;
        if !several(&node) {
            return node.ok_or(CanvasError::TooLarge);
        }
        let node = Builder::new(&seed).build(&without_id(replacement), &Id::Own, "")?;
        let empty = || Node::Group(Cluster { id: umbel_proto::GroupId::derive(&seed, "empty"), members: Vec::new(), each: Vec::new() });
        // The collector goes to the queue that the replaced task came from: whoever takes from there can run it.
        let collector = accumulate(self.id().clone()).set("queue", self.context.queue.as_str());
        Ok(in_sequence(vec![node.unwrap_or_else(empty), Node::Task(collector)]))
    }

    /// Hands the place in a group, and in a chord, on to the last task.
    fn place(&self, node: &mut Node, embed: &Embed) {
        let headers = &self.invocation.headers;
        let Some(group) = &headers.group else { return };
        match &embed.chord {
            Some(chord) => node.join(&Place { group, index: headers.group_index.unwrap_or(0), chord }),
            None => {
                if let Some(index) = headers.group_index {
                    node.mark(group, index);
                }
            }
        }
    }
}

/// The id a signature was frozen with is not its own any more once it replaces another task; those inside a composite are.
fn without_id(signature: &Signature) -> Signature {
    let mut signature = signature.clone();
    if !matches!(signature.subtask_type, Some(SubtaskType::Group | SubtaskType::Chord)) {
        signature.options.0.shift_remove("task_id");
    }
    signature
}

fn values(signatures: &[Signature]) -> Vec<Value> {
    signatures.iter().map(Signature::to_value).collect()
}

fn each_task(node: &mut Node, change: &mut dyn FnMut(&mut Options)) {
    match node {
        Node::Task(task) => change(&mut task.options),
        Node::Chain(nodes) => nodes.iter_mut().for_each(|node| each_task(node, change)),
        Node::Group(cluster) => cluster.members.iter_mut().for_each(|member| each_task(member, change)),
        Node::Chord(cluster, body) => {
            cluster.members.iter_mut().for_each(|member| each_task(member, change));
            each_task(body, change);
        }
    }
}

fn last_options(node: &mut Node, change: &mut dyn FnMut(&mut Options)) {
    match node {
        Node::Task(task) => change(&mut task.options),
        Node::Chain(nodes) => nodes.last_mut().into_iter().for_each(|last| last_options(last, change)),
        Node::Group(_) => {}
        Node::Chord(_, body) => last_options(body, change),
    }
}
