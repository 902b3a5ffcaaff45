//! Where values come from.

use std::{
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
};

/// Where a value was found; printed in `config show --origin` and in every error about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A flag, as typed: `--broker`, `-b`.
    Flag(String),
    /// An environment variable.
    Env {
        /// Its name.
        name: String,
        /// File and line, when `.env` set it rather than the process's own environment.
        dotenv: Option<(PathBuf, usize)>,
    },
    /// A line of `umbel.toml`, counted from 1.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// The Python application's own settings.
    App(String),
    /// Nobody said anything.
    BuiltIn,
    /// Derived from another key, because nobody said anything: results from the broker.
    Derived(&'static str),
    /// The contents of a secret's file, named by another origin.
    SecretFile {
        /// The file that holds the value.
        path: PathBuf,
        /// What names it.
        named_by: Box<Origin>,
    },
}

/// The levels of precedence, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A flag.
    Flag,
    /// `UMBEL_*`.
    Umbel,
    /// `CELERY_*`.
    Celery,
    /// `umbel.toml`.
    File,
    /// The Python application's settings, reported by its first child. Nothing fills this level before there is one.
    App,
    /// `REDIS_URL`.
    RedisUrl,
    /// The table of keys.
    BuiltIn,
}

impl Origin {
    /// A variable of the process's environment.
    pub fn env(name: impl Into<String>) -> Self {
        Self::Env { name: name.into(), dotenv: None }
    }

    /// A line of a file.
    pub fn file(path: &Path, line: usize) -> Self {
        Self::File { path: path.to_owned(), line }
    }

    /// How strong it is.
    pub fn level(&self) -> Level {
        match self {
            Self::Flag(_) => Level::Flag,
            Self::Env { name, .. } if name == "REDIS_URL" || name == "REDIS_URL_FILE" => Level::RedisUrl,
            Self::Env { name, .. } if name.starts_with("UMBEL_") => Level::Umbel,
            Self::Env { .. } => Level::Celery,
            Self::File { .. } => Level::File,
            Self::App(_) => Level::App,
            Self::BuiltIn | Self::Derived(_) => Level::BuiltIn,
            Self::SecretFile { named_by, .. } => named_by.level(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Env { name, dotenv: None } => f.write_str(name),
            Self::Env { name, dotenv: Some((path, line)) } => write!(f, "{name}, {}:{line}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::App(setting) => write!(f, "the app's {setting}"),
            Self::BuiltIn => f.write_str("built-in"),
            Self::Derived(from) => write!(f, "from {from}"),
            Self::SecretFile { path, named_by } => write!(f, "{}, named by {named_by}", path.display()),
        }
    }
}

/// A value that remembers where it came from. Reads like the value itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// `value` from `origin`.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// The same origin with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced { value: f(self.value), origin: self.origin }
    }
}

impl<T> Deref for Sourced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
