//! Logs: text in Celery's shape for people, JSON lines for machines, both to standard error.
//!
//! Whatever comes from outside (names, arguments, exception texts) may hold line breaks and terminal escapes; in text they
//! are escaped, so that nobody can forge a line, and the lines of a traceback are indented, which no line of its own is.

mod fields;
mod json;
mod text;

use std::{str::FromStr, sync::OnceLock};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt::MakeWriter, layer::SubscriberExt, registry, reload, util::SubscriberInitExt};
use umbel_proto::NodeId;

/// How to log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// In which form.
    pub format: LogFormat,
    /// From which level on: see [`LogLevel`].
    pub level: LogLevel,
    /// Who logs: the `node` of JSON lines.
    pub node: NodeId,
}

/// The forms of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `[2026-11-21 05:45:09,950: INFO/node] message`, Celery's shape, in local time.
    #[default]
    Text,
    /// One JSON object a line, with `ts` in UTC, `level`, `node`, `target`, `message` and whatever the line is about:
    /// `task_id`, `task_name`, `root_id`, `queue`, `attempt`, `runtime` (seconds), …
    Json,
}

/// From which level on to log, as a filter of `tracing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel(String);

/// Why logs cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LogError {
    /// Not a level.
    #[error("`{0}` is no log level; use DEBUG, INFO, WARNING, ERROR or CRITICAL, or a filter such as `info,umbel::actors=debug`")]
    Level(String),
    /// Not a form.
    #[error("`{0}` is no log format; use text or json")]
    Format(String),
    /// The program logs already.
    #[error("logs have been set up already")]
    Twice,
}

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogLevel {
    type Err = LogError;

    /// Celery's names (`celery worker --loglevel`), in any case; or a filter of `tracing`, recognised by `=` or `,`.
    fn from_str(text: &str) -> Result<Self, LogError> {
        let level = match text.to_ascii_uppercase().as_str() {
            "TRACE" => "trace",
            "DEBUG" => "debug",
            "INFO" => "info",
            "WARNING" | "WARN" => "warn",
            "ERROR" | "CRITICAL" | "FATAL" => "error",
            _ if text.contains(['=', ',']) && EnvFilter::try_new(text).is_ok() => text,
            _ => return Err(LogError::Level(text.to_owned())),
        };
        Ok(Self(level.to_owned()))
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

impl LogLevel {
    fn filter(&self) -> EnvFilter {
        // ractor opens a span for every actor, which nobody here reads and everybody would pay for. lapin writes down whole messages
        // that come back, arguments and all, and calls each channel an error that is closed, as one is that asked for what is not there;
        // what is done about them is told by whoever does it.
        EnvFilter::builder().parse_lossy(format!("ractor=warn,lapin::returned_messages=error,lapin::channel=off,{}", self.0))
    }
}

/// The target of what Python processes write to standard output and error.
pub(crate) const OUTPUT: &str = "umbel::python::output";

/// Logs to standard error from now on.
///
/// # Errors
/// When the program logs already.
pub fn init(options: &LogOptions) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(options.level.filter());
    assemble(options, filter, std::io::stderr).try_init().map_err(|_| LogError::Twice)?;
    // Nobody has set it before: that would have been `Twice`.
    let _ = LEVEL.set(handle);
    Ok(())
}

/// Logs from another level on. `false` when this program does not log, or logs by a subscriber of its own.
pub fn set_level(level: &LogLevel) -> bool {
    LEVEL.get().is_some_and(|handle| handle.reload(level.filter()).is_ok())
}

/// The filter of the subscriber that [`init`] installed.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// What [`init`] installs, writing to `writer`.
pub fn subscriber<W>(options: &LogOptions, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    assemble(options, options.level.filter(), writer)
}

fn assemble<W>(options: &LogOptions, filter: impl Layer<Registry> + Send + Sync, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let all = registry().with(filter);
    match options.format {
        LogFormat::Text => Box::new(all.with(lines.event_format(text::Text))),
        LogFormat::Json => Box::new(all.with(lines.event_format(json::Json { node: options.node.clone() }))),
    }
}

#[cfg(test)]
mod tests;
