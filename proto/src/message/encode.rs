//! Invocation to envelope.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Body, Embed, Envelope, Headers, Invocation, Properties, Raw};
use crate::{
    EncodeError, Map, TaskId, TaskName, Value,
    codec::{Compression, Serializer, json},
    repr,
};

impl Invocation {
    /// The envelope that carries this invocation, with `properties.delivery_tag` from `delivery_tag`.
    ///
    /// # Errors
    /// When a value of the embed cannot be written in the body's serializer.
    pub fn encode(&self, delivery_tag: &str, compression: Option<Compression>) -> Result<Envelope, EncodeError> {
        let (content_type, content_encoding, body) = match &self.body {
            Body::Parts { args, kwargs, embed } => {
                let serializer = args.serializer;
                (serializer.content_type().to_owned(), serializer.content_encoding().to_owned(), join(args, kwargs, embed)?)
            }
            Body::Opaque { content_type, content_encoding, bytes } => (content_type.clone(), content_encoding.clone(), bytes.clone()),
        };
        let mut headers = self.headers.write();
        let body = match compression {
            None => body,
            Some(compression) => {
                headers.insert("compression".to_owned(), compression.content_type().into());
                compression.compress(&body)?
            }
        };
        Ok(Envelope { body, content_type, content_encoding, headers, properties: self.properties.write(delivery_tag) })
    }

    /// A new call of `task` with JSON arguments, nothing following, all else at its default.
    ///
    /// # Errors
    /// When an argument cannot be written as JSON.
    pub fn new(task: TaskName, id: TaskId, args: &[Value], kwargs: &Map) -> Result<Self, EncodeError> {
        let mut headers = Headers::new(task, id);
        headers.root_id = Some(headers.id.clone());
        headers.argsrepr = Some(repr::args_repr(args));
        headers.kwargsrepr = Some(repr::kwargs_repr(kwargs));
        let properties = Properties { correlation_id: Some(headers.id.as_str().to_owned()), priority: Some(0), ..Properties::default() };
        let raw = |text: String| Raw { serializer: Serializer::Json, bytes: Bytes::from(text) };
        let mut text = String::from("[");
        for (index, arg) in args.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            json::push(arg, &mut text);
        }
        text.push(']');
        let args = raw(text);
        let mut text = String::from("{");
        for (index, (name, value)) in kwargs.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            json::push_text(name, &mut text);
            text.push(':');
            json::push(value, &mut text);
        }
        text.push('}');
        let body = Body::Parts { args, kwargs: raw(text), embed: Embed::default() };
        Ok(Self { headers, properties, body })
    }
}

/// The body of three parts. Arguments are copied as bytes; only when they are in another serializer than the rest, which
/// takes a caller who mixes them, are they read and written again.
fn join(args: &Raw, kwargs: &Raw, embed: &Embed) -> Result<Bytes, EncodeError> {
    let serializer = args.serializer;
    let kwargs = match kwargs.serializer == serializer {
        true => kwargs.bytes.clone(),
        false => {
            let value = kwargs.decode().map_err(|error| EncodeError::new("body[1]", error.to_string()))?;
            serializer.encode_as_is(&value)?
        }
    };
    let embed = match (embed.is_empty(), serializer) {
        (true, Serializer::Json) => Bytes::from_static(br#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}"#),
        (false, Serializer::Json) => embed.write_json().into(),
        _ => serializer.encode_as_is(&embed.write())?,
    };
    let mut body = BytesMut::with_capacity(args.bytes.len() + kwargs.len() + embed.len() + 4);
    match serializer {
        Serializer::Json => {
            body.put_u8(b'[');
            body.put_slice(&args.bytes);
            body.put_u8(b',');
            body.put_slice(&kwargs);
            body.put_u8(b',');
            body.put_slice(&embed);
            body.put_u8(b']');
        }
        _ => {
            // A msgpack list of three.
            body.put_u8(0x93);
            body.put_slice(&args.bytes);
            body.put_slice(&kwargs);
            body.put_slice(&embed);
        }
    }
    Ok(body.freeze())
}
