//! TLS towards RabbitMQ: `amqps://` with kombu's query parameters (`ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`).

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

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
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, AmqpError> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| bad(path, format_args!("cannot be read: {error}")));
        let mut roots = RootCertStore::empty();
        // What the system has is a convenience: some of it may be damaged, and there may be none.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &self.authority {
            for certificate in certificates(path, &read(path)?)? {
                roots.add(certificate).map_err(|error| bad(path, format_args!("cannot be trusted: {error}")))?;
            }
        }
        // Unless the program has chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, &read(certificate)?)?;
                let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|error| bad(key, format_args!("has no private key as PEM: {error}")))?;
                config
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| bad(certificate, format_args!("does not go with {}: {error}", key.display())))?
            }
        };
        Ok(Arc::new(config))
    }
}

/// The certificates of a PEM file; one at least.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AmqpError> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(path, format_args!("is not PEM: {error}")))?;
    if found.is_empty() { Err(bad(path, format_args!("has no certificate"))) } else { Ok(found) }
}

fn bad(path: &Path, what: fmt::Arguments<'_>) -> AmqpError {
    AmqpError::Refused(format!("{} {what}; look at the ssl_ options", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &[(&str, &Path)]) -> String {
        let tls = Tls::from_query(|key| query.iter().find(|(name, _)| *name == key).map(|(_, path)| path.display().to_string())).unwrap();
        tls.config().unwrap_err().to_string()
    }

    #[test]
    fn files_that_are_of_no_use_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.pem");
        assert!(refused(&[("ssl_ca_certs", &missing)]).contains("missing.pem cannot be read"));
        let empty = folder.path().join("empty.pem");
        fs::write(&empty, "no certificate here").unwrap();
        assert!(refused(&[("ssl_ca_certs", &empty)]).contains("empty.pem has no certificate"));
        let damaged = folder.path().join("damaged.pem");
        fs::write(&damaged, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(refused(&[("ssl_ca_certs", &damaged)]).contains("damaged.pem cannot be trusted"));
        assert!(refused(&[("ssl_certfile", &damaged)]).contains("damaged.pem has no private key"));
    }
}
