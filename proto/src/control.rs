//! Remote control: what Celery's `control` and `inspect` send and what they are answered (kombu's pidbox, wire contract §6).

use bytes::Bytes;

use crate::{
    DecodeError, EncodeError, Limits, Map, Value,
    codec::{Serializer, json, parse_plain, write_plain},
};

/// A command to some or all nodes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// The command.
    pub method: String,
    /// Its arguments by name.
    pub arguments: Map,
    /// The nodes it is for; `None` and an empty list are all of them.
    pub destination: Option<Vec<String>>,
    /// What the names of the nodes it is for look like.
    pub pattern: Option<String>,
    /// How `pattern` is read: `glob` or `pcre`.
    pub matcher: Option<String>,
    /// The name of this request in its answers.
    pub ticket: Option<String>,
    /// Where answers go; without it none is wanted.
    pub reply_to: Option<ReplyTo>,
    /// What it is written with. Whoever sends it reads that in answers as well.
    pub serializer: Serializer,
}

/// Where answers go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    /// The exchange: `reply.celery.pidbox`.
    pub exchange: String,
    /// The routing key: the id of the client.
    pub routing_key: String,
}

impl Request {
    /// A command to everybody, without arguments.
    pub fn new(method: impl Into<String>) -> Self {
        Self { method: method.into(), ..Self::default() }
    }

    /// Reads the body of a message. Celery writes it with the application's `task_serializer` (`celery/app/control.py`, class `Control`),
    /// so it may be a pickle; of those, only plain data is read. Keys that are not known are none of ours.
    ///
    /// # Errors
    /// Names the key that is missing or of the wrong type, or why the body cannot be read.
    pub fn parse(content_type: &str, bytes: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        let within = |error: DecodeError| error.within("control");
        let serializer = Serializer::by_name(content_type);
        let serializer = serializer.ok_or_else(|| within(DecodeError::new("", format!("unknown content type {content_type:?}"))))?;
        let mut map = match parse_plain(serializer, bytes, limits).map_err(within)? {
            Value::Map(map) => map,
            other => return Err(within(wrong("", "a map", &other))),
        };
        let method = text(&mut map, "method").map_err(within)?.ok_or_else(|| within(DecodeError::new("method", "is missing")))?;
        let arguments = match map.swap_remove("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Map(arguments)) => arguments,
            Some(other) => return Err(within(wrong("arguments", "a map", &other))),
        };
        Ok(Self {
            method,
            arguments,
            destination: destination(map.swap_remove("destination")).map_err(within)?,
            pattern: text(&mut map, "pattern").map_err(within)?,
            matcher: text(&mut map, "matcher").map_err(within)?,
            ticket: text(&mut map, "ticket").map_err(within)?,
            reply_to: reply_to(map.swap_remove("reply_to")).map_err(within)?,
            serializer,
        })
    }

    /// The body of a message in JSON, keys in kombu's order.
    pub fn write(&self) -> Vec<u8> {
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        let list = |names: &Vec<String>| Value::List(names.iter().map(|name| name.as_str().into()).collect());
        let mut map = Map::with_capacity(7);
        map.insert("method".to_owned(), self.method.as_str().into());
        map.insert("arguments".to_owned(), Value::Map(self.arguments.clone()));
        map.insert("destination".to_owned(), self.destination.as_ref().map_or(Value::Null, list));
        map.insert("pattern".to_owned(), text(&self.pattern));
        map.insert("matcher".to_owned(), text(&self.matcher));
        if let Some(ReplyTo { exchange, routing_key }) = &self.reply_to {
            map.insert("ticket".to_owned(), text(&self.ticket));
            let to = [("exchange".to_owned(), exchange.as_str().into()), ("routing_key".to_owned(), routing_key.as_str().into())];
            map.insert("reply_to".to_owned(), Value::Map(Map::from_iter(to)));
        }
        json::write(&Value::Map(map))
    }
}

/// Reads the body of an answer: who says what.
///
/// # Errors
/// When it is not that.
pub fn parse_reply(bytes: &[u8], limits: Limits) -> Result<Vec<(String, Value)>, DecodeError> {
    match json::parse(bytes, limits).map_err(|error| error.within("reply"))? {
        Value::Map(map) => Ok(map.into_iter().collect()),
        other => Err(wrong("", "a map", &other).within("reply")),
    }
}

/// The body of an answer.
///
/// # Errors
/// For serializers that only Python writes, and for integers beyond 64 bits in anything but JSON.
pub fn write_reply(node: &str, reply: Value, serializer: Serializer) -> Result<Bytes, EncodeError> {
    write_plain(serializer, &Value::Map(Map::from_iter([(node.to_owned(), reply)])))
}

fn wrong(field: &str, what: &str, value: &Value) -> DecodeError {
    DecodeError::new(field, format!("must be {what}, is {}", value.kind()))
}

fn text(map: &mut Map, name: &str) -> Result<Option<String>, DecodeError> {
    match map.swap_remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(name, "text", &other)),
    }
}

fn destination(value: Option<Value>) -> Result<Option<Vec<String>>, DecodeError> {
    let name = |value: Value| match value {
        Value::Str(name) => Ok(name),
        other => Err(wrong("destination", "a list of names", &other)),
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::List(names)) => names.into_iter().map(name).collect::<Result<Vec<_>, _>>().map(Some),
        Some(one) => name(one).map(|name| Some(vec![name])),
    }
}

fn reply_to(value: Option<Value>) -> Result<Option<ReplyTo>, DecodeError> {
    let mut map = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Map(map)) => map,
        Some(other) => return Err(wrong("reply_to", "a map", &other)),
    };
    let mut part = |name: &str| {
        let text = text(&mut map, name).and_then(|text| text.ok_or_else(|| DecodeError::new(name, "is missing")));
        text.map_err(|error| error.within("reply_to"))
    };
    Ok(Some(ReplyTo { exchange: part("exchange")?, routing_key: part("routing_key")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json";

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = Request {
            method: "ping".to_owned(),
            arguments: Map::from_iter([("safe".to_owned(), Value::Bool(true))]),
            destination: Some(vec!["celery@a".to_owned()]),
            pattern: Some("c*".to_owned()),
            matcher: Some("glob".to_owned()),
            ticket: Some("t".to_owned()),
            reply_to: Some(ReplyTo { exchange: "reply.celery.pidbox".to_owned(), routing_key: "o".to_owned() }),
            serializer: Serializer::Json,
        };
        assert_eq!(Request::parse(JSON, &request.write(), Limits::default()).unwrap(), request);
        let cast = Request::new("shutdown");
        assert_eq!(Request::parse(JSON, &cast.write(), Limits::default()).unwrap(), cast);
        assert!(!String::from_utf8(cast.write()).unwrap().contains("reply_to"));
    }

    #[test]
    fn what_celery_tolerates_is_taken() {
        let request =
            Request::parse(JSON, br#"{"method":"ping","arguments":null,"destination":"a","unknown":[1]}"#, Limits::default()).unwrap();
        assert_eq!((request.arguments.len(), request.destination), (0, Some(vec!["a".to_owned()])));
    }

    #[test]
    fn faults_are_named() {
        for (text, field) in [
            ("7", "control"),
            ("{}", "control.method"),
            (r#"{"method":1}"#, "control.method"),
            (r#"{"method":"a","arguments":[]}"#, "control.arguments"),
            (r#"{"method":"a","destination":[1]}"#, "control.destination"),
            (r#"{"method":"a","reply_to":{"exchange":"e"}}"#, "control.reply_to.routing_key"),
            (r#"{"method":"a","reply_to":1}"#, "control.reply_to"),
        ] {
            assert_eq!(Request::parse(JSON, text.as_bytes(), Limits::default()).unwrap_err().field, field, "{text}");
        }
        assert!(Request::parse(JSON, b"\xff{", Limits::default()).is_err());
    }

    #[test]
    fn answers_name_their_node() {
        let reply = || Value::Map(Map::from_iter([("ok".to_owned(), "pong".into())]));
        for serializer in [Serializer::Msgpack, Serializer::Pickle] {
            let bytes = write_reply("celery@a", reply(), serializer).unwrap();
            let read = parse_plain(serializer, &bytes, Limits::default()).unwrap();
            assert_eq!(read, Value::Map(Map::from_iter([("celery@a".to_owned(), reply())])));
        }
        assert!(write_reply("celery@a", reply(), Serializer::Yaml).is_err());
        let bytes = write_reply("celery@a", reply(), Serializer::Json).unwrap();
        assert_eq!(bytes, &br#"{"celery@a":{"ok":"pong"}}"#[..]);
        assert_eq!(parse_reply(&bytes, Limits::default()).unwrap()[0].0, "celery@a");
    }
}
