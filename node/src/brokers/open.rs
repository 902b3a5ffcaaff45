//! From URLs to a broker, a result backend and a ledger: the one place that knows which there are.

use std::{path::PathBuf, sync::Arc};

use thiserror::Error;

use super::{Broker, BrokerError, embedded::EmbeddedBroker};
use crate::{
    backends::{Backend, embedded::EmbeddedBackend},
    embedded::{self, Store, StoreOptions},
    ledgers::{Ledger, embedded::EmbeddedLedger},
};

/// The schemes this version knows, for messages to people.
const SCHEMES: &str = "umbel:///path/to/file";

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
        let path = store_path("broker", broker)?;
        if let Some(url) = backend
            && store_path("result backend", url)? != path
        {
            return Err(BackboneError::Combination { broker: without_password(broker), backend: without_password(url) });
        }
        Self::embedded(Store::open(path, options)?)
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
        let text = error("redis://me:secret@host:6379/0", None);
        assert!(text.contains("redis://me:**@host:6379/0") && text.contains("umbel:///"), "{text}");
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
