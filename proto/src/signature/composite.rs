//! Chains, groups, chords, maps and chunks: wire contract §5.2.

use super::{Signature, SubtaskType, list};
use crate::{DecodeError, Map, Value};

impl Signature {
    /// `tasks` one after the other.
    pub fn chain(tasks: impl IntoIterator<Item = Signature>) -> Self {
        Self::composite("celery.chain", SubtaskType::Chain, [("tasks", values(tasks))])
    }
    /// `tasks` side by side.
    pub fn group(tasks: impl IntoIterator<Item = Signature>) -> Self {
        Self::composite("celery.group", SubtaskType::Group, [("tasks", values(tasks))])
    }
    /// `header` side by side, then `body` with the list of their results.
    pub fn chord(header: impl IntoIterator<Item = Signature>, body: Signature) -> Self {
        let parts = [("kwargs", Value::Map(Map::new())), ("header", Self::group(header).to_value()), ("body", body.to_value())];
        Self::composite("celery.chord", SubtaskType::Chord, parts)
    }
    /// One task that calls `task` with each of `items` as its argument.
    pub fn map(task: Signature, items: impl IntoIterator<Item = Value>) -> Self {
        let parts = [("task", task.to_value()), ("it", items.into_iter().collect::<Vec<_>>().into())];
        Self::composite("celery.map", SubtaskType::Map, parts)
    }
    /// One task that calls `task` with each of `items` as its arguments.
    pub fn starmap(task: Signature, items: impl IntoIterator<Item = Value>) -> Self {
        let parts = [("task", task.to_value()), ("it", items.into_iter().collect::<Vec<_>>().into())];
        Self::composite("celery.starmap", SubtaskType::Starmap, parts)
    }
    /// Starmaps of up to `size` of `items` each.
    pub fn chunks(task: Signature, items: impl IntoIterator<Item = Value>, size: usize) -> Self {
        let parts = [
            ("task", task.to_value()),
            ("it", items.into_iter().collect::<Vec<_>>().into()),
            ("n", Value::Int(i64::try_from(size).unwrap_or(i64::MAX))),
        ];
        Self::composite("celery.chunks", SubtaskType::Chunks, parts)
    }
    /// The parts of a chain, group or chord header; empty for anything else.
    ///
    /// # Errors
    /// When a part is not a signature.
    pub fn tasks(&self) -> Result<Vec<Signature>, DecodeError> {
        match self.subtask_type {
            Some(SubtaskType::Chain | SubtaskType::Group) => self.parts("tasks"),
            Some(SubtaskType::Chord) => self.parts("header"),
            _ => Ok(Vec::new()),
        }
    }
    /// The body of a chord; `None` for anything else.
    ///
    /// # Errors
    /// When the body is not a signature.
    pub fn body(&self) -> Result<Option<Signature>, DecodeError> {
        if self.subtask_type != Some(SubtaskType::Chord) {
            return Ok(None);
        }
        match self.kwargs.get("body") {
            None | Some(Value::Null) => Ok(None),
            Some(body) => Self::from_value(body).map(Some).map_err(|error| error.within("kwargs.body")),
        }
    }

    /// The signatures under keyword argument `name`: a list of them, or a group.
    fn parts(&self, name: &str) -> Result<Vec<Signature>, DecodeError> {
        let parts = match self.kwargs.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::List(items)) => list(items),
            Some(single) => Signature::from_value(single).and_then(|single| match single.subtask_type {
                Some(SubtaskType::Group) => single.tasks(),
                _ => Ok(vec![single]),
            }),
        };
        parts.map_err(|error| error.within(name).within("kwargs"))
    }

    fn composite<const N: usize>(task: &str, kind: SubtaskType, parts: [(&str, Value); N]) -> Self {
        let mut signature = Self::new(task);
        signature.subtask_type = Some(kind);
        signature.kwargs = parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        signature
    }
}

fn values(tasks: impl IntoIterator<Item = Signature>) -> Value {
    Value::List(tasks.into_iter().map(|task| task.to_value()).collect())
}
