//! How a node of the command line gossips.

use crate::{
    config::{Config, UrlKind},
    gossip::{GossipOptions, KeyRing},
};
use std::net::{Ipv4Addr, SocketAddr};

/// What the configuration says; `None` where there is nobody to gossip with: an embedded store is one node's alone.
pub(super) fn options(config: &Config) -> Option<GossipOptions> {
    let cluster = &config.cluster;
    let broker = config.broker.as_ref().filter(|broker| cluster.gossip && broker.kind != UrlKind::Embedded)?;
    let old = cluster.old_secrets.iter().map(|secret| secret.expose().as_str());
    let (keys, everywhere) = match &cluster.secret {
        Some(secret) => (KeyRing::new(secret.expose(), old), true),
        // On loopback there is nobody to keep out who could not read the broker's address as well; the key keeps the clusters
        // of one machine apart.
        None => (KeyRing::new(&format!("loopback {}", broker.expose()), old), false),
    };
    let any = if everywhere { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    Some(GossipOptions {
        listen: cluster.listen.as_ref().map_or(SocketAddr::from((any, 0)), |listen| listen.value),
        advertise: cluster.advertise.as_ref().map(|advertise| advertise.value.clone()),
        seeds: cluster.seeds.clone(),
        toward: broker.host().map(|(host, port)| format!("{host}:{port}")),
        roles: vec![config.role.value.clone()],
        ..GossipOptions::loopback(keys)
    })
}
