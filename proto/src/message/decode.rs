//! Envelope to invocation.

use std::sync::LazyLock;

use bytes::Bytes;

use super::{Body, Embed, Envelope, Headers, Invocation, Properties, Raw, split, v1};
use crate::{
    DecodeError, Limits, Map, Value,
    codec::{Compression, Serializer},
};

/// The encodings of text that are UTF-8, and the names kombu has for "not text".
const ENCODINGS: [&str; 6] = ["utf-8", "utf8", "us-ascii", "ascii", "binary", "ascii-8bit"];

/// What follows a body that cannot be looked into.
static NOTHING: LazyLock<Embed> = LazyLock::new(Embed::default);

impl Invocation {
    /// Understands an envelope: protocol 2, or protocol 1 upgraded.
    ///
    /// # Errors
    /// Names the field that is not as it should be. Nothing of the message's content is in the error.
    pub fn decode(envelope: &Envelope, limits: Limits) -> Result<Self, DecodeError> {
        let properties = Properties::read(&envelope.properties).map_err(|error| error.within("properties"))?;
        if envelope.content_type.is_empty() {
            return Err(DecodeError::new("content-type", "is missing"));
        }
        let serializer = Serializer::by_name(&envelope.content_type).filter(|serializer| !serializer.is_opaque());
        let encoding = envelope.content_encoding.to_ascii_lowercase();
        if !encoding.is_empty() && !ENCODINGS.contains(&encoding.as_str()) {
            return Err(DecodeError::new("content-encoding", "is neither utf-8 nor binary"));
        }
        let (headers, body) = if envelope.headers.contains_key("task") {
            let headers = Headers::read(&envelope.headers).map_err(|error| error.within("headers"))?;
            let bytes = plain(envelope, limits)?;
            let body = match serializer {
                None => {
                    let (content_type, content_encoding) = (envelope.content_type.clone(), envelope.content_encoding.clone());
                    Body::Opaque { content_type, content_encoding, bytes }
                }
                Some(serializer) => split::split(serializer, &bytes, limits)?,
            };
            (headers, body)
        } else {
            let serializer = serializer.ok_or_else(v1::unknown)?;
            let body = serializer.decode(&plain(envelope, limits)?, limits).map_err(|error| error.within("body"))?;
            v1::upgrade(serializer, body)?
        };
        Ok(Self { headers, properties, body })
    }

    /// The positional and keyword arguments.
    ///
    /// # Errors
    /// When the body is opaque or its parts are not a list and a map.
    pub fn arguments(&self) -> Result<(Vec<Value>, Map), DecodeError> {
        let Body::Parts { args, kwargs, .. } = &self.body else {
            return Err(DecodeError::new("body", "is in a serializer that only Python reads"));
        };
        let decode = |raw: &Raw, field: &str| raw.decode().map_err(|error| error.within(field));
        match (decode(args, "body[0]")?, decode(kwargs, "body[1]")?) {
            (Value::List(args), Value::Map(kwargs)) => Ok((args, kwargs)),
            (Value::List(_), _) => Err(DecodeError::new("body[1]", "must be a map")),
            _ => Err(DecodeError::new("body[0]", "must be a list")),
        }
    }

    /// What follows; empty for opaque bodies.
    pub fn embed(&self) -> &Embed {
        match &self.body {
            Body::Parts { embed, .. } => embed,
            Body::Opaque { .. } => &NOTHING,
        }
    }
}

/// The body, decompressed.
fn plain(envelope: &Envelope, limits: Limits) -> Result<Bytes, DecodeError> {
    if envelope.body.len() > limits.size_bytes {
        let reason = format!("{} bytes, more than the limit of {}", envelope.body.len(), limits.size_bytes);
        return Err(DecodeError::new("body", reason));
    }
    match envelope.headers.get("compression") {
        None | Some(Value::Null) => Ok(envelope.body.clone()),
        Some(name) => {
            let compression = name
                .as_str()
                .and_then(Compression::by_name)
                .ok_or_else(|| DecodeError::new("headers.compression", "is not one of zlib, bzip2, lzma, brotli and zstd"))?;
            compression.decompress(&envelope.body, limits).map_err(|error| error.within("body"))
        }
    }
}
