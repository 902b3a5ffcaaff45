//! Many sources to one value per key: the strongest level wins, and says where it was found.

use std::{io, path::Path};

use indexmap::IndexMap;

use super::{
    ConfigError, ConfigErrors, Env, Origin, Sourced,
    key::{Key, find, find_flag},
    keys::KEYS,
    kind::{Concurrency, Kind, Mismatch, Setting},
    mask,
    raw::{Entry, Name, Raw},
    secret::{MASK, Secret},
    url::Url,
};

/// Everything a configuration is made of. Nothing else is looked at: no environment, no file, no clock.
pub struct Inputs<'a> {
    /// Flags as typed, with their values: `("-b", "redis://h")`. Of a flag given twice the last counts.
    pub flags: Vec<(String, String)>,
    /// The environment, `.env` included.
    pub env: Env,
    /// `umbel.toml`: as it was named, and its text.
    pub file: Option<(&'a Path, &'a str)>,
    /// The settings that the Python application reports, by Celery's names. Empty without one.
    pub app: Vec<(String, Raw)>,
    /// Reads the file behind `@file:` and `*_FILE`.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// One value per key.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    values: IndexMap<Name, Value>,
}

#[derive(Debug, Clone)]
struct Value {
    key: &'static Key,
    setting: Secret<Setting>,
    origin: Origin,
}

/// The values of all keys, and warnings about what is harmless but surely not meant.
///
/// # Errors
/// Every mistake in `umbel.toml`, and every winning value that is not of its key's kind. A value that a stronger source
/// overrides is not judged: overriding it is how one gets going again.
pub fn merge(inputs: &Inputs<'_>) -> Result<(Resolved, Vec<String>), ConfigErrors> {
    let mut errors = Vec::new();
    let (mut entries, warnings) = inputs.env.entries();
    for (flag, value) in inputs.flags.iter().rev() {
        match find_flag(flag) {
            Some(key) => {
                let origin = Origin::Flag(flag.clone());
                entries.push(Entry { name: Name::plain(key.name), raw: Raw::Text(value.clone()), origin });
            }
            None => errors.push(ConfigError::new(flag.clone(), Origin::Flag(flag.clone()), "is not a flag of any key")),
        }
    }
    if let Some((path, text)) = inputs.file {
        let (found, mistakes) = super::file::entries(path, text, &inputs.env);
        entries.extend(found);
        errors.extend(mistakes);
    }
    for (setting, raw) in &inputs.app {
        if let Some((name, _)) = super::key::find_celery(setting) {
            entries.push(Entry { name, raw: raw.clone(), origin: Origin::App(setting.clone()) });
        }
    }
    for (name, default) in KEYS.iter().filter_map(|key| Some((key.name, key.default?))) {
        entries.push(Entry { name: Name::plain(name), raw: Raw::Text(default.to_owned()), origin: Origin::BuiltIn });
    }

    let mut winners: IndexMap<Name, Entry> = IndexMap::new();
    for entry in entries {
        match winners.get_mut(&entry.name) {
            Some(winner) if entry.origin.level() < winner.origin.level() => *winner = entry,
            Some(_) => {}
            None => {
                winners.insert(entry.name.clone(), entry);
            }
        }
    }
    let mut values = IndexMap::new();
    for (name, entry) in winners {
        let key = find(&name).expect("every source looks its names up in the table of keys");
        match parse(key, entry, inputs.read) {
            Ok(value) => {
                values.insert(name, value);
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok((Resolved { values }, warnings)) } else { Err(ConfigErrors(errors)) }
}

fn parse(key: &'static Key, entry: Entry, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Value, ConfigError> {
    let Entry { name, mut raw, mut origin } = entry;
    if let (true, Raw::Text(text)) = (key.secret, &raw)
        && let Some(path) = text.trim().strip_prefix("@file:")
    {
        let path = Path::new(path);
        origin = Origin::SecretFile { path: path.to_owned(), named_by: Box::new(origin) };
        raw = match read(path) {
            Ok(text) => Raw::Text(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => return Err(ConfigError::new(name.to_string(), origin, format!("cannot be read: {error}"))),
        };
    }
    match key.kind.parse(&raw) {
        Ok(setting) => Ok(Value { key, setting: Secret::new(setting), origin }),
        Err(Mismatch { problem, allowed }) => {
            let shown = if key.secret { masked(key.kind, &raw) } else { raw.to_string() };
            Err(ConfigError::new(name.to_string(), origin, problem).value(shown).hint(allowed))
        }
    }
}

/// What may be shown of a secret that could not be read: of an address, its scheme.
fn masked(kind: Kind, raw: &Raw) -> String {
    match (kind, raw) {
        (Kind::BrokerUrl | Kind::ResultsUrl, Raw::Text(text)) => match text.split_once("://") {
            Some((scheme, _)) if scheme.len() < 20 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
                format!("\"{scheme}://{MASK}\"")
            }
            _ => MASK.to_owned(),
        },
        _ => MASK.to_owned(),
    }
}

impl Resolved {
    /// The value of a key of the table.
    ///
    /// # Panics
    /// When the table gives the key another kind than `T`: a mistake in this crate, found by a test that reads every key.
    pub fn get<T: FromSetting>(&self, name: &Name) -> Option<Sourced<T>> {
        let value = self.values.get(name)?;
        let typed = T::from_setting(value.setting.expose()).expect("the table of keys gives this key the kind that is asked for");
        Some(Sourced::new(typed, value.origin.clone()))
    }

    /// The value of a key that has a built-in one.
    ///
    /// # Panics
    /// As [`Self::get`], and when the table gives the key no built-in value.
    pub fn must<T: FromSetting>(&self, name: &str) -> Sourced<T> {
        self.get(&Name::plain(name)).expect("the table of keys gives this key a built-in value")
    }

    /// Where the value of `name` was found.
    pub fn origin(&self, name: &Name) -> Option<&Origin> {
        self.values.get(name).map(|value| &value.origin)
    }

    /// The names that the user chose below `table`, in the order they were written in: the roles, the tasks, the patterns.
    pub fn below(&self, table: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for name in self.values.keys() {
            if let [first, own, ..] = name.segments()
                && first == table
                && !found.contains(own)
            {
                found.push(own.clone());
            }
        }
        found
    }

    /// Every value as people see it: name, key, value (masked if secret), origin; in the order of the table.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = self
            .values
            .iter()
            .map(|(name, value)| Row { name, key: value.key, value: shown(name, value), origin: &value.origin })
            .collect();
        rows.sort_by_key(|row| KEYS.iter().position(|key| key.name == row.key.name));
        rows
    }

    /// Whether `name` has the same value in both.
    pub(super) fn same(&self, other: &Self, name: &Name) -> bool {
        let of = |resolved: &Self| resolved.values.get(name).map(|value| value.setting.expose().clone());
        of(self) == of(other)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.values.keys()
    }
}

/// One line of `config show`.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The name, as TOML spells it.
    pub name: &'a Name,
    /// The key it is a value of.
    pub key: &'static Key,
    /// The value as one would write it; secrets masked.
    pub value: String,
    /// Where it was found.
    pub origin: &'a Origin,
}

fn shown(name: &Name, value: &Value) -> String {
    let setting = value.setting.expose();
    match setting {
        // Any name of Celery's may stand there.
        Setting::Value(any) if value.key.name == "celery.*" => Setting::Value(mask::masked(&name.to_string(), any)).show(),
        // Addresses are secret for their passwords, and mask those by themselves.
        Setting::Url(url) => url.to_string(),
        _ if value.key.secret => MASK.to_owned(),
        setting => setting.show(),
    }
}

/// Kinds of values by their Rust types.
pub trait FromSetting: Sized {
    /// The value, if it is of this type.
    fn from_setting(setting: &Setting) -> Option<Self>;
}

impl FromSetting for Setting {
    fn from_setting(setting: &Setting) -> Option<Self> {
        Some(setting.clone())
    }
}

macro_rules! from_setting {
    ($($type:ty: $pattern:pat => $value:expr),* $(,)?) => {$(
        impl FromSetting for $type {
            fn from_setting(setting: &Setting) -> Option<Self> {
                match setting {
                    $pattern => Some($value),
                    _ => None,
                }
            }
        }
    )*};
}

from_setting! {
    String: Setting::Text(text) => text.clone(),
    bool: Setting::Bool(bool) => *bool,
    i64: Setting::Int(int) => *int,
    u64: Setting::Size(bytes) => *bytes,
    std::time::Duration: Setting::Duration(duration) => *duration,
    Concurrency: Setting::Concurrency(concurrency) => *concurrency,
    Url: Setting::Url(url) => (**url).clone(),
    std::net::SocketAddr: Setting::Listen(address) => *address,
    std::path::PathBuf: Setting::Path(path) => path.clone(),
    Vec<String>: Setting::List(list) => list.clone(),
    Vec<(String, String)>: Setting::Table(pairs) => pairs.clone(),
    umbel_proto::Value: Setting::Value(value) => value.clone(),
    Secret<String>: Setting::Text(text) => Secret::new(text.clone()),
}
