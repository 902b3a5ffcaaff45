//! Configuration: flags, variables, files and built-in values to one typed [`Config`].
//!
//! **What it owns.** The table of keys ([`KEYS`]), which everything that tells people about keys reads; the order of the
//! levels ([`Level`]): flag, `UMBEL_*`, `CELERY_*`, `umbel.toml`, the Python application's settings, `REDIS_URL`, built-in;
//! and the origin of every value, for `config show --origin` and for errors.
//!
//! **How it goes.** [`load`] is the shell: it reads the process's environment and the files. [`Config::build`] is the core:
//! everything it needs is in [`Inputs`], so that tests feed the same key through all levels. `.env` in the working directory
//! counts as variables that were not set.
//!
//! **What bounds it.** Values have bounds of their own, in the table; tables may be nested 16 deep; files are read up to
//! 1 MiB, since this one is written by hand.
//!
//! **When it fails** nothing starts, and every mistake is told at once, each with its value (masked if secret), where it was
//! written, and what is allowed. Variables of Celery's that nobody knows are warnings: they may be the application's own.

mod celery;
mod cluster;
mod env;
mod error;
mod file;
mod interpolate;
mod key;
mod keys;
mod kind;
mod load;
mod mask;
mod merge;
mod origin;
mod raw;
mod reload;
mod role;
mod secret;
mod show;
pub mod suggest;
mod task;
mod typed;
mod units;
mod url;

#[cfg(test)]
mod tests;

pub use cluster::Cluster;
pub use env::Env;
pub use error::{ConfigError, ConfigErrors};
pub use key::{Key, find, find_flag};
pub use keys::KEYS;
pub use kind::{CONCURRENCY_MAX, Concurrency, Kind, Mismatch, Setting, cpus};
pub use load::{Loaded, hostname, load};
pub use mask::masked;
pub use merge::{FromSetting, Inputs, Resolved, Row, merge};
pub use origin::{Level, Origin, Sourced};
pub use raw::{Entry, Name, Raw};
pub use reload::{Change, Changes, diff};
pub use role::{AUTO, NONE, Plan, ROLES, Runs, expand_name, plan};
pub use secret::{MASK, Secret};
pub use show::init;
pub use task::TaskConfig;
pub use typed::{Config, Control, Http, Limit, Log, Role, Transport, Worker};
pub use units::{parse_duration, parse_size, show_duration, show_size};
pub use url::{Url, UrlKind};
