//! Signatures: a task call, or a workflow of them, as data.

mod check;
mod composite;
mod options;

pub use options::Options;

use crate::{DecodeError, Map, TaskName, Value};

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

impl SubtaskType {
    /// By the name on the wire: `chain`, `group`, `chord`, `xmap`, `xstarmap`, `chunks` (also without the `x`).
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "chain" => Self::Chain,
            "group" => Self::Group,
            "chord" => Self::Chord,
            "xmap" | "map" => Self::Map,
            "xstarmap" | "starmap" => Self::Starmap,
            "chunks" => Self::Chunks,
            _ => return None,
        })
    }
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Group => "group",
            Self::Chord => "chord",
            Self::Map => "xmap",
            Self::Starmap => "xstarmap",
            Self::Chunks => "chunks",
        }
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
    pub fn link(mut self, callback: Signature) -> Self {
        self.options.push("link", &callback);
        self
    }
    /// Run `errback` after failure.
    #[must_use]
    pub fn link_error(mut self, errback: Signature) -> Self {
        self.options.push("link_error", &errback);
        self
    }
    /// Reads the map form. Checks the whole tree below it, so that a bad signature is found before the task has run.
    ///
    /// # Errors
    /// Names the key that is missing or of the wrong type.
    pub fn from_value(value: &Value) -> Result<Self, DecodeError> {
        check::signature(value)?;
        Ok(Self::read(value.clone()))
    }

    /// As [`Signature::from_value`], without a copy.
    pub(crate) fn from_owned(value: Value) -> Result<Self, DecodeError> {
        check::signature(&value)?;
        Ok(Self::read(value))
    }

    /// Reads a map that [`check::signature`] has passed.
    fn read(value: Value) -> Self {
        let mut signature = Self::new("");
        let Value::Map(map) = value else { return signature };
        for (key, value) in map {
            match (key.as_str(), value) {
                ("task", Value::Str(task)) => signature.task = task.into(),
                ("args", Value::List(args)) => signature.args = args,
                ("kwargs", Value::Map(kwargs)) => signature.kwargs = kwargs,
                ("options", Value::Map(options)) => signature.options = Options(options),
                ("subtask_type", Value::Str(kind)) => signature.subtask_type = SubtaskType::by_name(&kind),
                ("immutable", Value::Bool(immutable)) => signature.immutable = immutable,
                // Null stands for the default of each of them.
                ("args" | "kwargs" | "options" | "subtask_type" | "immutable", _) => {}
                (_, value) => {
                    signature.extra.insert(key, value);
                }
            }
        }
        signature
    }
    /// The map form.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(6 + self.extra.len());
        map.insert("task".into(), self.task.as_str().into());
        map.insert("args".into(), Value::List(self.args.clone()));
        map.insert("kwargs".into(), Value::Map(self.kwargs.clone()));
        map.insert("options".into(), Value::Map(self.options.0.clone()));
        map.insert("subtask_type".into(), self.subtask_type.map(SubtaskType::as_str).into());
        map.insert("immutable".into(), self.immutable.into());
        map.extend(self.extra.iter().map(|(key, value)| (key.clone(), value.clone())));
        Value::Map(map)
    }
}

/// Reads a list of signatures.
fn list(items: &[Value]) -> Result<Vec<Signature>, DecodeError> {
    items.iter().enumerate().map(|(index, item)| Signature::from_value(item).map_err(|error| error.within(&format!("[{index}]")))).collect()
}

#[cfg(test)]
mod tests;
