//! Values: what tasks are given and return.

mod de;
pub(crate) mod halves;
mod key;
mod ser;
mod serde_impl;
pub(crate) mod special;
mod token;

/// A map that keeps the order of its keys, as Python's do; equality does not look at it.
pub type Map = indexmap::IndexMap<String, Value>;

/// Anything Celery's serializers can carry.
///
/// More than JSON: integers of any size, `NaN` and the infinities (which Python writes as bare tokens), and bytes (msgpack).
/// kombu's special values (`{"__type__": "datetime", "__value__": …}`, wire contract §1.5) stay the maps they are on the wire.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// `None`.
    #[default]
    Null,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// An integer beyond `i64`, in decimal.
    BigInt(Box<str>),
    /// A float, `NaN` and infinities included.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes; JSON has no form for them, so they are written there as kombu's `base64` special value.
    Bytes(Vec<u8>),
    /// A list or tuple.
    List(Vec<Value>),
    /// A dict.
    Map(Map),
}

impl PartialEq for Value {
    /// Equality of content: `NaN` equals `NaN`, and maps are equal whatever the order of their keys.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::BigInt(a), Self::BigInt(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Value {
    /// The value of anything serde can serialize.
    ///
    /// # Errors
    /// When `value` has map keys that are not text, numbers or booleans, or serializing it fails.
    pub fn from_serialize<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, crate::EncodeError> {
        ser::to_value(value)
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    /// When the value is not of that shape; the error's field is the path to the part at fault.
    pub fn deserialize<T: serde::de::DeserializeOwned>(self) -> Result<T, crate::DecodeError> {
        de::from_value(self)
    }

    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if this is one of up to 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The number as a float, if this is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(float) => Some(*float),
            Self::Int(int) => Some(*int as f64),
            Self::BigInt(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    /// The list, if this is one.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The map, if this is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The type and content, if this is one of kombu's special values: a map of exactly `__type__` and `__value__`, known or not.
    pub fn special(&self) -> Option<(&str, &Value)> {
        self.as_map().and_then(special::of_map)
    }

    /// What kind of value this is, in words: for errors, which never show content.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::BigInt(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Str(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// Whether this is `None`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

macro_rules! value_from {
    ($($from:ty => $make:expr),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(from: $from) -> Self {
                #[allow(clippy::redundant_closure_call)]
                ($make)(from)
            }
        }
    )*};
}

value_from! {
    bool => Value::Bool,
    i64 => Value::Int,
    i32 => |int| Value::Int(i64::from(int)),
    u32 => |int| Value::Int(i64::from(int)),
    f64 => Value::Float,
    String => Value::Str,
    &str => |text: &str| Value::Str(text.to_owned()),
    Vec<Value> => Value::List,
    Map => Value::Map,
}

impl From<u64> for Value {
    fn from(int: u64) -> Self {
        i64::try_from(int).map_or_else(|_| Self::BigInt(int.to_string().into()), Self::Int)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(option: Option<T>) -> Self {
        option.map_or(Value::Null, Into::into)
    }
}

#[cfg(test)]
mod tests;
