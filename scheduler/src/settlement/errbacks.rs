//! Calling errbacks (rule 20): as tasks, with the failed id.

use umbel_proto::{GroupId, Map, Signature, TaskId};

use crate::canvas::{
    build::{Builder, Id},
    emit::Planner,
    node::{Cluster, Node},
};

/// Sends `errbacks` for the failed task `id`, as Celery does: as a group of their own, each with the failed id as its first
/// argument. (Errbacks of Python tasks with more parameters are called inside the task's own process and are no messages.)
///
/// An errback that cannot be sent is left out: it must not keep the failure of its task from being recorded.
pub(crate) fn call(planner: &mut Planner<'_>, id: &TaskId, errbacks: &[Signature]) {
    let build = |(index, errback): (usize, &Signature)| Builder::new(id.as_str()).build(errback, &Id::Own, &format!("errback.{index}"));
    let members: Vec<Node> = errbacks.iter().enumerate().filter_map(|errback| build(errback).ok().flatten()).collect();
    if members.is_empty() {
        return;
    }
    planner.after(Some(id.clone()));
    for (index, mut member) in members.into_iter().enumerate() {
        member.prepend(&[id.as_str().into()], &Map::new());
        let group = GroupId::derive(id.as_str(), "errbacks");
        member.mark(&group, index as i64);
        let before = planner.effects.len();
        if planner.emit(Node::Group(Cluster { id: group, members: vec![member], each: Vec::new() })).is_err() {
            planner.effects.truncate(before);
        }
    }
}
