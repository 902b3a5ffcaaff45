//! RabbitMQ on the stage: the broker in a virtual host of its own, results in Redis, the ledger in phases. With classic queues,
//! and with quorum queues, which have no priorities before RabbitMQ 4.

use std::{sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;
use umbel::{
    amqp::{AmqpOptions, QueueType, Target},
    backends::redis::RedisBackend,
    brokers::{Backbone, Broker, Subscription, amqp::AmqpBroker},
    redis::RedisOptions,
    scheduler::{
        beat::{Entry, Mark},
        lease::Standing,
        revocation::Revocation,
        schedule::When,
    },
    schedules::{Answer, Candidate, Step},
};
use umbel_tests::{
    conformance::{Setup, Stage},
    servers::{rabbit::Vhost, redis::RedisServer},
};

struct Rabbit<const QUORUM: bool> {
    vhost: Vhost,
    redis: RedisServer,
    options: (AmqpOptions, RedisOptions),
    backbone: Backbone,
}

impl<const QUORUM: bool> Rabbit<QUORUM> {
    async fn backbone(vhost: &Vhost, redis: &RedisServer, options: &(AmqpOptions, RedisOptions)) -> Backbone {
        let broker = AmqpBroker::open(Target::parse(&vhost.url()).unwrap(), options.0.clone());
        umbel_tests::wait::until_async("the broker is ready", || async { broker.ready().await.ok() }).await;
        let results = RedisBackend::open(umbel::redis::Target::parse(&redis.url(1)).unwrap(), options.1.clone());
        Backbone::phased(Arc::new(broker), Arc::new(results))
    }
}

#[async_trait]
impl<const QUORUM: bool> Stage for Rabbit<QUORUM> {
    const TELLS_AGES: bool = false;
    const PUSHES: bool = true;
    const PRIORITIES: bool = !QUORUM;
    const COMES_BACK_IN_FRONT: bool = !QUORUM;
    const LOOKING_COUNTS: bool = QUORUM;
    /// Longer than a second: by way of the delayed-delivery queues.
    const SOON_MILLIS: i64 = 8_000;

    async fn fresh(setup: Setup) -> Self {
        let amqp = AmqpOptions {
            queue_type: if QUORUM { QueueType::Quorum } else { QueueType::Classic },
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
    umbel_tests::broker_conformance!(super::Rabbit<false>);
}

mod broker_quorum {
    umbel_tests::broker_conformance!(super::Rabbit<true>);
}

mod ledger {
    umbel_tests::ledger_conformance!(super::Rabbit<false>);
}

mod fanout {
    umbel_tests::fanout_conformance!(super::Rabbit<false>);
}

mod schedules {
    umbel_tests::schedules_conformance!(super::Rabbit<false>);
}

/// An order not to run something holds where it was given before it is written down: what was sent right behind it is refused.
#[tokio::test]
async fn an_order_holds_at_once() {
    let stage = <Rabbit<false> as Stage>::fresh(Setup::default()).await;
    let broker = stage.broker();
    let orders = [Revocation::Task("revoked".into())];
    {
        let mut ordering = std::pin::pin!(broker.revoke(&orders));
        assert!(std::future::poll_fn(|context| Poll::Ready(ordering.as_mut().poll(context))).await.is_pending());
        assert!(broker.revoked().borrow().iter().any(|(found, _)| *found == orders[0]));
        umbel_tests::wait::soon("the order is written down", ordering).await.unwrap();
    }
    assert!(broker.revoked().borrow().iter().any(|(found, _)| *found == orders[0]));
}

/// The log of schedules is summed up again and again, and who reads it from a summary on knows what everybody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_schedules_is_summed_up() {
    let vhost = Vhost::new();
    let options = AmqpOptions { schedule_log: 2_000, ..AmqpOptions::default() };
    let open = || AmqpBroker::open(Target::parse(&vhost.url()).unwrap(), options.clone());
    let broker = open();
    let store = broker.schedules().unwrap();
    let entry = |number: usize| Entry::new(format!("e{number:03}"), "tests.echo", When::Every { every_ms: 1_000, relative: false });
    store.put((0..8).map(entry).collect()).await.unwrap();
    let leader = Candidate::new("leader".into(), Duration::from_secs(600));
    let Standing::Leads(token) = store.campaign(&leader).await.unwrap().standing else { panic!("nobody else leads") };
    let begun = store.book().await.unwrap().entries[0].mark.due;
    for round in 0..400 {
        let mark = Mark { due: begun + round + 1, sent: Some(begun), runs: 1, paused: false };
        let step = Step { name: "e000".to_owned(), from: begun + round, mark, message: None };
        assert_eq!(store.tick(&leader, token, vec![step]).await.unwrap(), [Answer::Done]);
        if round == 200 {
            store.pause("e001", true).await.unwrap();
            store.remove(&["e002".to_owned()]).await.unwrap();
        }
    }
    let book = store.book().await.unwrap();
    assert_eq!((book.entries.len(), book.entries[0].mark.due, book.entries[1].mark.paused), (7, begun + 400, true));
    let other = open();
    let read = umbel_tests::wait::until_async("another has read it", || async { other.schedules()?.book().await.ok() }).await;
    assert_eq!((&read.entries, &read.leader, read.revision), (&book.entries, &book.leader, book.revision));
    let told = format!("{:?}", other.schedules().unwrap());
    let begins: Option<u64> = told.split("log_begins: ").nth(1).and_then(|rest| rest.trim_end_matches(" }").parse().ok());
    assert!(begins.is_some_and(|line| line > 200), "{told}");
}
