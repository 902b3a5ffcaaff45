//! `cluster.*` and `gossip.*`: how a node meets others.

use std::net::SocketAddr;

use super::{ConfigError, Sourced, merge::Resolved, raw::Name, secret::Secret};

/// The shortest secret: shorter ones can be guessed by whoever records a datagram.
const SECRET_MIN: usize = 16;

/// How a node meets others.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `cluster.secret`: what gossip is sealed with.
    pub secret: Option<Sourced<Secret<String>>>,
    /// `cluster.old_secrets`: what is listened to besides.
    pub old_secrets: Vec<Secret<String>>,
    /// Not `gossip.off`.
    pub gossip: bool,
    /// `gossip.listen`; without it any port, of loopback where there is no secret and of every address where there is one.
    pub listen: Option<Sourced<SocketAddr>>,
    /// `gossip.advertise`.
    pub advertise: Option<Sourced<String>>,
    /// `gossip.seeds`.
    pub seeds: Vec<String>,
}

impl Cluster {
    pub(super) fn of(resolved: &Resolved) -> Self {
        let list = |name: &str| resolved.get::<Vec<String>>(&Name::plain(name)).map(|list| list.value).unwrap_or_default();
        Self {
            secret: resolved.get(&Name::plain("cluster.secret")),
            old_secrets: list("cluster.old_secrets").into_iter().map(Secret::new).collect(),
            gossip: !resolved.must::<bool>("gossip.off").value,
            listen: resolved.get(&Name::plain("gossip.listen")),
            advertise: resolved.get(&Name::plain("gossip.advertise")),
            seeds: list("gossip.seeds"),
        }
    }

    /// What no key can tell by itself.
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if let Some(secret) = &self.secret
            && secret.expose().len() < SECRET_MIN
        {
            let problem = format!("is shorter than {SECRET_MIN} characters, so it can be guessed");
            errors.push(ConfigError::new("cluster.secret", secret.origin.clone(), problem).hint("make one with: openssl rand -hex 32"));
        }
        if let Some(listen) = self.listen.as_ref().filter(|listen| !listen.ip().is_loopback())
            && self.secret.is_none()
        {
            let error = ConfigError::new("gossip.listen", listen.origin.clone(), "is open to the network without a secret");
            let hint = "set cluster.secret (or UMBEL_CLUSTER_SECRET) to the same value on every node, or listen on 127.0.0.1";
            errors.push(error.value(format!("\"{}\"", listen.value)).hint(hint));
        }
        for seed in &self.seeds {
            let port = seed.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
            if port.is_none() {
                let error = ConfigError::new("gossip.seeds", super::Origin::BuiltIn, "has a seed without a port");
                errors.push(error.value(format!("{seed:?}")).hint("write it as host:port, such as 10.0.0.7:7946"));
            }
        }
    }
}
