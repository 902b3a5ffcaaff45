//! The envelope in a Redis list: wire contract §2.1.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{Envelope, headers::wrong};
use crate::{DecodeError, Limits, Map, Value, codec::json};

/// A message that was taken and not settled: the value in the hash `unacked`, `[envelope, exchange, routing_key]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Unacked {
    /// The message.
    pub envelope: Envelope,
    /// The exchange it was sent to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
}

impl Envelope {
    /// Reads the JSON that kombu puts into a Redis list (wire contract §2.1).
    ///
    /// What makes a Celery worker exit or reset its connection (no content type, delivery tag or delivery info, a body
    /// that is not base64: §11.1–7) is an error here; what it tolerates is taken.
    ///
    /// # Errors
    /// When it is not that.
    pub fn from_kombu(json: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        Self::from_kombu_value(json::parse(json, limits).map_err(|error| error.within("envelope"))?)
    }

    fn from_kombu_value(value: Value) -> Result<Self, DecodeError> {
        let Value::Map(mut map) = value else { return Err(wrong("a map", &value).within("envelope")) };
        let mut take = |name: &str| map.swap_remove(name).filter(|value| !value.is_null());
        let mut text = |name: &str| match take(name) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(other) => Err(wrong("text", &other).within(name)),
        };
        let body = text("body")?.ok_or_else(|| DecodeError::new("body", "is missing"))?;
        let content_type = text("content-type")?.ok_or_else(|| DecodeError::new("content-type", "is missing"))?;
        let content_encoding = text("content-encoding")?.unwrap_or_else(|| "utf-8".to_owned());
        let mut table = |name: &str| match take(name) {
            None => Ok(Map::new()),
            Some(Value::Map(map)) => Ok(map),
            Some(other) => Err(wrong("a map", &other).within(name)),
        };
        let headers = table("headers")?;
        let mut properties = table("properties")?;
        for name in ["delivery_tag", "delivery_info"] {
            if properties.get(name).is_none_or(Value::is_null) {
                return Err(DecodeError::new(name, "is missing").within("properties"));
            }
        }
        let body = match properties.shift_remove("body_encoding").as_ref().map(Value::as_str) {
            Some(Some("base64")) => {
                Bytes::from(STANDARD.decode(&body).map_err(|_| DecodeError::new("body", "is not base64, though its encoding says so"))?)
            }
            _ => Bytes::from(body),
        };
        Ok(Self { body, content_type, content_encoding, headers, properties })
    }

    /// Writes it.
    pub fn to_kombu(&self) -> Vec<u8> {
        let mut out = String::with_capacity(self.body.len() * 4 / 3 + 1024);
        self.push_kombu(&mut out);
        out.into_bytes()
    }

    fn push_kombu(&self, out: &mut String) {
        out.push_str("{\"body\":\"");
        STANDARD.encode_string(&self.body, out);
        out.push_str("\",\"content-encoding\":");
        json::push_text(&self.content_encoding, out);
        out.push_str(",\"content-type\":");
        json::push_text(&self.content_type, out);
        out.push_str(",\"headers\":");
        push_map(&self.headers, out);
        out.push('}');
        out.push_str(",\"properties\":");
        push_map(&self.properties, out);
        if !self.properties.is_empty() {
            out.push(',');
        }
        out.push_str("\"body_encoding\":\"base64\"}}");
    }
}

/// Appends a map without its closing brace.
fn push_map(map: &Map, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json::push_text(name, out);
        out.push(':');
        json::push(value, out);
    }
}

impl Unacked {
    /// Reads the JSON of an entry of `unacked`.
    ///
    /// # Errors
    /// When it is not that.
    pub fn from_json(bytes: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        let value = json::parse(bytes, limits).map_err(|error| error.within("unacked"))?;
        let Value::List(items) = value else { return Err(wrong("a list of three", &value).within("unacked")) };
        let Ok([envelope, exchange, routing_key]) = <[Value; 3]>::try_from(items) else {
            return Err(DecodeError::new("unacked", "must be a list of three: envelope, exchange, routing key"));
        };
        let text = |value: Value, field: &str| match value {
            Value::Str(text) => Ok(text),
            // kombu writes what the message said; that may be nothing.
            Value::Null => Ok(String::new()),
            other => Err(wrong("text", &other).within(field)),
        };
        let envelope = Envelope::from_kombu_value(envelope).map_err(|error| error.within("unacked[0]"))?;
        Ok(Self { envelope, exchange: text(exchange, "unacked[1]")?, routing_key: text(routing_key, "unacked[2]")? })
    }

    /// Writes it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = String::with_capacity(self.envelope.body.len() * 4 / 3 + 1100);
        out.push('[');
        self.envelope.push_kombu(&mut out);
        out.push(',');
        json::push_text(&self.exchange, &mut out);
        out.push(',');
        json::push_text(&self.routing_key, &mut out);
        out.push(']');
        out.into_bytes()
    }
}
