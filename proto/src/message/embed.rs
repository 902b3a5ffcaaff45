//! The third part of a body: what follows a task.

use super::Embed;
use crate::{DecodeError, Map, Signature, Value};

impl Embed {
    /// Reads `{"callbacks", "errbacks", "chain", "chord"}`; null and missing keys mean that nothing follows.
    pub(super) fn read(value: Value) -> Result<Self, DecodeError> {
        let map = match value {
            Value::Null => return Ok(Self::default()),
            Value::Map(map) => map,
            other => return Err(super::headers::wrong("a map", &other)),
        };
        let mut embed = Self::default();
        for (name, value) in map {
            embed.set(&name, value).map_err(|error| error.within(&name))?;
        }
        Ok(embed)
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), DecodeError> {
        match name {
            "callbacks" => self.callbacks = signatures(value)?,
            "errbacks" => self.errbacks = signatures(value)?,
            "chain" => self.chain = signatures(value)?,
            "chord" if value.is_null() => {}
            "chord" => self.chord = Some(Box::new(Signature::from_owned(value)?)),
            _ => {
                self.other.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// Whether nothing follows.
    pub fn is_empty(&self) -> bool {
        self.callbacks.is_empty() && self.errbacks.is_empty() && self.chain.is_empty() && self.chord.is_none() && self.other.is_empty()
    }

    pub(super) fn write(&self) -> Value {
        let list = |signatures: &[Signature]| match signatures {
            [] => Value::Null,
            some => Value::List(some.iter().map(Signature::to_value).collect()),
        };
        let mut map = Map::with_capacity(4 + self.other.len());
        map.insert("callbacks".to_owned(), list(&self.callbacks));
        map.insert("errbacks".to_owned(), list(&self.errbacks));
        map.insert("chain".to_owned(), list(&self.chain));
        map.insert("chord".to_owned(), self.chord.as_ref().map_or(Value::Null, |body| body.to_value()));
        map.extend(self.other.iter().map(|(name, value)| (name.clone(), value.clone())));
        Value::Map(map)
    }
}

/// A list of signatures. A single one outside a list is refused: Celery runs the task first and then fails it.
fn signatures(value: Value) -> Result<Vec<Signature>, DecodeError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::List(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| Signature::from_owned(item).map_err(|error| error.within(&format!("[{index}]"))))
            .collect(),
        other => Err(super::headers::wrong("a list of signatures", &other)),
    }
}
