//! Which nodes are there: what each says of itself when it subscribes, and who holds a lease now.
//!
//! A broker that many nodes share is the one place that all of them and every operator can reach, so it is where they find
//! each other: the HTTP addresses for `node status`, the gossip addresses for a new node's first word. It is a by-product of
//! the lease: who holds messages is known anyway.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use umbel_proto::{NodeId, QueueName};

/// What a node says of itself to whoever asks its broker. Fields that a newer version adds are kept in [`About::more`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The machine's name, as `gethostname` gives it; says who can reach a loopback address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Where its HTTP API listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    /// Where its gossip listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gossip: Option<SocketAddr>,
    /// Whatever else it says.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

impl About {
    /// This process on this machine.
    pub fn this_process() -> Self {
        Self {
            host: crate::config::hostname(),
            pid: Some(std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Self::default()
        }
    }

    /// Where somebody on the machine `here` asks its HTTP API, as `host:port`; `None` when it serves none, or only to its own
    /// machine, which `here` is not.
    pub fn http_from(&self, here: &str) -> Option<String> {
        let address = self.http?;
        let (ip, port) = (address.ip(), address.port());
        let same = self.host == here;
        match (ip.is_unspecified(), ip.is_loopback()) {
            // Who listens everywhere is asked over loopback, or by the machine's name.
            (true, _) if same && ip.is_ipv6() => Some(format!("[::1]:{port}")),
            (true, _) if same => Some(format!("127.0.0.1:{port}")),
            (true, _) => Some(format!("{}:{port}", self.host)),
            (_, true) if !same => None,
            _ => Some(address.to_string()),
        }
    }
}

/// A node that holds a lease. Two processes under one name are two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its name.
    pub node: NodeId,
    /// Which life of it this is; another one after each start, and after a lease that was lost.
    pub session: String,
    /// The queues it takes from, by name.
    pub queues: Vec<QueueName>,
    /// For how long its lease runs if it is not renewed, by the broker's clock.
    pub lease_left: Duration,
    /// For how long it runs from each renewal on.
    pub lease: Duration,
    /// What it says of itself.
    pub about: About,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_depends_on_who_asks() {
        let about = |http: &str| About { host: "a".to_owned(), http: Some(http.parse().unwrap()), ..About::default() };
        assert_eq!(about("127.0.0.1:5").http_from("a").as_deref(), Some("127.0.0.1:5"));
        assert_eq!(about("127.0.0.1:5").http_from("b"), None);
        assert_eq!(about("0.0.0.0:5").http_from("a").as_deref(), Some("127.0.0.1:5"));
        assert_eq!(about("[::]:5").http_from("a").as_deref(), Some("[::1]:5"));
        assert_eq!(about("0.0.0.0:5").http_from("b").as_deref(), Some("a:5"));
        assert_eq!(about("10.0.0.1:5").http_from("b").as_deref(), Some("10.0.0.1:5"));
        assert_eq!(About::default().http_from("a"), None);
    }

    /// Goal: nodes of different versions read each other.
    #[test]
    fn what_is_missing_or_new_does_no_harm() {
        assert_eq!(serde_json::from_str::<About>("{}").unwrap(), About::default());
        assert_eq!(serde_json::to_string(&About::default()).unwrap(), "{}");
        let newer: About = serde_json::from_str(r#"{"host":"h","colour":"red"}"#).unwrap();
        assert_eq!((newer.host.as_str(), newer.more["colour"].as_str()), ("h", Some("red")));
        assert_eq!(serde_json::to_string(&newer).unwrap(), r#"{"host":"h","colour":"red"}"#);
    }
}
