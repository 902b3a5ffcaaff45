//! TLS towards Redis: `rediss://` with the query parameters of Celery and redis-py.

use std::{fs, path::PathBuf};

use redis::{ClientTlsConfig, TlsCertificates};

use super::{
    error::RedisError,
    url::{Query, UrlError},
};

/// How to trust the server, and what to show it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tls {
    /// `ssl_cert_reqs=CERT_NONE`: encrypt, but to anybody.
    pub(crate) unverified: bool,
    /// `ssl_ca_certs`: instead of the system's.
    authority: Option<PathBuf>,
    /// `ssl_certfile` and `ssl_keyfile`.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    pub(crate) fn from_query(query: &Query) -> Result<Self, UrlError> {
        let unverified = match query.get("ssl_cert_reqs").as_deref() {
            None | Some("CERT_REQUIRED" | "required" | "CERT_OPTIONAL" | "optional") => false,
            Some("CERT_NONE" | "none") => true,
            Some(other) => {
                return Err(UrlError(format!("ssl_cert_reqs is `{other}`; write CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE")));
            }
        };
        let identity = match (query.get("ssl_certfile"), query.get("ssl_keyfile")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            // One file may hold both, as for Python.
            (Some(both), None) => Some((PathBuf::from(&both), PathBuf::from(both))),
            (None, Some(_)) => return Err(UrlError("ssl_keyfile needs ssl_certfile".to_owned())),
            (None, None) => None,
        };
        Ok(Self { unverified, authority: query.get("ssl_ca_certs").map(PathBuf::from), identity })
    }

    /// Reads the files. They are read at each connecting, so that renewed certificates are taken.
    pub(crate) fn certificates(&self) -> Result<TlsCertificates, RedisError> {
        let read = |path: &PathBuf| {
            fs::read(path)
                .map_err(|error| RedisError::Refused(format!("cannot read {}: {error}; look at the ssl_ options", path.display())))
        };
        let client_tls = match &self.identity {
            Some((certificate, key)) => Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? }),
            None => None,
        };
        Ok(TlsCertificates { client_tls, root_cert: self.authority.as_ref().map(read).transpose()? })
    }
}

/// Chooses ring, unless the program has chosen already.
pub(crate) fn provide() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
