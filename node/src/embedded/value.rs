//! Values in records: the same tree as [`Value`], bytes, integers of any size and the order of keys included.
//!
//! JSON would lose bytes, msgpack large integers; bincode loses nothing and is the fastest to move.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeSeq};
use umbel_proto::{Map, Value};

/// Writes a borrowed value.
pub(crate) struct ValueRef<'a>(pub(crate) &'a Value);
/// Writes a borrowed map.
pub(crate) struct MapRef<'a>(pub(crate) &'a Map);
/// Writes a borrowed list.
pub(crate) struct ListRef<'a>(pub(crate) &'a [Value]);

/// Reads a value.
pub(crate) struct OwnValue(pub(crate) Value);
/// Reads a map.
pub(crate) struct OwnMap(pub(crate) Map);
/// Reads a list.
pub(crate) struct OwnList(pub(crate) Vec<Value>);

impl Serialize for ValueRef<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        const NAME: &str = "Value";
        match self.0 {
            Value::Null => to.serialize_unit_variant(NAME, 0, "Null"),
            Value::Bool(bool) => to.serialize_newtype_variant(NAME, 1, "Bool", bool),
            Value::Int(int) => to.serialize_newtype_variant(NAME, 2, "Int", int),
            Value::BigInt(digits) => to.serialize_newtype_variant(NAME, 3, "BigInt", digits),
            Value::Float(float) => to.serialize_newtype_variant(NAME, 4, "Float", float),
            Value::Str(text) => to.serialize_newtype_variant(NAME, 5, "Str", text),
            Value::Bytes(bytes) => to.serialize_newtype_variant(NAME, 6, "Bytes", &BytesRef(bytes)),
            Value::List(list) => to.serialize_newtype_variant(NAME, 7, "List", &ListRef(list)),
            Value::Map(map) => to.serialize_newtype_variant(NAME, 8, "Map", &MapRef(map)),
        }
    }
}

impl Serialize for MapRef<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut seq = to.serialize_seq(Some(self.0.len()))?;
        for (key, value) in self.0 {
            seq.serialize_element(&(key, ValueRef(value)))?;
        }
        seq.end()
    }
}

impl Serialize for ListRef<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(ValueRef))
    }
}

struct BytesRef<'a>(&'a [u8]);

impl Serialize for BytesRef<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

/// The variants in the order in which [`ValueRef`] numbers them.
#[derive(Deserialize)]
#[serde(rename = "Value")]
enum Stored {
    Null,
    Bool(bool),
    Int(i64),
    BigInt(Box<str>),
    Float(f64),
    Str(String),
    Bytes(Bytes),
    List(OwnList),
    Map(OwnMap),
}

impl<'de> Deserialize<'de> for OwnValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match Stored::deserialize(from)? {
            Stored::Null => Value::Null,
            Stored::Bool(bool) => Value::Bool(bool),
            Stored::Int(int) => Value::Int(int),
            Stored::BigInt(digits) => Value::BigInt(digits),
            Stored::Float(float) => Value::Float(float),
            Stored::Str(text) => Value::Str(text),
            Stored::Bytes(bytes) => Value::Bytes(bytes.into()),
            Stored::List(list) => Value::List(list.0),
            Stored::Map(map) => Value::Map(map.0),
        }))
    }
}

impl<'de> Deserialize<'de> for OwnList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::<OwnValue>::deserialize(from)?.into_iter().map(|value| value.0).collect()))
    }
}

impl<'de> Deserialize<'de> for OwnMap {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::<(String, OwnValue)>::deserialize(from)?.into_iter().map(|(key, value)| (key, value.0)).collect()))
    }
}
