//! TLS towards RabbitMQ: `amqps://` with kombu's query parameters (`ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`).

use std::{fs, path::PathBuf};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};

use super::{error::AmqpError, url::AmqpUrlError};

/// How to trust the server, and what to show it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tls {
    /// `ssl_ca_certs`: beside the system's.
    authority: Option<PathBuf>,
    /// `ssl_certfile` and `ssl_keyfile`.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    pub(super) fn from_query(get: impl Fn(&str) -> Option<String>) -> Result<Self, AmqpUrlError> {
        if let Some(required) = get("ssl_cert_reqs")
            && !matches!(required.as_str(), "CERT_REQUIRED" | "required" | "CERT_OPTIONAL" | "optional")
        {
            return Err(AmqpUrlError(format!(
                "ssl_cert_reqs is `{required}`, and a server's certificate is always verified here; name its authority with ssl_ca_certs"
            )));
        }
        let identity = match (get("ssl_certfile"), get("ssl_keyfile")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            // One file may hold both, as for Python.
            (Some(both), None) => Some((PathBuf::from(&both), PathBuf::from(both))),
            (None, Some(_)) => return Err(AmqpUrlError("ssl_keyfile needs ssl_certfile".to_owned())),
            (None, None) => None,
        };
        Ok(Self { authority: get("ssl_ca_certs").map(PathBuf::from), identity })
    }

    /// Reads the files. They are read at each connecting, so that renewed certificates are taken.
    pub(super) fn config(&self) -> Result<OwnedTLSConfig, AmqpError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|error| AmqpError::Refused(format!("cannot read {}: {error}; look at the ssl_ options", path.display())))
        };
        let identity = match &self.identity {
            Some((certificate, key)) => Some(OwnedIdentity::PKCS8 { pem: read(certificate)?, key: read(key)? }),
            None => None,
        };
        let authority = self.authority.as_ref().map(read).transpose()?;
        Ok(OwnedTLSConfig { identity, cert_chain: authority.map(|pem| String::from_utf8_lossy(&pem).into_owned()) })
    }
}
