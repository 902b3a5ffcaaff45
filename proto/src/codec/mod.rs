//! Serializers and compressions, wire contract §1.4.

pub mod record;

use bytes::Bytes;

use crate::{DecodeError, EncodeError, Limits, Value};

/// How a body is serialized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Serializer {
    /// `application/json` with kombu's special values, bare `NaN` and integers of any size.
    Json,
    /// `application/x-msgpack`.
    Msgpack,
    /// `application/x-yaml`: kept opaque.
    Yaml,
    /// `application/x-python-serialize`: kept opaque, never executed.
    Pickle,
}

impl Serializer {
    /// By content type (`application/json`) or Celery's short name (`json`).
    pub fn by_name(_name: &str) -> Option<Self> {
        todo!()
    }
    /// The content type.
    pub fn content_type(self) -> &'static str {
        todo!()
    }
    /// The content encoding kombu sends with it: `utf-8` or `binary`.
    pub fn content_encoding(self) -> &'static str {
        todo!()
    }
    /// Whether Umbel can look inside, or only hands the bytes on.
    pub fn is_opaque(self) -> bool {
        todo!()
    }
    /// Writes `value`.
    ///
    /// # Errors
    /// For opaque serializers, and for maps that a reader would take for one of kombu's special values with an unknown type.
    pub fn encode(self, _value: &Value) -> Result<Bytes, EncodeError> {
        todo!()
    }
    /// Reads a value.
    ///
    /// # Errors
    /// When the bytes are not of this form, go beyond `limits`, or the serializer is opaque.
    pub fn decode(self, _bytes: &[u8], _limits: Limits) -> Result<Value, DecodeError> {
        todo!()
    }
}

/// How a body is compressed; the names are those of the `compression` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// `application/x-gzip`: a zlib stream, whatever the name says.
    Zlib,
    /// `application/x-bz2`.
    Bzip2,
    /// `application/x-lzma`: an .xz container.
    Xz,
    /// `application/x-brotli`.
    Brotli,
    /// `application/zstd`.
    Zstd,
}

impl Compression {
    /// By header value or any of kombu's aliases.
    pub fn by_name(_name: &str) -> Option<Self> {
        todo!()
    }
    /// The header value.
    pub fn content_type(self) -> &'static str {
        todo!()
    }
    /// Compresses.
    ///
    /// # Errors
    /// When the library fails.
    pub fn compress(self, _bytes: &[u8]) -> Result<Bytes, EncodeError> {
        todo!()
    }
    /// Decompresses, never to more than `limits.size_bytes`.
    ///
    /// # Errors
    /// When the bytes are damaged or would grow beyond the limit.
    pub fn decompress(self, _bytes: &[u8], _limits: Limits) -> Result<Bytes, DecodeError> {
        todo!()
    }
}

/// JSON as Python writes and reads it.
pub mod json {
    use crate::{DecodeError, Limits, Value};

    /// Parses a document.
    ///
    /// # Errors
    /// When it is not JSON (with Python's extensions) or beyond `limits`.
    pub fn parse(_bytes: &[u8], _limits: Limits) -> Result<Value, DecodeError> {
        todo!()
    }
    /// Writes a document, compact, ASCII-escaped as Python does.
    pub fn write(_value: &Value) -> Vec<u8> {
        todo!()
    }
}
