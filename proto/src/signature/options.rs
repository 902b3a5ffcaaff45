//! The options of a signature.

use super::{Signature, check};
use crate::{DecodeError, GroupId, Map, QueueName, TaskId, Value};

/// The options of a signature: the keyword arguments of `apply_async`.
///
/// Kept as the map they came in, with typed accessors, so that options nobody here knows (stamps, user options) survive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options(pub Map);

impl Options {
    /// Option `name`; `None` when absent or null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }
    /// `task_id`.
    pub fn task_id(&self) -> Option<TaskId> {
        self.get("task_id").and_then(Value::as_str).map(TaskId::from)
    }
    /// `group_id`.
    pub fn group_id(&self) -> Option<GroupId> {
        self.get("group_id").and_then(Value::as_str).map(GroupId::from)
    }
    /// `group_index`.
    pub fn group_index(&self) -> Option<i64> {
        self.get("group_index").and_then(Value::as_i64)
    }
    /// `queue`, by name (also of the dict form).
    pub fn queue(&self) -> Option<QueueName> {
        let queue = self.get("queue")?;
        queue.as_str().or_else(|| queue.as_map()?.get("name")?.as_str()).map(QueueName::from)
    }
    /// `link`.
    ///
    /// # Errors
    /// When it is not a list of signatures (one signature is taken as a list of one).
    pub fn link(&self) -> Result<Vec<Signature>, DecodeError> {
        self.signatures("link")
    }
    /// `link_error`, likewise.
    ///
    /// # Errors
    /// As [`Options::link`].
    pub fn link_error(&self) -> Result<Vec<Signature>, DecodeError> {
        self.signatures("link_error")
    }
    /// `chord`: the body of the chord it is a header member of.
    ///
    /// # Errors
    /// When it is not a signature.
    pub fn chord(&self) -> Result<Option<Signature>, DecodeError> {
        self.get("chord").map(Signature::from_value).transpose().map_err(|error| error.within("chord"))
    }
    /// `chain`: what follows, next one last.
    ///
    /// # Errors
    /// When it is not a list of signatures.
    pub fn chain(&self) -> Result<Vec<Signature>, DecodeError> {
        self.signatures("chain")
    }

    fn signatures(&self, name: &str) -> Result<Vec<Signature>, DecodeError> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::List(items)) => super::list(items),
            Some(single) => Signature::from_value(single).map(|signature| vec![signature]),
        }
        .map_err(|error| error.within(name))
    }

    /// Adds `signature` to the list under `name`.
    pub(super) fn push(&mut self, name: &str, signature: &Signature) {
        let list = self.0.entry(name.to_owned()).or_insert(Value::Null);
        match list {
            Value::List(items) => items.push(signature.to_value()),
            Value::Null => *list = Value::List(vec![signature.to_value()]),
            single => *single = Value::List(vec![std::mem::take(single), signature.to_value()]),
        }
    }

    /// Checks the signatures among the options of a map form.
    pub(super) fn check(options: &Map) -> Result<(), DecodeError> {
        for name in ["link", "link_error", "chain"] {
            match options.get(name) {
                None | Some(Value::Null) => Ok(()),
                Some(Value::List(items)) => check::list(items),
                Some(single) => check::signature(single),
            }
            .map_err(|error| error.within(name))?;
        }
        match options.get("chord") {
            None | Some(Value::Null) => Ok(()),
            Some(body) => check::signature(body).map_err(|error| error.within("chord")),
        }
    }
}
