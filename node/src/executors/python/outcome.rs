//! The end of a run, from the frame that tells it.

use serde::Deserialize;
use umbel_proto::{Limits, Map, Options, Outcome, ResultTuple, Retry, Signature, TaskError, Value, codec::Serializer};

use super::frame::{Frame, Whose};

/// The head of a frame that tells how a run ended: `bootstrap/tracer.py::Ending`.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    /// Which run.
    pub(super) run: u64,
    /// How long it took, in microseconds, where the process has looked.
    pub(super) took: Option<u64>,
    outcome: Kind,
    /// Whether its process should be replaced.
    #[serde(default)]
    pub(super) retire: bool,
    /// Whether its process has stored the end itself.
    #[serde(default)]
    pub(super) delegated: bool,
    content_type: Option<String>,
    #[serde(default)]
    children: Vec<serde_json::Value>,
    traceback: Option<String>,
    #[serde(default)]
    expected: bool,
    countdown: Option<f64>,
    #[serde(default)]
    requeue: bool,
    #[serde(default)]
    reason: String,
    /// Why the rest of the head cannot be read.
    #[serde(skip)]
    problem: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Success,
    Failure,
    Retry,
    Ignore,
    Reject,
    Replace,
}

impl Done {
    /// Reads the head of `frame`. Where that cannot be read but says whose end it is, that one has ended all the same.
    ///
    /// # Errors
    /// When nobody can tell whose end it is.
    pub(super) fn read(frame: &Frame) -> Result<Self, String> {
        serde_json::from_slice(&frame.head).or_else(|error| match serde_json::from_slice(&frame.head) {
            Ok(Whose { run }) => Ok(Self::unreadable(run, error.to_string())),
            Err(_) => Err(format!("it told the end of a run as no one can: {error}")),
        })
    }

    fn unreadable(run: u64, problem: String) -> Self {
        Self {
            run,
            took: None,
            outcome: Kind::Failure,
            retire: false,
            delegated: false,
            content_type: None,
            children: Vec::new(),
            traceback: None,
            expected: false,
            countdown: None,
            requeue: false,
            reason: String::new(),
            problem: Some(problem),
        }
    }

    /// What the run came to. What cannot be understood is the task's failure: its process has done its part.
    pub(super) fn outcome(self, frame: &Frame) -> Outcome {
        let delegated = self.delegated;
        let outcome = self.read_outcome(frame).unwrap_or_else(|problem| {
            Outcome::Failure(TaskError::new("kombu.exceptions", "DecodeError", format!("the task's end cannot be read: {problem}")))
        });
        if delegated { Outcome::Delegated(Box::new(outcome)) } else { outcome }
    }

    fn read_outcome(self, frame: &Frame) -> Result<Outcome, String> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let plain = |serializer: Serializer| serializer.decode(&frame.payload, Limits::default()).map_err(|error| error.to_string());
        Ok(match self.outcome {
            Kind::Success => {
                let content_type = self.content_type.as_deref().unwrap_or("application/json");
                let serializer = Serializer::by_name(content_type).ok_or_else(|| format!("unknown content type {content_type:?}"))?;
                Outcome::Success { value: plain(serializer)?, children: self.children.iter().filter_map(child).collect() }
            }
            Kind::Failure => {
                let mut error = TaskError::from_value(&plain(Serializer::Json)?).map_err(|error| error.to_string())?;
                error.traceback = self.traceback;
                error.expected = self.expected;
                Outcome::Failure(error)
            }
            Kind::Retry => Outcome::Retry(retry(plain(Serializer::Json)?, self.countdown, self.traceback)?),
            Kind::Ignore => Outcome::Ignore,
            Kind::Reject => Outcome::Reject { requeue: self.requeue, reason: self.reason },
            Kind::Replace => {
                let signature = Signature::from_value(&plain(Serializer::Json)?).map_err(|error| error.to_string())?;
                Outcome::Replace(Box::new(signature))
            }
        })
    }
}

/// A result among the children; what is none is left out: it is for people who look at trees.
fn child(json: &serde_json::Value) -> Option<ResultTuple> {
    let value = Value::from_serialize(json).ok()?;
    ResultTuple::from_value(&value).ok()
}

/// Where the process has counted the attempts, as the task's own class may do it in its own way, there is no bound left to look at.
fn retry(said: Value, countdown_secs: Option<f64>, traceback: Option<String>) -> Result<Retry, String> {
    let Value::Map(mut said) = said else { return Err("a retry that is no map".to_owned()) };
    let mut take = |key: &str| said.swap_remove(key).filter(|value| !value.is_null());
    let error = match take("error") {
        None => None,
        Some(value) => {
            let mut error = TaskError::from_value(&value).map_err(|error| error.to_string())?;
            error.traceback = traceback;
            Some(error)
        }
    };
    let args = match take("args") {
        None => None,
        Some(Value::List(args)) => Some(args),
        Some(_) => return Err("arguments that are no list".to_owned()),
    };
    let max_retries = take("counted").map(|_| None);
    let map = |value: Option<Value>| match value {
        None => Ok(None),
        Some(Value::Map(map)) => Ok(Some(map)),
        Some(_) => Err("keyword arguments or options that are no map".to_owned()),
    };
    let kwargs: Option<Map> = map(take("kwargs"))?;
    let options = Options(map(take("options"))?.unwrap_or_default());
    Ok(Retry { error, countdown_secs, args, kwargs, max_retries, automatic: false, options })
}
