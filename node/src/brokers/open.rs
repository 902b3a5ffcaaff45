//! From URLs to a broker, a result backend and a ledger: the one place that knows which there are.

use std::{path::PathBuf, sync::Arc};

use thiserror::Error;

use super::{Broker, BrokerError, amqp::AmqpBroker, embedded::EmbeddedBroker, redis::RedisBroker};
use crate::{
    amqp::{self, AmqpOptions, AmqpUrlError},
    backends::{Backend, disabled::DisabledBackend, embedded::EmbeddedBackend, redis::RedisBackend, rpc::RpcBackend},
    embedded::{self, Store, StoreOptions},
    ledgers::{Ledger, embedded::EmbeddedLedger, phased::PhasedLedger, redis::RedisLedger},
    redis::{RedisOptions, Target, UrlError},
};

/// The schemes this version knows, for messages to people.
const SCHEMES: &str = "umbel:///path/to/file, redis://host:6379/0 (also rediss://, redis+socket:// and sentinel://), \
                       amqp://user:password@host:5672/vhost (also amqps://), and rpc:// for results";

/// Everything a node and a client stand on.
#[derive(Debug, Clone)]
pub struct Backbone {
    /// Where messages wait.
    pub broker: Arc<dyn Broker>,
    /// Where results wait.
    pub backend: Arc<dyn Backend>,
    /// What makes endings durable in both.
    pub ledger: Arc<dyn Ledger>,
}

/// Why there is no backbone.
#[derive(Debug, Error)]
pub enum BackboneError {
    /// The URL is of a kind that nobody here knows.
    #[error("the {what} URL `{url}` is of no known kind; known are: {SCHEMES}")]
    Unknown {
        /// Which of the two.
        what: &'static str,
        /// The URL, its password removed.
        url: String,
    },
    /// The URL has no path where one is needed.
    #[error("the {what} URL `{url}` names no file; write it as {SCHEMES}")]
    NoPath {
        /// Which of the two.
        what: &'static str,
        /// The URL.
        url: String,
    },
    /// The URL is of a known kind and cannot be understood.
    #[error("the {what} URL cannot be used: {error}")]
    Address {
        /// Which of the two.
        what: &'static str,
        /// Why.
        error: UrlError,
    },
    /// The address of RabbitMQ cannot be understood.
    #[error("the broker URL cannot be used: {0}")]
    Amqp(#[from] AmqpUrlError),
    /// Broker and backend cannot be combined.
    #[error(
        "results cannot go to `{backend}` while messages are in `{broker}`: the embedded store keeps both in one file; leave the result backend out"
    )]
    Combination {
        /// The broker's URL, its password removed.
        broker: String,
        /// The backend's URL, its password removed.
        backend: String,
    },
    /// The embedded store cannot be opened.
    #[error(transparent)]
    Store(#[from] embedded::OpenError),
    /// The broker refuses to begin.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Backbone {
    /// Opens what the URLs name. Without a `backend` the results go where the messages are.
    ///
    /// # Errors
    /// When a URL is not understood, the two do not go together, or what they name cannot be opened.
    pub fn open(broker: &str, backend: Option<&str>, options: StoreOptions) -> Result<Self, BackboneError> {
        let redis = RedisOptions {
            result_expires: options.result_expires,
            max_dead_letters: options.max_dead_letters,
            revoke_expires: options.revoke_expires,
            ..RedisOptions::default()
        };
        Self::open_with(broker, backend, options, redis)
    }

    /// As [`Backbone::open`], with options for Redis of its own. What is on a Redis server connects in the background and goes
    /// on trying for ever; must be called within a runtime then.
    ///
    /// # Errors
    /// As [`Backbone::open`].
    pub fn open_with(broker: &str, backend: Option<&str>, options: StoreOptions, redis: RedisOptions) -> Result<Self, BackboneError> {
        let results = backend.filter(|url| Target::is_redis(url)).map(|url| target("result backend", url)).transpose()?;
        if Target::is_redis(broker) {
            let messages = target("broker", broker)?;
            return match results {
                None if backend.is_none() => Ok(Self::redis(RedisBroker::open(messages.clone(), redis.clone()), messages, redis)),
                None => Err(BackboneError::Unknown { what: "result backend", url: without_password(backend.unwrap_or_default()) }),
                Some(results) if results.same_server(&messages) => {
                    Ok(Self::redis(RedisBroker::open(messages, redis.clone()), results, redis))
                }
                Some(results) => {
                    let broker = RedisBroker::open(messages, redis.clone());
                    Ok(Self::phased(Arc::new(broker), Arc::new(RedisBackend::open(results, redis))))
                }
            };
        }
        if amqp::Target::is_amqp(broker) {
            let amqp = AmqpOptions {
                max_dead_letters: options.max_dead_letters,
                revoke_expires: options.revoke_expires,
                ..AmqpOptions::default()
            };
            return Self::amqp(broker, backend, amqp, redis);
        }
        if let Some(results) = results {
            let store = Store::open(store_path("broker", broker)?, options)?;
            return Ok(Self::phased(Arc::new(EmbeddedBroker::new(store)?), Arc::new(RedisBackend::open(results, redis))));
        }
        let path = store_path("broker", broker)?;
        if let Some(url) = backend
            && store_path("result backend", url)? != path
        {
            return Err(BackboneError::Combination { broker: without_password(broker), backend: without_password(url) });
        }
        Self::embedded(Store::open(path, options)?)
    }

    /// A virtual host of RabbitMQ, with results in Redis, as messages (`rpc://`), or nowhere. It connects in the background and
    /// goes on trying for ever; must be called within a runtime.
    ///
    /// # Errors
    /// When a URL is not understood, or results cannot be kept there.
    pub fn amqp(broker: &str, backend: Option<&str>, amqp: AmqpOptions, redis: RedisOptions) -> Result<Self, BackboneError> {
        let messages = amqp::Target::parse(broker)?;
        let results = backend.filter(|url| Target::is_redis(url)).map(|url| target("result backend", url)).transpose()?;
        let scheme = backend.map(|url| url.split("://").next().unwrap_or_default());
        let broker = AmqpBroker::open(messages, amqp);
        let backend: Arc<dyn Backend> = match (results, scheme) {
            (Some(results), _) => Arc::new(RedisBackend::open(results, redis)),
            (None, None | Some("" | "disabled")) => Arc::new(DisabledBackend),
            (None, Some("rpc" | "amqp")) => Arc::new(RpcBackend::open(&broker)),
            (None, Some(_)) => {
                return Err(BackboneError::Unknown { what: "result backend", url: without_password(backend.unwrap_or_default()) });
            }
        };
        Ok(Self::phased(Arc::new(broker), backend))
    }

    /// A broker and a result backend that have nothing to do with each other.
    pub fn phased(broker: Arc<dyn Broker>, backend: Arc<dyn Backend>) -> Self {
        let ledger = Arc::new(PhasedLedger::new(Arc::clone(&broker), Arc::clone(&backend)));
        Self { broker, backend, ledger }
    }

    /// A Redis server, with the results in a database of the same server.
    pub fn redis(broker: RedisBroker, results: Target, options: RedisOptions) -> Self {
        let backend = Arc::new(RedisBackend::open(results, options));
        let ledger = Arc::new(RedisLedger::new(&broker, Arc::clone(&backend)));
        Self { broker: Arc::new(broker), backend, ledger }
    }

    /// The three faces of an open store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn embedded(store: Arc<Store>) -> Result<Self, BackboneError> {
        Ok(Self {
            broker: Arc::new(EmbeddedBroker::new(Arc::clone(&store))?),
            backend: Arc::new(EmbeddedBackend::new(Arc::clone(&store))),
            ledger: Arc::new(EmbeddedLedger::new(store)),
        })
    }
}

fn target(what: &'static str, url: &str) -> Result<Target, BackboneError> {
    Target::parse(url).map_err(|error| BackboneError::Address { what, error })
}

/// The file of an `umbel://` URL: `umbel:///var/lib/umbel/store` is absolute, `umbel://store` is in the working directory.
fn store_path(what: &'static str, url: &str) -> Result<PathBuf, BackboneError> {
    match url.split_once("://") {
        Some(("umbel", "")) => Err(BackboneError::NoPath { what, url: url.to_owned() }),
        Some(("umbel", path)) => Ok(PathBuf::from(path)),
        _ => Err(BackboneError::Unknown { what, url: without_password(url) }),
    }
}

/// A URL as it may be shown: what stands between the user's name and the `@` is replaced.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match authority.rsplit_once('@') {
        Some((user, host)) => format!("{scheme}://{}:**@{host}{path}", user.split(':').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(broker: &str, backend: Option<&str>) -> String {
        Backbone::open(broker, backend, StoreOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_url_is_named_without_its_password() {
        let text = error("kafka://me:secret@host:6379/0", None);
        assert!(text.contains("kafka://me:**@host:6379/0") && text.contains("umbel:///"), "{text}");
        assert!(!text.contains("secret"));
    }

    #[test]
    fn a_backend_elsewhere_is_refused() {
        let text = error("umbel:///a/store", Some("umbel:///b/store"));
        assert!(text.contains("umbel:///b/store"), "{text}");
    }

    #[test]
    fn a_url_without_a_path_is_refused() {
        assert!(error("umbel://", None).contains("names no file"));
    }

    #[tokio::test]
    async fn a_path_opens_a_store() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("umbel://{}/deep/store", directory.path().display());
        let backbone = Backbone::open(&url, Some(&url), StoreOptions::default()).unwrap();
        assert_eq!((backbone.broker.kind(), backbone.backend.kind(), backbone.ledger.kind()), ("embedded", "embedded", "embedded"));
        assert!(backbone.broker.queues().await.unwrap().is_empty());
    }
}
