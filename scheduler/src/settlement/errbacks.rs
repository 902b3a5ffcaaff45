//! Calling errbacks (rule 20): as tasks, with the failed id, or with what they need to be called as Celery calls those of the new
//! style.

use umbel_proto::{ErrbackLeft, GroupId, Map, ResultTuple, Signature, TaskError, TaskId, Value};

use crate::canvas::{
    build::{Builder, Id},
    emit::Planner,
    node::{Cluster, Node},
};

/// Errbacks that are to be called.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Errbacks<'a> {
    /// Of a task of which none has been called.
    All(&'a [Signature]),
    /// Those that the process of the failed task has left to be sent, with its word for how each is called.
    Left(&'a [ErrbackLeft]),
}

impl<'a> Errbacks<'a> {
    /// Each, and whether it is of the new style.
    fn judged(self, planner: &Planner<'_>) -> Vec<(&'a Signature, bool)> {
        match self {
            Self::All(errbacks) => errbacks.iter().map(|errback| (errback, planner.calls_inline(errback))).collect(),
            Self::Left(errbacks) => errbacks.iter().map(|errback| (&errback.signature, errback.new_style)).collect(),
        }
    }
}

/// The header of a message that is an errback of the new style: the failed task's id and its exception.
pub(crate) const FAILED: &str = "umbel_failed";

/// Sends `errbacks` for the failed task `id`, as Celery does: as a group of their own, each with the failed id as its first
/// argument.
///
/// Those of the new style want `(request, exc, traceback)`. Where a task fails in a process of Python they are called there and are no
/// messages; what fails without one (a chord's body, a task that was killed) sends them as tasks with the header [`FAILED`], from
/// which a process of Python makes these arguments.
///
/// An errback that cannot be sent is left out: it must not keep the failure of its task from being recorded.
///
/// What is answered is the group of those that leave a result, as the failed task lists it among its children.
pub(crate) fn call(planner: &mut Planner<'_>, id: &TaskId, error: &TaskError, errbacks: Errbacks<'_>) -> Option<ResultTuple> {
    let build = |(index, (errback, inline)): (usize, (&Signature, bool))| {
        let errback = if inline { of_new_style(errback, id, error) } else { errback.clone() };
        let node = Builder::new(id.as_str()).build(&errback, &Id::Own, &format!("errback.{index}")).ok()??;
        Some((inline, node))
    };
    let members: Vec<(bool, Node)> = errbacks.judged(planner).into_iter().enumerate().filter_map(build).collect();
    if members.is_empty() {
        return None;
    }
    planner.after(Some(id.clone()));
    let group = GroupId::derive(id.as_str(), "errbacks");
    let mut called = Vec::new();
    for (index, (inline, mut member)) in members.into_iter().enumerate() {
        if !inline {
            member.prepend(&[id.as_str().into()], &Map::new());
        }
        member.mark(&group, index as i64);
        let before = planner.effects.len();
        let result = member.result(None);
        if planner.emit(Node::Group(Cluster { id: group.clone(), members: vec![member], each: Vec::new() })).is_err() {
            planner.effects.truncate(before);
        } else if !inline {
            called.push(result);
        }
    }
    (!called.is_empty()).then(|| ResultTuple { id: group.to_string(), parent: None, children: Some(called) })
}

/// No task, for Celery: it leaves no result. One that is immutable is called with its own arguments alone.
fn of_new_style(errback: &Signature, id: &TaskId, error: &TaskError) -> Signature {
    let errback = errback.clone().set("ignore_result", true);
    if errback.immutable {
        return errback;
    }
    let failed = Map::from_iter([("id".to_owned(), id.as_str().into()), ("error".to_owned(), error.to_value())]);
    let mut headers = errback.options.get("headers").and_then(Value::as_map).cloned().unwrap_or_default();
    headers.insert(FAILED.to_owned(), Value::Map(failed));
    errback.set("headers", Value::Map(headers))
}
