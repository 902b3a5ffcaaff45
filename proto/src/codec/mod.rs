//! Serializers and compressions, wire contract §1.4.

mod compress;
pub mod json;
pub(crate) mod msgpack;
mod pickle;
pub mod record;

use bytes::Bytes;
pub use compress::Compression;

use crate::{DecodeError, EncodeError, Limits, Value, value::special};

/// How a body is serialized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Serializer {
    /// `application/json` with kombu's special values, bare `NaN` and integers of any size.
    #[default]
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
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "application/json" | "json" => Self::Json,
            "application/x-msgpack" | "msgpack" => Self::Msgpack,
            "application/x-yaml" | "yaml" => Self::Yaml,
            "application/x-python-serialize" | "pickle" => Self::Pickle,
            _ => return None,
        })
    }
    /// The content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Msgpack => "application/x-msgpack",
            Self::Yaml => "application/x-yaml",
            Self::Pickle => "application/x-python-serialize",
        }
    }
    /// The content encoding kombu sends with it: `utf-8` or `binary`.
    pub fn content_encoding(self) -> &'static str {
        match self {
            Self::Json | Self::Yaml => "utf-8",
            Self::Msgpack | Self::Pickle => "binary",
        }
    }
    /// Whether Umbel can look inside, or only hands the bytes on.
    pub fn is_opaque(self) -> bool {
        matches!(self, Self::Yaml | Self::Pickle)
    }
    /// Writes `value`, which was made here.
    ///
    /// # Errors
    /// For opaque serializers, for integers beyond 64 bits in msgpack, and in JSON for maps that a reader would take for one of
    /// kombu's special values with an unknown type: such a map cannot be escaped, and makes the whole message or result
    /// unreadable (wire contract §11.14).
    pub fn encode(self, value: &Value) -> Result<Bytes, EncodeError> {
        if self == Self::Json {
            check_special(value)?;
        }
        self.encode_as_is(value)
    }
    /// Writes `value`, which a peer wrote before: unknown special values are handed on, since Python programs can register
    /// types of their own and those who sent one can read it.
    ///
    /// # Errors
    /// For opaque serializers, and for integers beyond 64 bits in msgpack.
    pub fn encode_as_is(self, value: &Value) -> Result<Bytes, EncodeError> {
        match self {
            Self::Json => Ok(json::write(value).into()),
            Self::Msgpack => msgpack::write(value).map(Bytes::from),
            Self::Yaml | Self::Pickle => Err(EncodeError::new(self.content_type(), "only Python writes it")),
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// When the bytes are not of this form, go beyond `limits`, or the serializer is opaque.
    pub fn decode(self, bytes: &[u8], limits: Limits) -> Result<Value, DecodeError> {
        match self {
            Self::Json => json::parse(bytes, limits),
            Self::Msgpack => msgpack::parse(bytes, limits),
            Self::Yaml | Self::Pickle => Err(DecodeError::new("", format!("{} is read by Python only", self.content_type()))),
        }
    }
}

/// Reads plain data; pickles, too, where nothing else can be in them.
///
/// # Errors
/// When the bytes are not of this form, hold anything else, or go beyond `limits`.
pub(crate) fn parse_plain(serializer: Serializer, bytes: &[u8], limits: Limits) -> Result<Value, DecodeError> {
    if serializer == Serializer::Pickle { pickle::parse(bytes, limits) } else { serializer.decode(bytes, limits) }
}

/// Writes plain data; pickles, too.
///
/// # Errors
/// For YAML, and for integers beyond 64 bits in anything but JSON.
pub(crate) fn write_plain(serializer: Serializer, value: &Value) -> Result<Bytes, EncodeError> {
    if serializer == Serializer::Pickle { pickle::write(value).map(Bytes::from) } else { serializer.encode_as_is(value) }
}

fn check_special(value: &Value) -> Result<(), EncodeError> {
    match value {
        Value::List(items) => items.iter().try_for_each(check_special),
        Value::Map(map) => match special::of_map(map) {
            Some((kind, _)) if !special::KNOWN.contains(&kind) => {
                let reason = "a map of exactly \"__type__\" and \"__value__\" is how kombu marks a type, and this type is not one it knows: rename a key";
                Err(EncodeError::new("map", reason))
            }
            _ => map.values().try_for_each(check_special),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
