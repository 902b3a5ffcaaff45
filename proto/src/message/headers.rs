//! The header table of a task message: wire contract §1.1.

use super::{Headers, TimeLimit};
use crate::{DecodeError, Map, TaskId, TaskName, Timestamp, Value};

impl Headers {
    /// The headers of a first call of `task`, all else at its default.
    pub fn new(task: TaskName, id: TaskId) -> Self {
        Self {
            lang: "rust".to_owned(),
            task,
            id,
            shadow: None,
            eta: None,
            expires: None,
            group: None,
            group_index: None,
            retries: 0,
            timelimit: TimeLimit::default(),
            root_id: None,
            parent_id: None,
            argsrepr: None,
            kwargsrepr: None,
            origin: None,
            ignore_result: None,
            replaced_task_nesting: 0,
            stamped_headers: None,
            stamps: Map::new(),
            other: Map::new(),
        }
    }

    /// Reads the table; unknown headers go to `other`. (`compression` says how to read the body and is no part of the task.)
    pub(super) fn read(table: &Map) -> Result<Self, DecodeError> {
        let task = required(table, "task")?;
        let id = required(table, "id")?;
        let mut headers = Self::new(task.into(), id.into());
        "py".clone_into(&mut headers.lang);
        for (name, value) in table {
            if !value.is_null() {
                headers.set(name, value).map_err(|error| error.within(name))?;
            } else if !KNOWN.contains(&name.as_str()) {
                headers.other.insert(name.clone(), Value::Null);
            }
        }
        Ok(headers)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), DecodeError> {
        match name {
            "task" | "id" | "compression" => {}
            "lang" => self.lang = text(value)?.to_owned(),
            "shadow" => self.shadow = Some(text(value)?.to_owned()),
            "eta" => self.eta = Some(Timestamp::parse(text(value)?)?),
            "expires" => self.expires = Some(Timestamp::parse(text(value)?)?),
            "group" => self.group = Some(text(value)?.into()),
            "group_index" => self.group_index = Some(value.as_i64().ok_or_else(|| wrong("an integer", value))?),
            "retries" => self.retries = count(value)?,
            "timelimit" => self.timelimit = time_limit(value)?,
            "root_id" => self.root_id = Some(text(value)?.into()),
            "parent_id" => self.parent_id = Some(text(value)?.into()),
            "argsrepr" => self.argsrepr = Some(text(value)?.to_owned()),
            "kwargsrepr" => self.kwargsrepr = Some(text(value)?.to_owned()),
            "origin" => self.origin = Some(text(value)?.to_owned()),
            "ignore_result" => self.ignore_result = Some(value.as_bool().ok_or_else(|| wrong("a boolean", value))?),
            "replaced_task_nesting" => self.replaced_task_nesting = count(value)?,
            "stamped_headers" => self.stamped_headers = Some(texts(value)?),
            "stamps" => self.stamps = value.as_map().ok_or_else(|| wrong("a map", value))?.clone(),
            _ => {
                self.other.insert(name.to_owned(), value.clone());
            }
        }
        Ok(())
    }

    /// The table, in Celery's order.
    ///
    /// What is absent is written as null, as Celery does, except where an absent header and a null one have meant different
    /// things to some version (`ignore_result`) and where there is nothing to say (the `repr`s and `origin`). What a broker
    /// added about earlier deaths of the message is left behind.
    pub(super) fn write(&self) -> Map {
        let mut table = Map::with_capacity(20 + self.other.len());
        let mut put = |name: &str, value: Value| {
            table.insert(name.to_owned(), value);
        };
        put("lang", self.lang.as_str().into());
        put("task", self.task.as_str().into());
        put("id", self.id.as_str().into());
        put("shadow", self.shadow.as_deref().into());
        put("eta", self.eta.as_ref().map(Timestamp::as_str).into());
        put("expires", self.expires.as_ref().map(Timestamp::as_str).into());
        put("group", self.group.as_ref().map(|id| id.as_str()).into());
        put("group_index", self.group_index.into());
        put("retries", self.retries.into());
        put("timelimit", Value::List(vec![seconds(self.timelimit.hard_secs), seconds(self.timelimit.soft_secs)]));
        put("root_id", self.root_id.as_ref().map(|id| id.as_str()).into());
        put("parent_id", self.parent_id.as_ref().map(|id| id.as_str()).into());
        for (name, text) in [("argsrepr", &self.argsrepr), ("kwargsrepr", &self.kwargsrepr), ("origin", &self.origin)] {
            if let Some(text) = text {
                put(name, text.as_str().into());
            }
        }
        if let Some(ignore) = self.ignore_result {
            put("ignore_result", ignore.into());
        }
        put("replaced_task_nesting", self.replaced_task_nesting.into());
        let names = self.stamped_headers.as_ref().map(|names| names.iter().map(|name| name.as_str().into()).collect::<Vec<Value>>());
        put("stamped_headers", names.into());
        put("stamps", Value::Map(self.stamps.clone()));
        for (name, value) in &self.other {
            if !is_death(name) && !KNOWN.contains(&name.as_str()) {
                put(name, value.clone());
            }
        }
        table
    }
}

const KNOWN: [&str; 20] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
];

/// Whether RabbitMQ wrote this header when the message died in another queue.
fn is_death(name: &str) -> bool {
    name == "x-death" || name.starts_with("x-first-death-") || name.starts_with("x-last-death-")
}

/// A text that must be there and not be empty.
fn required<'a>(table: &'a Map, name: &str) -> Result<&'a str, DecodeError> {
    match table.get(name) {
        Some(Value::Str(text)) if !text.is_empty() => Ok(text),
        Some(Value::Str(_)) => Err(DecodeError::new(name, "is empty")),
        Some(other) => Err(wrong("text", other).within(name)),
        None => Err(DecodeError::new(name, "is missing")),
    }
}

pub(super) fn wrong(what: &str, value: &Value) -> DecodeError {
    DecodeError::new("", format!("must be {what}, is {}", value.kind()))
}

pub(super) fn text(value: &Value) -> Result<&str, DecodeError> {
    value.as_str().ok_or_else(|| wrong("text", value))
}

fn texts(value: &Value) -> Result<Vec<String>, DecodeError> {
    let items = value.as_list().ok_or_else(|| wrong("a list of names", value))?;
    items
        .iter()
        .enumerate()
        .map(|(index, item)| text(item).map(str::to_owned).map_err(|error| error.within(&format!("[{index}]"))))
        .collect()
}

/// A count; Celery also takes its digits as text.
fn count(value: &Value) -> Result<u32, DecodeError> {
    let count = match value {
        Value::Int(int) => u32::try_from(*int).ok(),
        Value::Str(digits) => digits.parse().ok(),
        _ => None,
    };
    count.ok_or_else(|| DecodeError::new("", "must be a count from 0 to 4294967295"))
}

/// `[hard, soft]`, each in seconds or null; Celery also takes their digits as text.
fn time_limit(value: &Value) -> Result<TimeLimit, DecodeError> {
    let limit = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::Str(digits) => digits.parse::<f64>().map(Some).map_err(|_| ()),
        value => value.as_f64().map(Some).ok_or(()),
    };
    match value.as_list() {
        Some([hard, soft]) => match (limit(hard), limit(soft)) {
            (Ok(hard_secs), Ok(soft_secs)) if [hard_secs, soft_secs].iter().flatten().all(|secs| secs.is_finite()) => {
                Ok(TimeLimit { hard_secs, soft_secs })
            }
            _ => Err(DecodeError::new("", "must be two limits in seconds or null, hard first")),
        },
        _ => Err(wrong("a list of two limits, hard first", value)),
    }
}

/// Whole seconds as the integer they came as.
fn seconds(secs: Option<f64>) -> Value {
    match secs {
        None => Value::Null,
        Some(secs) if secs.fract() == 0.0 && secs.abs() < 9e15 => Value::Int(secs as i64),
        Some(secs) => Value::Float(secs),
    }
}
