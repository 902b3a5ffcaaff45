//! Gossip: nodes tell each other that they are there and how busy they are.
//!
//! **What it owns.** A UDP port, which outlives the actor; in each life of the actor one chitchat and the task that feeds it
//! ([`driver`]). **Who sends to it.** Other nodes, sealed with the cluster's secret ([`seal`]). **What it sends on.** A
//! [`ClusterView`](crate::cluster::ClusterView), through a watch. **What bounds it.** Bytes a second ([`budget`]), members,
//! pieces, senders.
//!
//! **What it may be believed.** It is advice: how much to fetch and what to show people. No lease, no acknowledgement and no
//! result depends on it, so that whoever forges or silences it can make the cluster slower and nothing else. **When it dies**,
//! tasks go on, each node for itself, and the broker's leases are all that is known of others.
//!
//! Without a secret nodes gossip on loopback only, sealed with a key made of the broker's address, which keeps clusters on one
//! machine apart and strangers out of none.

mod budget;
mod codec;
pub(crate) mod driver;
mod keys;
pub(crate) mod load;
mod pieces;
mod seal;
mod traffic;
mod transport;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::net::{UdpSocket, lookup_host};

use self::traffic::Counters;
pub use self::{budget::BYTES_PER_SECOND, keys::KeyRing, traffic::Traffic};

/// How gossip is done. With the defaults a dead node is found in less than two seconds.
#[derive(Debug, Clone)]
pub struct GossipOptions {
    /// Where to listen; port 0 is any.
    pub listen: SocketAddr,
    /// What others are told to send to, `host` or `host:port`, where that differs: in containers, behind NAT.
    pub advertise: Option<String>,
    /// Nodes to greet, `host:port`, besides those that the broker knows of. Names are resolved again and again.
    pub seeds: Vec<String>,
    /// The cluster's secrets.
    pub keys: KeyRing,
    /// `host:port` of something that everybody reaches, such as the broker: it tells which of this machine's addresses others
    /// see when it listens on all of them.
    pub toward: Option<String>,
    /// What this node's roles are called.
    pub roles: Vec<String>,
    /// The time between two rounds.
    pub interval: Duration,
    /// After how many mean intervals of silence the broker is asked whether a node is dead.
    pub phi: f64,
    /// The budget.
    pub bytes_per_second: u32,
}

impl GossipOptions {
    /// Gossip on loopback, among those with these keys.
    pub fn loopback(keys: KeyRing) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
            seeds: Vec::new(),
            keys,
            toward: None,
            roles: Vec::new(),
            interval: Duration::from_millis(200),
            phi: 5.0,
            bytes_per_second: BYTES_PER_SECOND,
        }
    }
}

/// Why there is no gossip.
#[derive(Debug, Clone, Error)]
pub enum GossipError {
    /// The address is taken, or not this machine's.
    #[error("cannot gossip on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The address that others should send to is none.
    #[error("cannot advertise `{address}`: {reason}")]
    Advertise {
        /// The address as it was given.
        address: String,
        /// Why.
        reason: String,
    },
}

/// The port of a node's gossip.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) options: GossipOptions,
    /// What others send to.
    pub(crate) advertised: SocketAddr,
    socket: Arc<UdpSocket>,
    counters: Arc<Counters>,
}

impl Port {
    /// Opens the port and finds out what others can send to.
    pub(crate) async fn open(options: GossipOptions) -> Result<Self, GossipError> {
        let listen = |error: io::Error| GossipError::Listen { address: options.listen, reason: error.to_string() };
        let socket = UdpSocket::bind(options.listen).await.map_err(listen)?;
        let own = socket.local_addr().map_err(listen)?;
        let advertised = match &options.advertise {
            Some(name) => resolve(name, own).await?,
            None if own.ip().is_unspecified() => SocketAddr::new(seen_from(options.toward.as_deref(), own).await, own.port()),
            None => own,
        };
        Ok(Self { options, advertised, socket: Arc::new(socket), counters: Arc::default() })
    }

    /// What it has sent and heard.
    pub(crate) fn traffic(&self) -> Traffic {
        self.counters.read()
    }
}

/// The address that a name stands for; without a port, it is that of `own`.
async fn resolve(name: &str, own: SocketAddr) -> Result<SocketAddr, GossipError> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, own.port()));
    }
    let with_port = if name.parse::<SocketAddr>().is_ok() || name.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        name.to_owned()
    } else {
        format!("{name}:{}", own.port())
    };
    let wrong = |reason: String| GossipError::Advertise { address: name.to_owned(), reason };
    let found: Vec<SocketAddr> = lookup_host(&with_port).await.map_err(|error| wrong(error.to_string()))?.collect();
    let same = found.iter().find(|address| address.is_ipv4() == own.is_ipv4());
    same.or(found.first()).copied().ok_or_else(|| wrong("the name has no address".to_owned()))
}

/// The address of this machine on the way to `toward`; loopback when there is no way. Nothing is sent.
async fn seen_from(toward: Option<&str>, own: SocketAddr) -> IpAddr {
    let loopback = if own.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
    let Some(toward) = toward else { return loopback };
    let Ok(found) = lookup_host(toward).await else { return loopback };
    for target in found.filter(|target| target.is_ipv4() == own.is_ipv4()) {
        let way = async {
            let socket = UdpSocket::bind((own.ip(), 0)).await?;
            socket.connect(target).await?;
            socket.local_addr()
        };
        if let Ok(address) = way.await {
            return address.ip();
        }
    }
    loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn others_are_told_an_address_that_leads_here() {
        let options = |listen: &str, advertise: Option<&str>| GossipOptions {
            listen: listen.parse().unwrap(),
            advertise: advertise.map(str::to_owned),
            toward: Some("127.0.0.1:6379".to_owned()),
            ..GossipOptions::loopback(KeyRing::new("secret", []))
        };
        let port = |listen: &'static str, advertise: Option<&'static str>| Port::open(options(listen, advertise));
        let plain = port("127.0.0.1:0", None).await.unwrap();
        assert_eq!(plain.advertised, plain.socket.local_addr().unwrap());
        let all = port("0.0.0.0:0", None).await.unwrap();
        assert_eq!(all.advertised.to_string(), format!("127.0.0.1:{}", all.socket.local_addr().unwrap().port()));
        let named = port("0.0.0.0:0", Some("10.1.2.3")).await.unwrap();
        assert_eq!(named.advertised.ip().to_string(), "10.1.2.3");
        assert_eq!(port("0.0.0.0:0", Some("10.1.2.3:77")).await.unwrap().advertised.to_string(), "10.1.2.3:77");
        let taken = plain.advertised;
        let refused = Port::open(GossipOptions { listen: taken, ..options("127.0.0.1:0", None) }).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("cannot gossip on {taken}: ")), "{refused}");
    }
}
