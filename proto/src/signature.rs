//! Signatures: a task call, or a workflow of them, as data.

use crate::{DecodeError, GroupId, Map, QueueName, TaskId, TaskName, Value};

/// A task call as data: Celery's `Signature`, wire contract §5.1.
///
/// A composite (chain, group, chord, map, starmap, chunks) is a signature of the task `celery.chain`, `celery.group`, …
/// whose parts are in `kwargs`; [`Signature::subtask_type`] tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// The name of the task.
    pub task: TaskName,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// Everything else `apply_async` takes.
    pub options: Options,
    /// What kind of composite this is; `None` for a plain task.
    pub subtask_type: Option<SubtaskType>,
    /// Whether the results of those before it are kept from its arguments.
    pub immutable: bool,
    /// Keys that this version does not know, kept as they came (`chord_size`, …).
    pub extra: Map,
}

/// The kinds of composite signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubtaskType {
    /// One after the other.
    Chain,
    /// Side by side.
    Group,
    /// Side by side, then one that gets all results.
    Chord,
    /// One task over a list of arguments.
    Map,
    /// One task over a list of argument lists.
    Starmap,
    /// Starmaps over slices of a list.
    Chunks,
}

/// The options of a signature: the keyword arguments of `apply_async`.
///
/// Kept as the map they came in, with typed accessors, so that options nobody here knows (stamps, user options) survive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options(pub Map);

impl SubtaskType {
    /// By the name on the wire: `chain`, `group`, `chord`, `xmap`, `xstarmap`, `chunks` (also without the `x`).
    pub fn by_name(_name: &str) -> Option<Self> {
        todo!()
    }
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        todo!()
    }
}

impl Signature {
    /// A call of `task` without arguments.
    pub fn new(task: impl Into<TaskName>) -> Self {
        Self {
            task: task.into(),
            args: Vec::new(),
            kwargs: Map::new(),
            options: Options::default(),
            subtask_type: None,
            immutable: false,
            extra: Map::new(),
        }
    }
    /// With one more positional argument.
    #[must_use]
    pub fn arg(mut self, value: impl Into<Value>) -> Self {
        self.args.push(value.into());
        self
    }
    /// With a keyword argument.
    #[must_use]
    pub fn kwarg(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.kwargs.insert(name.to_owned(), value.into());
        self
    }
    /// With option `name` (any of `apply_async`) set.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.0.insert(name.to_owned(), value.into());
        self
    }
    /// Immutable: results of those before it are kept from its arguments (Celery's `.si()`).
    #[must_use]
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }
    /// Run `callback` with the result after success.
    #[must_use]
    pub fn link(self, _callback: Signature) -> Self {
        todo!()
    }
    /// Run `errback` after failure.
    #[must_use]
    pub fn link_error(self, _errback: Signature) -> Self {
        todo!()
    }
    /// `tasks` one after the other.
    pub fn chain(_tasks: impl IntoIterator<Item = Signature>) -> Self {
        todo!()
    }
    /// `tasks` side by side.
    pub fn group(_tasks: impl IntoIterator<Item = Signature>) -> Self {
        todo!()
    }
    /// `header` side by side, then `body` with the list of their results.
    pub fn chord(_header: impl IntoIterator<Item = Signature>, _body: Signature) -> Self {
        todo!()
    }
    /// One task that calls `task` with each of `items` as its argument.
    pub fn map(_task: Signature, _items: impl IntoIterator<Item = Value>) -> Self {
        todo!()
    }
    /// One task that calls `task` with each of `items` as its arguments.
    pub fn starmap(_task: Signature, _items: impl IntoIterator<Item = Value>) -> Self {
        todo!()
    }
    /// Starmaps of up to `size` of `items` each.
    pub fn chunks(_task: Signature, _items: impl IntoIterator<Item = Value>, _size: usize) -> Self {
        todo!()
    }
    /// The parts of a chain, group or chord header; empty for anything else.
    ///
    /// # Errors
    /// When a part is not a signature.
    pub fn tasks(&self) -> Result<Vec<Signature>, DecodeError> {
        todo!()
    }
    /// The body of a chord; `None` for anything else.
    ///
    /// # Errors
    /// When the body is not a signature.
    pub fn body(&self) -> Result<Option<Signature>, DecodeError> {
        todo!()
    }
    /// Reads the map form. Checks the whole tree below it, so that a bad signature is found before the task has run.
    ///
    /// # Errors
    /// Names the key that is missing or of the wrong type.
    pub fn from_value(_value: &Value) -> Result<Self, DecodeError> {
        todo!()
    }
    /// The map form.
    pub fn to_value(&self) -> Value {
        todo!()
    }
}

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
        todo!()
    }
    /// `link_error`, likewise.
    ///
    /// # Errors
    /// As [`Options::link`].
    pub fn link_error(&self) -> Result<Vec<Signature>, DecodeError> {
        todo!()
    }
    /// `chord`: the body of the chord it is a header member of.
    ///
    /// # Errors
    /// When it is not a signature.
    pub fn chord(&self) -> Result<Option<Signature>, DecodeError> {
        todo!()
    }
    /// `chain`: what follows, next one last.
    ///
    /// # Errors
    /// When it is not a list of signatures.
    pub fn chain(&self) -> Result<Vec<Signature>, DecodeError> {
        todo!()
    }
}
