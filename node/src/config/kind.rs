//! What values may be, and how text and TOML become them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use umbel_proto::Value;

use super::{
    raw::Raw,
    units::{parse_duration, parse_size, show_duration, show_size},
    url::{Url, UrlKind},
};

/// The kinds of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text but the empty one.
    Text,
    /// `true` or `false`, also `yes`, `no`, `on`, `off`, `1`, `0`.
    Bool,
    /// A whole number within bounds.
    Int(i64, i64),
    /// A duration, from and to seconds.
    Duration(u64, u64),
    /// A number of bytes within bounds.
    Size(u64, u64),
    /// A number of slots, or `auto`.
    Concurrency,
    /// The address of a broker.
    BrokerUrl,
    /// The address of a result backend.
    ResultsUrl,
    /// An address to listen on: `127.0.0.1:5555`, or `:5555` for loopback.
    Listen,
    /// A path.
    Path,
    /// One of a few words, whatever their case.
    Choice(&'static [&'static str]),
    /// A log level, in our words or Celery's.
    LogLevel,
    /// A rate such as `100/m`.
    Rate,
    /// A list of texts; from a flag or variable, separated by commas.
    List,
    /// The words of a command line: a list, never one text, since nothing splits it as a shell would.
    Words,
    /// A table of texts.
    Table,
    /// A queue's name, or a table that says more.
    Route,
    /// Anything.
    Any,
}

/// A value of the kind its key wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// Of [`Kind::Text`], [`Kind::Choice`], [`Kind::LogLevel`], [`Kind::Rate`].
    Text(String),
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`].
    Int(i64),
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Size`].
    Size(u64),
    /// Of [`Kind::Concurrency`].
    Concurrency(Concurrency),
    /// Of [`Kind::BrokerUrl`], [`Kind::ResultsUrl`].
    Url(Box<Url>),
    /// Of [`Kind::Listen`].
    Listen(SocketAddr),
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::List`], [`Kind::Words`].
    List(Vec<String>),
    /// Of [`Kind::Table`].
    Table(Vec<(String, String)>),
    /// Of [`Kind::Route`], [`Kind::Any`].
    Value(Value),
}

impl Setting {
    /// The value as one would write it in `umbel.toml`. Not for secrets.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bool(bool) => bool.to_string(),
            Self::Int(int) => int.to_string(),
            Self::Duration(duration) => show_duration(*duration),
            Self::Size(bytes) => show_size(*bytes),
            Self::Concurrency(Concurrency::Auto) => "auto".to_owned(),
            Self::Concurrency(Concurrency::Fixed(slots)) => slots.to_string(),
            Self::Url(url) => url.to_string(),
            Self::Listen(address) => address.to_string(),
            Self::Path(path) => path.display().to_string(),
            Self::List(items) => Raw::List(items.iter().cloned().map(Raw::Text).collect()).to_string(),
            Self::Table(pairs) => Raw::Map(pairs.iter().map(|(key, value)| (key.clone(), Raw::Text(value.clone()))).collect()).to_string(),
            Self::Value(value) => Raw::of(value).to_string(),
        }
    }
}

/// How many tasks run at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as the machine (its cgroup, its affinity mask) gives CPUs.
    Auto,
    /// So many.
    Fixed(usize),
}

/// The most slots that can be asked for.
pub const CONCURRENCY_MAX: usize = 65_536;

impl Concurrency {
    /// The number of slots, where `cpus` is what `auto` stands for.
    pub fn resolve(self, cpus: usize) -> usize {
        match self {
            Self::Auto => cpus.max(1),
            Self::Fixed(slots) => slots,
        }
    }
}

/// The CPUs this process may use: affinity mask and cgroup quota (v1 and v2) looked at by the standard library; 1 if unknown.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// Why a value is not of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The end of a sentence: `is not a duration`.
    pub problem: String,
    /// What would be: `allowed: 0s to 1d, such as "25s"`.
    pub allowed: String,
}

impl Kind {
    /// What is allowed, for errors, `--help` and `config init`.
    pub fn allowed(self) -> String {
        match self {
            Self::Text => "any text".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Int(min, max) => format!("{min} to {max}"),
            Self::Duration(min, max) => {
                let show = |secs| show_duration(Duration::from_secs(secs));
                format!("{} to {}, such as \"25s\", \"500ms\" or \"1h30m\"", show(min), show(max))
            }
            Self::Size(min, max) => format!("{} to {}, such as \"64KiB\" or \"10MB\"", show_size(min), show_size(max)),
            Self::Concurrency => format!("1 to {CONCURRENCY_MAX}, or \"auto\""),
            Self::BrokerUrl => "umbel:///path, redis://host:6379/0, amqp://user:password@host/vhost".to_owned(),
            Self::ResultsUrl => "umbel:///path, redis://host:6379/0, or a backend of Celery's".to_owned(),
            Self::Listen => "an address and a port, such as \"127.0.0.1:5555\"".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Choice(words) => words.join(", "),
            Self::LogLevel => LOG_LEVELS.join(", "),
            Self::Rate => "a number per second, minute or hour, such as \"10/s\", \"100/m\" or \"5/h\"".to_owned(),
            Self::List => "a list of texts, or one text with commas".to_owned(),
            Self::Words => "a list of words, such as [\"ffmpeg\", \"-i\", \"{input}\"]; no shell is involved".to_owned(),
            Self::Table => "a table of texts".to_owned(),
            Self::Route => "a queue's name, or a table of queue, exchange, routing_key and priority".to_owned(),
            Self::Any => "anything".to_owned(),
        }
    }

    /// The value that `raw` stands for.
    ///
    /// # Errors
    /// When it is not of this kind. The error does not quote the value: the caller knows whether it is secret.
    pub fn parse(self, raw: &Raw) -> Result<Setting, Mismatch> {
        let parsed = match raw {
            Raw::Text(text) => self.parse_text(text.trim()),
            Raw::Int(int) => self.parse_int(*int),
            Raw::Bool(bool) => match self {
                Self::Bool => Ok(Setting::Bool(*bool)),
                Self::Any => Ok(Setting::Value(Value::Bool(*bool))),
                _ => Err(self.unlike(raw)),
            },
            Raw::Float(float) => match self {
                Self::Duration(..) => self.parse_text(&float.to_string()),
                Self::Any => Ok(Setting::Value(Value::Float(*float))),
                _ => Err(self.unlike(raw)),
            },
            Raw::List(items) => self.parse_list(raw, items),
            Raw::Map(map) => self.parse_map(raw, map),
        };
        parsed.map_err(|problem| Mismatch { problem, allowed: format!("allowed: {}", self.allowed()) })
    }

    fn unlike(self, raw: &Raw) -> String {
        format!("is {}, not {}", raw.describe(), self.noun())
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bool => "true or false",
            Self::Int(..) => "a whole number",
            Self::Duration(..) => "a duration",
            Self::Size(..) => "a size",
            Self::Concurrency => "a number of slots",
            Self::BrokerUrl => "the address of a broker",
            Self::ResultsUrl => "the address of a result backend",
            Self::Listen => "an address to listen on",
            Self::Path => "a path",
            Self::Choice(_) => "one of the words it takes",
            Self::LogLevel => "a log level",
            Self::Rate => "a rate",
            Self::List | Self::Words => "a list",
            Self::Table => "a table",
            Self::Route => "a route",
            Self::Any => "a value",
        }
    }

    fn parse_text(self, text: &str) -> Result<Setting, String> {
        let not = || format!("is not {}", self.noun());
        let setting = match self {
            Self::Text if text.is_empty() => return Err("is empty".to_owned()),
            Self::Text => Setting::Text(text.to_owned()),
            Self::Any => Setting::Value(Value::Str(text.to_owned())),
            Self::Bool => Setting::Bool(parse_bool(text).ok_or_else(not)?),
            Self::Int(..) => return self.parse_int(text.parse().map_err(|_| not())?),
            Self::Concurrency if text.eq_ignore_ascii_case("auto") => Setting::Concurrency(Concurrency::Auto),
            Self::Concurrency => return self.parse_int(text.parse().map_err(|_| not())?),
            Self::Duration(min, max) => {
                let duration = parse_duration(text).ok_or_else(not)?;
                let bounds = Duration::from_secs(min)..=Duration::from_secs(max);
                if !bounds.contains(&duration) {
                    return Err("is out of range".to_owned());
                }
                Setting::Duration(duration)
            }
            Self::Size(min, max) => {
                let bytes = parse_size(text).ok_or_else(not)?;
                if !(min..=max).contains(&bytes) {
                    return Err("is out of range".to_owned());
                }
                Setting::Size(bytes)
            }
            Self::BrokerUrl | Self::ResultsUrl => Setting::Url(Box::new(self.parse_url(text)?)),
            Self::Listen => Setting::Listen(parse_listen(text).ok_or_else(not)?),
            Self::Path if text.is_empty() => return Err("is empty".to_owned()),
            Self::Path => Setting::Path(PathBuf::from(text)),
            Self::Choice(words) => {
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(text)).ok_or_else(not)?;
                Setting::Text((*word).to_owned())
            }
            Self::LogLevel => Setting::Text(log_level(text).ok_or_else(not)?.to_owned()),
            Self::Rate => Setting::Text(is_rate(text).then(|| text.to_owned()).ok_or_else(not)?),
            Self::List => Setting::List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()),
            Self::Route if text.is_empty() => return Err("is empty".to_owned()),
            Self::Route => Setting::Value(Value::Str(text.to_owned())),
            Self::Words => return Err("is one text, not a list of words".to_owned()),
            Self::Table => return Err(not()),
        };
        Ok(setting)
    }

    fn parse_int(self, int: i64) -> Result<Setting, String> {
        match self {
            Self::Int(min, max) if (min..=max).contains(&int) => Ok(Setting::Int(int)),
            Self::Int(..) => Err("is out of range".to_owned()),
            Self::Concurrency => match usize::try_from(int) {
                Ok(slots) if (1..=CONCURRENCY_MAX).contains(&slots) => Ok(Setting::Concurrency(Concurrency::Fixed(slots))),
                _ => Err("is out of range".to_owned()),
            },
            Self::Bool if int == 0 || int == 1 => Ok(Setting::Bool(int == 1)),
            Self::Duration(..) | Self::Size(..) | Self::Rate => self.parse_text(&int.to_string()),
            Self::Any => Ok(Setting::Value(Value::Int(int))),
            _ => Err(self.unlike(&Raw::Int(int))),
        }
    }

    fn parse_list(self, raw: &Raw, items: &[Raw]) -> Result<Setting, String> {
        match self {
            Self::Any => Ok(Setting::Value(raw.to_value())),
            Self::List | Self::Words => {
                let words = items.iter().map(|item| match item {
                    Raw::Text(text) => Ok(text.clone()),
                    Raw::Int(int) => Ok(int.to_string()),
                    other => Err(format!("has {} in it, not only texts", other.describe())),
                });
                let words: Vec<String> = words.collect::<Result<_, _>>()?;
                if self == Self::Words && words.first().is_none_or(String::is_empty) {
                    return Err("names no program".to_owned());
                }
                Ok(Setting::List(words))
            }
            _ => Err(self.unlike(raw)),
        }
    }

    fn parse_map(self, raw: &Raw, map: &[(String, Raw)]) -> Result<Setting, String> {
        match self {
            Self::Any => Ok(Setting::Value(raw.to_value())),
            Self::Route => {
                for (key, value) in map {
                    match (key.as_str(), value) {
                        ("queue" | "exchange" | "routing_key", Raw::Text(_)) => {}
                        ("priority", Raw::Int(0..=255)) => {}
                        (key, _) => return Err(format!("has {key:?} in it, which is not what a route takes")),
                    }
                }
                Ok(Setting::Value(raw.to_value()))
            }
            Self::Table => {
                let pairs = map.iter().map(|(key, value)| match value {
                    Raw::Text(text) => Ok((key.clone(), text.clone())),
                    Raw::Int(int) => Ok((key.clone(), int.to_string())),
                    Raw::Bool(bool) => Ok((key.clone(), bool.to_string())),
                    other => Err(format!("has {} under {key}, not text", other.describe())),
                });
                Ok(Setting::Table(pairs.collect::<Result<_, _>>()?))
            }
            _ => Err(self.unlike(raw)),
        }
    }

    fn parse_url(self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text)?;
        if self == Self::BrokerUrl && url.kind == UrlKind::Foreign {
            return Err(format!("has the scheme {}, which no broker here speaks", url.scheme));
        }
        Ok(url)
    }
}

const LOG_LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

/// Python's levels by their nearest of ours: `celery worker -l` takes them in any case.
fn log_level(text: &str) -> Option<&'static str> {
    Some(match text.to_lowercase().as_str() {
        "error" | "critical" | "fatal" => "error",
        "warn" | "warning" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => return None,
    })
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
        "false" | "no" | "off" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// Names are not resolved: what a node listens on must not depend on a name server.
fn parse_listen(text: &str) -> Option<SocketAddr> {
    let text = match text.strip_prefix(':') {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.replacen("localhost:", "127.0.0.1:", 1),
    };
    text.parse().ok()
}

/// The grammar of `celery/utils/time.py::rate`.
fn is_rate(text: &str) -> bool {
    let (amount, unit) = text.split_once('/').unwrap_or((text, "s"));
    let plain = !amount.is_empty() && amount.bytes().all(|b| b.is_ascii_digit() || b == b'.') && amount.parse::<f64>().is_ok();
    plain && matches!(unit.trim(), "s" | "m" | "h")
}
