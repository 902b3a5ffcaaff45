//! What clusters stand on, and nodes of one process on it.

use umbel::{Node, brokers::Backbone, embedded::StoreOptions, gossip::GossipOptions};
use umbel_tests::{
    servers::{rabbit::Vhost, redis::RedisServer},
    wait::soon,
};

/// Where messages are, and where results: on Redis both, and with RabbitMQ as people have it, results on Redis.
pub(super) struct Ground {
    rabbit: Option<Vhost>,
    redis: RedisServer,
}

impl Ground {
    /// Redis for everything.
    pub(super) fn redis(server: RedisServer) -> Self {
        Self { rabbit: None, redis: server }
    }

    /// RabbitMQ for messages.
    pub(super) fn rabbit() -> Self {
        Self { rabbit: Some(Vhost::new()), redis: RedisServer::default() }
    }

    /// The addresses of both. On RabbitMQ a connection that says nothing for two to three seconds is a dead one: what a frozen node
    /// holds is given to others before it goes on.
    pub(super) fn urls(&self) -> [String; 2] {
        let messages = self.rabbit.as_ref().map_or_else(|| self.redis.url(0), |vhost| format!("{}?heartbeat=1", vhost.url()));
        [messages, self.redis.url(1)]
    }
}

/// Twice its argument.
#[umbel::task(name = "cluster.double")]
pub(super) async fn double(n: i64) -> i64 {
    2 * n
}

/// A node with two slots.
pub(super) async fn node_on(ground: &Ground, name: &str, gossip: Option<GossipOptions>) -> Node {
    let [messages, results] = ground.urls();
    let Backbone { broker, backend, ledger } = Backbone::open(&messages, Some(&results), StoreOptions::default()).unwrap();
    let mut builder = Node::builder().name(name).concurrency(2).backbone(broker, backend, ledger).task(double);
    if let Some(options) = gossip {
        builder = builder.gossip(options);
    }
    soon("the node starts", builder.start()).await.unwrap()
}
