//! Nodes of one process on one Redis server.

use umbel::{Node, brokers::Backbone, embedded::StoreOptions, gossip::GossipOptions};
use umbel_tests::{servers::redis::RedisServer, wait::soon};

/// Twice its argument.
#[umbel::task(name = "cluster.double")]
pub(super) async fn double(n: i64) -> i64 {
    2 * n
}

/// A node with two slots.
pub(super) async fn node_on(server: &RedisServer, name: &str, gossip: Option<GossipOptions>) -> Node {
    let Backbone { broker, backend, ledger } = Backbone::open(&server.url(0), Some(&server.url(1)), StoreOptions::default()).unwrap();
    let mut builder = Node::builder().name(name).concurrency(2).backbone(broker, backend, ledger).task(double);
    if let Some(options) = gossip {
        builder = builder.gossip(options);
    }
    soon("the node starts", builder.start()).await.unwrap()
}
