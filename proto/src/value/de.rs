//! `serde::Deserializer` over a [`Value`](super::Value).

use serde::{
    de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor},
    forward_to_deserialize_any,
};

use super::{
    Map, Value,
    special::{self, Meaning},
    token,
};
use crate::DecodeError;

pub(super) fn from_value<T: de::DeserializeOwned>(value: Value) -> Result<T, DecodeError> {
    T::deserialize(Source { value, exact: false })
}

impl de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::new("", message.to_string())
    }
    fn missing_field(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(field, format!("is not known here; known are {}", expected.join(", ")))
    }
    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new("", format!("is not one of {}", expected.join(", ")))
    }
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new("", format!("must be {expected}, is {}", kind(&unexpected)))
    }
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new("", format!("must be {expected}, is {} that is not", kind(&unexpected)))
    }
}

/// What was found, without its content: that may be secret, and errors end in logs and results.
fn kind<'a>(unexpected: &Unexpected<'a>) -> &'a str {
    match unexpected {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a float",
        Unexpected::Char(_) | Unexpected::Str(_) => "text",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map",
        Unexpected::Other(kind) => kind,
        _ => "something else",
    }
}

/// A value to be read.
struct Source {
    value: Value,
    /// Whether a [`Value`] asks, which takes special values as the maps they are.
    exact: bool,
}

impl Source {
    fn mismatch<T>(value: &Value, visitor: &dyn de::Expected) -> Result<T, DecodeError> {
        Err(de::Error::invalid_type(Unexpected::Other(value.kind()), visitor))
    }

    /// The value with a special map replaced by what it means.
    fn plain(self) -> Result<Value, DecodeError> {
        match self.value {
            Value::Map(map) if !self.exact => match special::meaning(&map) {
                Some(Ok(Meaning::Text(text))) => Ok(Value::Str(text)),
                Some(Ok(Meaning::Bytes(bytes))) => Ok(Value::Bytes(bytes)),
                Some(Err(error)) => Err(error),
                None => Ok(Value::Map(map)),
            },
            value => Ok(value),
        }
    }
}

impl<'de> de::Deserializer<'de> for Source {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let exact = self.exact;
        match self.plain()? {
            Value::Null => visitor.visit_unit(),
            Value::Bool(bool) => visitor.visit_bool(bool),
            Value::Int(int) => visitor.visit_i64(int),
            Value::BigInt(digits) => match (digits.parse(), digits.parse(), digits.parse()) {
                (Ok(int), _, _) => visitor.visit_u64(int),
                (_, Ok(int), _) => visitor.visit_i128(int),
                (_, _, Ok(int)) => visitor.visit_u128(int),
                _ if exact => visitor.visit_map(Entries::new(Map::from_iter([(token::BIG_INT.to_owned(), Value::Str(digits.into()))]))),
                _ => visitor.visit_string(digits.into()),
            },
            Value::Float(float) => visitor.visit_f64(float),
            Value::Str(text) => visitor.visit_string(text),
            Value::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            Value::List(items) => finish_list(items, visitor),
            Value::Map(map) => visitor.visit_map(Entries::new(map)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(Source { exact: name == token::VALUE, ..self })
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        // `Decimal` is how Python sends money; a type that wants a float gets one.
        let decimal = |map: &Map| special::of_map(map).filter(|(kind, _)| *kind == "decimal")?.1.as_str()?.parse::<f64>().ok();
        match &self.value {
            Value::Map(map) => match decimal(map) {
                Some(float) => visitor.visit_f64(float),
                None => Self::mismatch(&self.value, &visitor),
            },
            Value::BigInt(digits) => visitor.visit_f64(digits.parse().unwrap_or(f64::NAN)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.plain()? {
            Value::List(items) => finish_list(items, visitor),
            // A `Vec<u8>` asks for a list; bytes are one.
            Value::Bytes(bytes) => finish_list(bytes.into_iter().map(|byte| Value::Int(byte.into())).collect(), visitor),
            value => Self::mismatch(&value, &visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _name: &'static str, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Str(variant) => visitor.visit_enum(variant.into_deserializer()),
            Value::Map(map) if map.len() == 1 => match map.into_iter().next() {
                Some((variant, content)) => visitor.visit_enum(Variant { variant, content }),
                None => Err(DecodeError::new("", "no variant")),
            },
            Value::Map(_) => Err(DecodeError::new("", "a variant with content is a map of one key")),
            value => Self::mismatch(&value, &visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct map struct identifier
    }
}

fn finish_list<'de, V: Visitor<'de>>(items: Vec<Value>, visitor: V) -> Result<V::Value, DecodeError> {
    let mut elements = Elements { items: items.into_iter(), index: 0 };
    let value = visitor.visit_seq(&mut elements)?;
    match elements.items.len() {
        0 => Ok(value),
        extra => Err(DecodeError::new(format!("[{}]", elements.index), format!("{extra} more elements than wanted"))),
    }
}

/// The elements of a list.
struct Elements {
    items: std::vec::IntoIter<Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for &mut Elements {
    type Error = DecodeError;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some(value) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Source { value, exact: false }).map(Some).map_err(|error| error.within(&format!("[{index}]")))
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a map.
struct Entries {
    entries: indexmap::map::IntoIter<String, Value>,
    current: Option<(String, Value)>,
}

impl Entries {
    fn new(map: Map) -> Self {
        Self { entries: map.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = DecodeError;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let read = seed.deserialize(MapKey(&key)).map_err(|error| error.within(&key))?;
        self.current = Some((key, value));
        Ok(Some(read))
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let (key, value) = self.current.take().ok_or_else(|| DecodeError::new("", "a value was asked for before its key"))?;
        seed.deserialize(Source { value, exact: false }).map_err(|error| error.within(&key))
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A key, read as text or, for maps with number or boolean keys, as what its text says.
struct MapKey<'a>(&'a str);

macro_rules! parsed_keys {
    ($($method:ident => $visit:ident),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.0.parse() {
                Ok(key) => visitor.$visit(key),
                Err(_) => visitor.visit_str(self.0),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for MapKey<'_> {
    type Error = DecodeError;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_str(self.0)
    }
    parsed_keys! {
        deserialize_bool => visit_bool,
        deserialize_i8 => visit_i64,
        deserialize_i16 => visit_i64,
        deserialize_i32 => visit_i64,
        deserialize_i64 => visit_i64,
        deserialize_i128 => visit_i128,
        deserialize_u8 => visit_u64,
        deserialize_u16 => visit_u64,
        deserialize_u32 => visit_u64,
        deserialize_u64 => visit_u64,
        deserialize_u128 => visit_u128,
        deserialize_f32 => visit_f64,
        deserialize_f64 => visit_f64,
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(self.0.into_deserializer())
    }
    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// An enum variant with its content.
struct Variant {
    variant: String,
    content: Value,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = DecodeError;
    type Variant = VariantContent;
    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, VariantContent), DecodeError> {
        let name = seed.deserialize(MapKey(&self.variant))?;
        Ok((name, VariantContent { variant: self.variant, content: self.content }))
    }
}

/// What a variant holds.
struct VariantContent {
    variant: String,
    content: Value,
}

impl VariantContent {
    fn source(self) -> (Source, String) {
        (Source { value: self.content, exact: false }, self.variant)
    }
}

impl<'de> VariantAccess<'de> for VariantContent {
    type Error = DecodeError;
    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.content {
            Value::Null => Ok(()),
            _ => Err(DecodeError::new(self.variant, "has content where none is wanted")),
        }
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        let (source, variant) = self.source();
        seed.deserialize(source).map_err(|error| error.within(&variant))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let (source, variant) = self.source();
        de::Deserializer::deserialize_seq(source, visitor).map_err(|error| error.within(&variant))
    }
    fn struct_variant<V: Visitor<'de>>(self, _fields: &'static [&'static str], visitor: V) -> Result<V::Value, DecodeError> {
        let (source, variant) = self.source();
        de::Deserializer::deserialize_any(source, visitor).map_err(|error| error.within(&variant))
    }
}
