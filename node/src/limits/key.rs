//! Keys of limits: `{0}`, `{user_id}`, `{tenant}-{region}`, filled from a call's arguments.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use umbel_proto::Invocation;

use crate::executors::command::template::{Arguments, Template};

/// The longest key; what is longer is told apart by its digest.
const KEY_MAX: usize = 200;

/// A key's pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    text: String,
    template: Template,
}

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the key {text:?} {problem}")]
pub struct KeyError {
    text: String,
    problem: String,
}

impl Key {
    /// The key of a call. One whose arguments cannot be read, or lack what the key asks for, shares the empty key with all
    /// others of that kind: a limit is never got around by leaving an argument out.
    pub fn of(&self, invocation: &Invocation) -> String {
        let Ok((args, kwargs)) = invocation.arguments() else { return String::new() };
        let filled = self.template.fill(&Arguments { args: &args, kwargs: &kwargs, known: &[] }).unwrap_or_default();
        if filled.len() <= KEY_MAX { filled } else { sha1_smol::Sha1::from(filled).digest().to_string() }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        match Template::parse(&text) {
            Ok(template) => Ok(Self { text, template }),
            Err(problem) => Err(KeyError { text, problem }),
        }
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.text
    }
}
