//! Results as `AsyncResult` reads them.

use crate::{
    DecodeError, EncodeError, GroupId, Limits, Map, TaskError, TaskId, Value,
    codec::{Compression, Serializer},
};

/// What 5.7 puts in front of a compressed result: this, the content type of the compression, a zero byte, the bytes.
const COMPRESSED: &[u8] = b"\0celery-compressed\0";

/// The keys that have a field of their own.
const KNOWN: [&str; 8] = ["task_id", "status", "result", "traceback", "children", "date_done", "group_id", "parent_id"];

/// The state of a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// Unknown or waiting; never stored.
    Pending,
    /// Running (stored only with `track_started`).
    Started,
    /// Returned.
    Success,
    /// Raised.
    Failure,
    /// Waiting for another attempt.
    Retry,
    /// Refused before it ran, or ended by force.
    Revoked,
    /// A state of the task's own (`update_state`).
    Custom(String),
}

/// What is stored under `celery-task-meta-<id>`: wire contract §4.1.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRecord {
    /// The task.
    pub task_id: TaskId,
    /// Its state.
    pub status: State,
    /// The value, the exception object, or the meta of a custom state.
    pub result: Value,
    /// The traceback of a failure.
    pub traceback: Option<String>,
    /// What it sent; `None` when written by somebody who was not running it.
    pub children: Option<Vec<ResultTuple>>,
    /// When it ended, ISO 8601 in UTC; `None` while it has not.
    pub date_done: Option<String>,
    /// The group it is a member of.
    pub group_id: Option<GroupId>,
    /// Who sent it.
    pub parent_id: Option<TaskId>,
    /// `name`, `args`, `kwargs`, `worker`, `retries`, `queue` (`result_extended`), stamps, and keys not known here.
    pub extra: Map,
}

/// A result, its parent and its members, as a tree: Celery's `as_tuple()`, `[[id, parent], children or null]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultTuple {
    /// The id of the task or group.
    pub id: String,
    /// The result it follows from.
    pub parent: Option<Box<ResultTuple>>,
    /// The members, of a group; `None` of a task.
    pub children: Option<Vec<ResultTuple>>,
}

impl State {
    /// The name on the wire: `SUCCESS`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Started => "STARTED",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Retry => "RETRY",
            Self::Revoked => "REVOKED",
            Self::Custom(name) => name,
        }
    }
    /// By name; any unknown one is a custom state. Case matters, as for Celery.
    pub fn by_name(name: &str) -> Self {
        match name {
            "PENDING" => Self::Pending,
            "STARTED" => Self::Started,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "RETRY" => Self::Retry,
            "REVOKED" => Self::Revoked,
            _ => Self::Custom(name.to_owned()),
        }
    }
    /// Whether nothing follows: SUCCESS, FAILURE or REVOKED.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }
}

impl ResultRecord {
    /// Reads the map form.
    ///
    /// # Errors
    /// Names the key that is missing or of the wrong type.
    pub fn from_value(value: &Value) -> Result<Self, DecodeError> {
        let map = value.as_map().ok_or_else(|| wrong("a map", value))?;
        let field = |name: &str| map.get(name).filter(|value| !value.is_null());
        let text = |name: &str| match field(name) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong("text", other).within(name)),
        };
        let required = |name: &str| text(name)?.ok_or_else(|| DecodeError::new(name, "is missing"));
        let children = match field("children") {
            None => None,
            Some(Value::List(items)) => Some(tuples(items).map_err(|error| error.within("children"))?),
            Some(other) => return Err(wrong("a list", other).within("children")),
        };
        let extra = map.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str()));
        Ok(Self {
            task_id: required("task_id")?.into(),
            status: State::by_name(&required("status")?),
            // Celery's own client fails over a result without it; null is a result.
            result: map.get("result").cloned().ok_or_else(|| DecodeError::new("result", "is missing"))?,
            traceback: text("traceback")?,
            children,
            date_done: text("date_done")?,
            group_id: text("group_id")?.map(GroupId::from),
            parent_id: text("parent_id")?.map(TaskId::from),
            extra: extra.map(|(name, value)| (name.clone(), value.clone())).collect(),
        })
    }
    /// The map form, keys in Celery's order.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(9 + self.extra.len());
        let mut put = |name: &str, value: Value| {
            map.insert(name.to_owned(), value);
        };
        put("status", self.status.as_str().into());
        put("result", self.result.clone());
        put("traceback", self.traceback.as_deref().into());
        put("children", self.children.as_ref().map(|children| children.iter().map(ResultTuple::to_value).collect::<Vec<_>>()).into());
        put("date_done", self.date_done.as_deref().into());
        if let Some(group) = &self.group_id {
            put("group_id", group.as_str().into());
        }
        if let Some(parent) = &self.parent_id {
            put("parent_id", parent.as_str().into());
        }
        for (name, value) in &self.extra {
            put(name, value.clone());
        }
        put("task_id", self.task_id.as_str().into());
        Value::Map(map)
    }
    /// The exception, of a FAILURE, RETRY or REVOKED.
    pub fn error(&self) -> Option<TaskError> {
        match self.status {
            State::Failure | State::Retry | State::Revoked => {
                let mut error = TaskError::from_value(&self.result).ok()?;
                error.traceback.clone_from(&self.traceback);
                Some(error)
            }
            _ => None,
        }
    }

    /// Reads what a result backend holds: the map form in `serializer`, compressed or not (wire contract of 5.7, §4.1).
    ///
    /// # Errors
    /// When it is damaged, goes beyond `limits`, or the serializer is one that only Python reads.
    pub fn from_stored(bytes: &[u8], serializer: Serializer, limits: Limits) -> Result<Self, DecodeError> {
        let value = match inflate(bytes, limits)? {
            Some(plain) => serializer.decode(&plain, limits),
            None => serializer.decode(bytes, limits),
        };
        value.and_then(|value| Self::from_value(&value)).map_err(|error| error.within("result meta"))
    }

    /// Writes it. Readers tell a compressed record by its beginning, but those of Celery 5.6 do not know it.
    ///
    /// # Errors
    /// As [`Serializer::encode_as_is`]; the caller has checked values that were made here.
    pub fn to_stored(&self, serializer: Serializer, compression: Option<Compression>) -> Result<Vec<u8>, EncodeError> {
        let plain = serializer.encode_as_is(&self.to_value())?;
        let Some(compression) = compression else { return Ok(plain.into()) };
        let compressed = compression.compress(&plain)?;
        Ok([COMPRESSED, compression.content_type().as_bytes(), b"\0", &compressed].concat())
    }
}

/// The content of a compressed payload (a result, or a chord part); `None` when it is not compressed.
///
/// # Errors
/// When the compression is unknown, the bytes are damaged, or they grow beyond `limits`.
pub fn inflate(bytes: &[u8], limits: Limits) -> Result<Option<bytes::Bytes>, DecodeError> {
    let Some(rest) = bytes.strip_prefix(COMPRESSED) else { return Ok(None) };
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(|| DecodeError::new("compression", "is not ended by a zero byte"))?;
    let compression = std::str::from_utf8(&rest[..end]).ok().and_then(Compression::by_name);
    let compression = compression.ok_or_else(|| DecodeError::new("compression", "is not one of zlib, bzip2, lzma, brotli and zstd"))?;
    compression.decompress(&rest[end + 1..], limits).map(Some)
}

impl ResultTuple {
    /// Reads `[[id, parent], members]`; the parent is an id or a tuple of its own, members are null for a task.
    ///
    /// # Errors
    /// Names the part that is not as it should be.
    pub fn from_value(value: &Value) -> Result<Self, DecodeError> {
        let Some([own, members]) = value.as_list() else { return Err(wrong("a list of two", value)) };
        let children = match members {
            Value::Null => None,
            Value::List(items) => Some(tuples(items).map_err(|error| error.within("[1]"))?),
            other => return Err(wrong("a list or null", other).within("[1]")),
        };
        let Some([id, parent]) = own.as_list() else { return Err(wrong("a list of two", own).within("[0]")) };
        let id = id.as_str().ok_or_else(|| wrong("text", id).within("[0][0]"))?.to_owned();
        let parent = match parent {
            Value::Null => None,
            Value::Str(id) => Some(Self { id: id.clone(), parent: None, children: None }),
            tuple => Some(Self::from_value(tuple).map_err(|error| error.within("[0][1]"))?),
        };
        Ok(Self { id, parent: parent.map(Box::new), children })
    }

    /// Writes it.
    pub fn to_value(&self) -> Value {
        let parent = self.parent.as_ref().map_or(Value::Null, |parent| parent.to_value());
        let own = Value::List(vec![self.id.as_str().into(), parent]);
        let members = self.children.as_ref().map(|children| children.iter().map(Self::to_value).collect::<Vec<_>>());
        Value::List(vec![own, members.into()])
    }
}

fn tuples(items: &[Value]) -> Result<Vec<ResultTuple>, DecodeError> {
    let tuple = |(index, item): (usize, &Value)| ResultTuple::from_value(item).map_err(|error| error.within(&format!("[{index}]")));
    items.iter().enumerate().map(tuple).collect()
}

fn wrong(what: &str, value: &Value) -> DecodeError {
    DecodeError::new("", format!("must be {what}, is {}", value.kind()))
}
