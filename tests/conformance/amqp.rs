//! RabbitMQ on the stage: the broker in a virtual host of its own, results in Redis, the ledger in phases.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use umbel::{
    amqp::{AmqpOptions, QueueType, Target},
    backends::redis::RedisBackend,
    brokers::{Backbone, Subscription, amqp::AmqpBroker},
    redis::RedisOptions,
};
use umbel_tests::{
    conformance::{Setup, Stage},
    servers::{rabbit::Vhost, redis::RedisServer},
};

struct Rabbit {
    vhost: Vhost,
    redis: RedisServer,
    options: (AmqpOptions, RedisOptions),
    backbone: Backbone,
}

impl Rabbit {
    async fn backbone(vhost: &Vhost, redis: &RedisServer, options: &(AmqpOptions, RedisOptions)) -> Backbone {
        let broker = AmqpBroker::open(Target::parse(&vhost.url()).unwrap(), options.0.clone());
        umbel_tests::wait::until_async("the broker is ready", || async { broker.ready().await.ok() }).await;
        let results = RedisBackend::open(umbel::redis::Target::parse(&redis.url(1)).unwrap(), options.1.clone());
        Backbone::phased(Arc::new(broker), Arc::new(results))
    }
}

#[async_trait]
impl Stage for Rabbit {
    const TELLS_AGES: bool = false;
    const PUSHES: bool = true;
    /// Longer than a second: by way of the delayed-delivery queues.
    const SOON_MILLIS: i64 = 3_000;

    async fn fresh(setup: Setup) -> Self {
        let amqp = AmqpOptions {
            max_priority: Some(9),
            delayed_type: QueueType::Classic,
            max_dead_letters: setup.max_dead_letters.unwrap_or(1000),
            ..AmqpOptions::default()
        };
        let results = RedisOptions {
            result_expires: setup.result_expires.or(RedisOptions::default().result_expires),
            chord_grace: setup.chord_grace.unwrap_or(Duration::from_secs(3600)),
            ..RedisOptions::default()
        };
        let (vhost, redis, options) = (Vhost::new(), RedisServer::durable(), (amqp, results));
        let backbone = Self::backbone(&vhost, &redis, &options).await;
        Self { vhost, redis, options, backbone }
    }

    fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    async fn lose(&self, subscription: Box<dyn Subscription>) {
        drop(subscription);
    }

    /// Everybody's connections end; what they held goes back. (Servers that are killed are in `fault::amqp`.) Claims of chords
    /// end too.
    async fn reopen(self) -> Self {
        let Self { vhost, mut redis, options, backbone } = self;
        drop(backbone);
        redis.kill();
        redis.restart();
        redis.run(&["EVAL", super::redis::EXPIRE_CLAIMS, "0"]);
        let backbone = Self::backbone(&vhost, &redis, &options).await;
        Self { vhost, redis, options, backbone }
    }
}

mod broker {
    umbel_tests::broker_conformance!(super::Rabbit);
}

mod ledger {
    umbel_tests::ledger_conformance!(super::Rabbit);
}

mod fanout {
    umbel_tests::fanout_conformance!(super::Rabbit);
}
