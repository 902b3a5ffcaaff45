//! The envelope in a Redis list: wire contract §2.1.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};

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

/// The parts of an envelope, as far as they have been seen.
#[derive(Default)]
struct Parts<'a> {
    body: Option<Part<'a>>,
    content_type: Option<Part<'a>>,
    content_encoding: Option<Part<'a>>,
    headers: Option<Part<'a>>,
    properties: Option<Part<'a>>,
}

/// Text where it lies, or anything else that has been built.
enum Part<'a> {
    Text(Cow<'a, str>),
    Value(Value),
}

impl<'a> Parts<'a> {
    /// Reads the value of key `name`. Keys that kombu does not have are passed over.
    fn set(&mut self, name: &str, scanner: &mut json::Scanner<'a>) -> Result<(), DecodeError> {
        let part = match name {
            "body" => &mut self.body,
            "content-type" => &mut self.content_type,
            "content-encoding" => &mut self.content_encoding,
            "headers" => &mut self.headers,
            "properties" => &mut self.properties,
            _ => return scanner.skip().map(drop),
        };
        *part = match scanner.peek() {
            b'"' => Some(Part::Text(json::text(scanner)?)),
            _ => Some(Part::Value(json::value(scanner)?)).filter(|part| !matches!(part, Part::Value(Value::Null))),
        };
        Ok(())
    }

    fn finish(self) -> Result<Envelope, DecodeError> {
        let body = text(self.body, "body")?.ok_or_else(|| DecodeError::new("body", "is missing"))?;
        let content_type = text(self.content_type, "content-type")?.ok_or_else(|| DecodeError::new("content-type", "is missing"))?;
        let content_encoding = text(self.content_encoding, "content-encoding")?.unwrap_or(Cow::Borrowed("utf-8"));
        let headers = table(self.headers, "headers")?;
        let mut properties = table(self.properties, "properties")?;
        for name in ["delivery_tag", "delivery_info"] {
            if properties.get(name).is_none_or(Value::is_null) {
                return Err(DecodeError::new(name, "is missing").within("properties"));
            }
        }
        let body = match properties.shift_remove("body_encoding").as_ref().map(Value::as_str) {
            Some(Some("base64")) => {
                STANDARD.decode(body.as_bytes()).map_err(|_| DecodeError::new("body", "is not base64, though its encoding says so"))?
            }
            _ => body.into_owned().into_bytes(),
        };
        Ok(Envelope {
            body: body.into(),
            content_type: content_type.into_owned(),
            content_encoding: content_encoding.into_owned(),
            headers,
            properties,
        })
    }
}

fn text<'a>(part: Option<Part<'a>>, name: &str) -> Result<Option<Cow<'a, str>>, DecodeError> {
    match part {
        None => Ok(None),
        Some(Part::Text(text)) => Ok(Some(text)),
        Some(Part::Value(other)) => Err(wrong("text", &other).within(name)),
    }
}

fn table(part: Option<Part<'_>>, name: &str) -> Result<Map, DecodeError> {
    match part {
        None => Ok(Map::new()),
        Some(Part::Value(Value::Map(map))) => Ok(map),
        Some(Part::Value(other)) => Err(wrong("a map", &other).within(name)),
        Some(Part::Text(_)) => Err(DecodeError::new(name, "must be a map, is text")),
    }
}

fn scanner(json: &[u8], limits: Limits) -> Result<json::Scanner<'_>, DecodeError> {
    if json.len() > limits.size_bytes {
        return Err(DecodeError::new("", format!("{} bytes, more than the limit of {}", json.len(), limits.size_bytes)));
    }
    json::Scanner::new(json, limits.depth)
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
        let mut scanner = scanner(json, limits).map_err(|error| error.within("envelope"))?;
        let envelope = Self::read(&mut scanner)?;
        scanner.end().map_err(|error| error.within("envelope"))?;
        Ok(envelope)
    }

    /// Reads an envelope at the scanner's position, its body straight from where it lies.
    fn read(scanner: &mut json::Scanner<'_>) -> Result<Self, DecodeError> {
        let mut parts = Parts::default();
        if !scanner.take(b'{') {
            return Err(DecodeError::new("envelope", "must be a map"));
        }
        let syntax = |error: DecodeError| error.within("envelope");
        if !scanner.take(b'}') {
            loop {
                let name = json::text(scanner).map_err(syntax)?;
                scanner.expect(b':').map_err(syntax)?;
                parts.set(&name, scanner).map_err(syntax)?;
                if !scanner.take(b',') {
                    break;
                }
            }
            scanner.expect(b'}').map_err(syntax)?;
        }
        parts.finish()
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
        let whole = |error: DecodeError| error.within("unacked");
        let three = || DecodeError::new("unacked", "must be a list of three: envelope, exchange, routing key");
        let mut scanner = scanner(bytes, limits).map_err(whole)?;
        if !scanner.take(b'[') {
            return Err(three());
        }
        let envelope = Envelope::read(&mut scanner).map_err(|error| error.within("unacked[0]"))?;
        let mut name = |field: &str| {
            if !scanner.take(b',') {
                return Err(three());
            }
            match json::value(&mut scanner).map_err(|error| error.within(field))? {
                Value::Str(text) => Ok(text),
                // kombu writes what the message said; that may be nothing.
                Value::Null => Ok(String::new()),
                other => Err(wrong("text", &other).within(field)),
            }
        };
        let (exchange, routing_key) = (name("unacked[1]")?, name("unacked[2]")?);
        if !scanner.take(b']') {
            return Err(three());
        }
        scanner.end().map_err(whole)?;
        Ok(Self { envelope, exchange, routing_key })
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
