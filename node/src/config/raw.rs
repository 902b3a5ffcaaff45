//! Values as their sources give them, before the table of keys says what they should be.

use std::{borrow::Borrow, fmt};

use umbel_proto::{Map, Value};

use super::Origin;

/// A value of any source. Flags and variables are always [`Raw::Text`].
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Raw>),
    /// A table, in the order it was written in.
    Map(Vec<(String, Raw)>),
}

/// One value found in a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it belongs.
    pub name: Name,
    /// What it is.
    pub raw: Raw,
    /// Where it was found.
    pub origin: Origin,
}

/// The name of a value: the segments of its TOML path. Segments may themselves hold dots: task names do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<String>);

impl Name {
    /// From its segments.
    pub fn new(segments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(segments.into_iter().map(Into::into).collect())
    }

    /// From a name without dots in its segments: `broker.url`.
    pub fn plain(name: &str) -> Self {
        Self::new(name.split('.'))
    }

    /// Its segments.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// One level further in.
    #[must_use]
    pub fn join(&self, segment: &str) -> Self {
        Self::new(self.0.iter().map(String::as_str).chain([segment]))
    }
}

impl Borrow<[String]> for Name {
    fn borrow(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Name {
    /// As TOML writes it: `tasks."video.thumbnail".command`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            let bare = !segment.is_empty() && segment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            if bare { f.write_str(segment)? } else { write!(f, "{segment:?}")? }
        }
        Ok(())
    }
}

impl Raw {
    /// What it is, for an error: `a list`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Map(_) => "a table",
        }
    }

    /// Data as one would write it; what TOML has no form for (null, bytes) as text.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Str(text) => Self::Text(text.clone()),
            Value::Int(int) => Self::Int(*int),
            Value::Float(float) => Self::Float(*float),
            Value::Bool(bool) => Self::Bool(*bool),
            Value::List(list) => Self::List(list.iter().map(Self::of).collect()),
            Value::Map(map) => Self::Map(map.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect()),
            Value::Null => Self::Text(String::new()),
            Value::BigInt(digits) => Self::Text(digits.to_string()),
            Value::Bytes(bytes) => Self::Text(format!("{} bytes", bytes.len())),
        }
    }

    /// The value as data.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => Value::Str(text.clone()),
            Self::Int(int) => Value::Int(*int),
            Self::Float(float) => Value::Float(*float),
            Self::Bool(bool) => Value::Bool(*bool),
            Self::List(list) => Value::List(list.iter().map(Self::to_value).collect()),
            Self::Map(map) => Value::Map(map.iter().map(|(key, raw)| (key.clone(), raw.to_value())).collect::<Map>()),
        }
    }
}

impl fmt::Display for Raw {
    /// As TOML writes it, cut at 200 characters: it is for error messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        write_toml(self, &mut shown);
        if shown.chars().count() > 200 {
            shown = shown.chars().take(199).chain(['…']).collect();
        }
        f.write_str(&shown)
    }
}

fn write_toml(raw: &Raw, out: &mut String) {
    match raw {
        Raw::Text(text) => out.push_str(&format!("{text:?}")),
        Raw::Int(int) => out.push_str(&int.to_string()),
        Raw::Float(float) => out.push_str(&format!("{float:?}")),
        Raw::Bool(bool) => out.push_str(&bool.to_string()),
        Raw::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_toml(item, out);
            }
            out.push(']');
        }
        Raw::Map(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { " " });
                out.push_str(&Name::new([key.as_str()]).to_string());
                out.push_str(" = ");
                write_toml(item, out);
            }
            out.push_str(" }");
        }
    }
}
