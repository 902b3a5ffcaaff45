//! What the Redis broker, backend and ledger have in common: connections, scripts and the names of keys.
//!
//! **What it owns.** A [`Link`] is one supervised connection: it reconnects for ever with jitter, notices a server that has
//! stopped answering, and says in which state it is. Nothing else in this crate talks to the `redis` crate.
//!
//! **Who sends to it.** Any task of the runtime; commands of many tasks share the connection and are answered in order.
//! Nothing blocks on the server: waiting for messages is done with client-side caching ([`tracking`]), so that no message is
//! ever on its way to nobody.
//!
//! **What bounds it.** Each command has a time limit; a caller that meets an outage gets an error and decides itself when to
//! ask again.
//!
//! **When it dies.** A lost connection is a [`LinkState`]; commands fail as unavailable until it is back. Scripts are loaded
//! again when a server has forgotten them.

pub(crate) mod answer;
pub(crate) mod commit;
pub(crate) mod entry;
pub(crate) mod error;
pub mod keys;
pub(crate) mod link;
mod name;
pub(crate) mod script;
mod sentinel;
mod tls;
pub(crate) mod tracking;
mod url;

pub use error::RedisError;
pub use keys::Layout;
pub use link::{Link, LinkState};
pub(crate) use name::instance;
pub use url::{Target, UrlError};

use std::time::Duration;

/// How Redis is used; the defaults are Celery's and kombu's.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisOptions {
    /// Names of keys, which depend on `broker_transport_options`.
    pub layout: Layout,
    /// How long Celery workers leave a message to the worker that took it (`visibility_timeout`, 1 hour). It must be the same
    /// in the whole fleet; nodes refresh what they hold, so it says nothing about how long tasks may take.
    pub visibility_timeout: Duration,
    /// How long results are kept (`result_expires`, one day); `None` is for ever.
    pub result_expires: Option<Duration>,
    /// How long failures are kept (`result_failure_expires`); `None` is as long as other results.
    pub failure_expires: Option<Duration>,
    /// How long the parts of a chord are kept (`result_chord_expires`); `None` is as long as results.
    pub chord_expires: Option<Duration>,
    /// `global_keyprefix` of `result_backend_transport_options`. Unlike the broker's it gets a `_` unless it ends with one
    /// of `:_-.` (`celery/backends/base.py`).
    pub result_prefix: String,
    /// How many dead letters are kept; beyond it the oldest go, with a word in the log.
    pub max_dead_letters: u64,
    /// How long somebody who was told that a chord is complete may take to conclude it before others are told. Celery 5.7's
    /// default.
    pub chord_grace: Duration,
    /// How long an order not to run something holds. Celery forgets after three hours; here tasks may be scheduled for much
    /// later.
    pub revoke_expires: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            layout: Layout::default(),
            visibility_timeout: Duration::from_secs(3600),
            result_expires: Some(DAY),
            failure_expires: None,
            chord_expires: None,
            result_prefix: String::new(),
            max_dead_letters: 100_000,
            chord_grace: Duration::from_secs(6),
            revoke_expires: DAY * 7,
        }
    }
}

impl RedisOptions {
    /// Seconds a record is kept; 0 is for ever.
    pub(crate) fn result_ttl(&self, failure: bool) -> u64 {
        let expires = self.failure_expires.filter(|_| failure).or(self.result_expires);
        expires.map_or(0, seconds)
    }

    /// Seconds chord parts are kept; 0 is for ever.
    pub(crate) fn chord_ttl(&self) -> u64 {
        self.chord_expires.or(self.result_expires).map_or(0, seconds)
    }
}

/// Whole seconds, rounded up: 0 would be for ever.
fn seconds(expires: Duration) -> u64 {
    u64::try_from(expires.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}
