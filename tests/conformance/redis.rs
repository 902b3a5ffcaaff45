//! Redis on the stage: broker in one database, results in another of the same server.

use std::{task::Poll, time::Duration};

use async_trait::async_trait;
use umbel::{
    brokers::{Backbone, Subscription, redis::RedisBroker},
    redis::{Layout, RedisOptions, Target},
    scheduler::revocation::Revocation,
};
use umbel_tests::{
    conformance::{Setup, Stage},
    servers::redis::RedisServer,
};

struct Redis {
    server: RedisServer,
    options: RedisOptions,
    backbone: Backbone,
}

impl Redis {
    async fn backbone(server: &RedisServer, options: &RedisOptions) -> Backbone {
        let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), options.clone());
        umbel_tests::wait::until_async("the broker is ready", || async { broker.ready().await.ok() }).await;
        Backbone::redis(broker, Target::parse(&server.url(1)).unwrap(), options.clone())
    }
}

#[async_trait]
impl Stage for Redis {
    async fn fresh(setup: Setup) -> Self {
        let server = RedisServer::durable();
        let options = RedisOptions {
            // Every priority a step of its own, as `priority_steps` allows.
            layout: Layout { steps: (0..=9).collect(), ..Layout::default() },
            result_expires: setup.result_expires.or(RedisOptions::default().result_expires),
            max_dead_letters: setup.max_dead_letters.unwrap_or(1000),
            chord_grace: setup.chord_grace.unwrap_or(Duration::from_secs(3600)),
            ..RedisOptions::default()
        };
        let backbone = Self::backbone(&server, &options).await;
        Self { server, options, backbone }
    }

    /// kombu on Redis serves 0 first.
    fn urgency(urgency: u8) -> u8 {
        9 - urgency
    }

    fn remembers_tokens() -> bool {
        true
    }

    fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    async fn lose(&self, subscription: Box<dyn Subscription>) {
        drop(subscription);
    }

    /// The server is killed and started again on its append-only file. No node renews any more, so time passes: leases end.
    async fn reopen(self) -> Self {
        let Self { mut server, options, backbone } = self;
        drop(backbone);
        server.kill();
        server.restart();
        let sessions: Vec<String> = server.ask(&["ZRANGE", "umbel:leases", "0", "-1"]);
        for session in sessions {
            server.run(&["ZADD", "umbel:leases", "1", &session]);
        }
        server.run(&["DEL", "umbel:clock"]);
        server.run(&["EVAL", EXPIRE_CLAIMS, "0"]);
        let backbone = Self::backbone(&server, &options).await;
        Self { server, options, backbone }
    }
}

/// An order not to run something holds where it was given before it is written down: what was sent right behind it is refused.
#[tokio::test]
async fn an_order_holds_at_once() {
    let stage = <Redis as Stage>::fresh(Setup::default()).await;
    let broker = stage.broker();
    let orders = [Revocation::Task("revoked".into())];
    let mut ordering = std::pin::pin!(broker.revoke(&orders));
    assert!(std::future::poll_fn(|context| Poll::Ready(ordering.as_mut().poll(context))).await.is_pending());
    assert!(broker.revoked().borrow().has(&orders[0]));
    umbel_tests::wait::soon("the order is written down", ordering).await.unwrap();
    assert!(broker.revoked().borrow().has(&orders[0]));
}

/// Lets the time pass that a claimed chord is left to its claimant.
pub(super) const EXPIRE_CLAIMS: &str = "
redis.call('SELECT', '1')
for _, group in ipairs(redis.call('ZRANGE', 'umbel:chords', 0, -1)) do
  redis.call('ZADD', 'umbel:chords', 1, group)
  local claim = 'celery-taskset-meta-' .. group .. '.c'
  if redis.call('GET', claim) ~= 'done' then redis.call('DEL', claim) end
end
return 1";

mod broker {
    umbel_tests::broker_conformance!(super::Redis);
}

mod backend {
    umbel_tests::backend_conformance!(super::Redis);
}

mod ledger {
    umbel_tests::ledger_conformance!(super::Redis);
}

mod fanout {
    umbel_tests::fanout_conformance!(super::Redis);
}

mod schedules {
    umbel_tests::schedules_conformance!(super::Redis);
}
