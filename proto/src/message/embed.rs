//! The third part of a body: what follows a task.

use bytes::Bytes;

use super::{Chain, Embed};
use crate::{DecodeError, Limits, Map, Signature, Value, codec::json};

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

    /// [`Embed::read`] from JSON.
    pub(super) fn read_json(bytes: &Bytes, limits: Limits) -> Result<Self, DecodeError> {
        let mut scanner = json::Scanner::new(bytes, limits.depth)?;
        if scanner.peek() != b'{' {
            return Self::read(json::parse(bytes, limits)?);
        }
        scanner.expect(b'{')?;
        let mut embed = Self::default();
        let mut first = true;
        while !scanner.take(b'}') {
            if !std::mem::take(&mut first) {
                scanner.expect(b',')?;
            }
            let name = scanner.entry()?;
            let within = |error: DecodeError| error.within(&name);
            if name == "chain" && scanner.peek() == b'[' {
                embed.chain = Chain::read_json(&mut scanner, bytes).map_err(within)?;
            } else {
                let (_, value) = scanner.value().map_err(within)?;
                embed.set(&name, value).map_err(within)?;
            }
        }
        Ok(embed)
    }

    /// [`Embed::write`] as JSON.
    pub(super) fn write_json(&self) -> String {
        let mut out = String::with_capacity(256);
        out.push_str("{\"callbacks\":");
        json::push(&list(&self.callbacks), &mut out);
        out.push_str(",\"errbacks\":");
        json::push(&list(&self.errbacks), &mut out);
        out.push_str(",\"chain\":");
        self.chain.push_json(&mut out);
        out.push_str(",\"chord\":");
        match &self.chord {
            None => out.push_str("null"),
            Some(body) => json::push(&body.to_value(), &mut out),
        }
        for (name, value) in &self.other {
            out.push(',');
            json::push_text(name, &mut out);
            out.push(':');
            json::push(value, &mut out);
        }
        out.push('}');
        out
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), DecodeError> {
        match name {
            "callbacks" => self.callbacks = signatures(value)?,
            "errbacks" => self.errbacks = signatures(value)?,
            "chain" => self.chain = signatures(value)?.into(),
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
        let mut map = Map::with_capacity(4 + self.other.len());
        map.insert("callbacks".to_owned(), list(&self.callbacks));
        map.insert("errbacks".to_owned(), list(&self.errbacks));
        map.insert("chain".to_owned(), self.chain.to_value());
        map.insert("chord".to_owned(), self.chord.as_ref().map_or(Value::Null, |body| body.to_value()));
        map.extend(self.other.iter().map(|(name, value)| (name.clone(), value.clone())));
        Value::Map(map)
    }
}

/// The list; null if nothing follows.
fn list(signatures: &[Signature]) -> Value {
    match signatures {
        [] => Value::Null,
        some => Value::List(some.iter().map(Signature::to_value).collect()),
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
