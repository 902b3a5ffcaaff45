//! What RabbitMQ does of its own accord: it takes no messages when it is short of memory, and closes channels of consumers that
//! seem to have forgotten what they hold.

use std::time::Duration;

use umbel::{
    Node,
    amqp::{AmqpOptions, LinkState, QueueType, Target},
    brokers::{Backbone, Broker, Subscribe, amqp::AmqpBroker},
    redis::RedisOptions,
    scheduler::Release,
};
use umbel_tests::{
    conformance::making::{id, message},
    servers::{
        rabbit::{RabbitServer, Setup},
        redis::RedisServer,
    },
    wait::{soon, until_async},
};

#[umbel::task(name = "amqp.twice")]
async fn twice(number: i64) -> i64 {
    number * 2
}

fn options() -> AmqpOptions {
    AmqpOptions { delayed_type: QueueType::Classic, ..AmqpOptions::default() }
}

async fn open(url: &str, options: AmqpOptions) -> AmqpBroker {
    let broker = AmqpBroker::open(Target::parse(url).unwrap(), options);
    until_async("the broker can be used", || async { broker.ready().await.ok() }).await;
    broker
}

/// Goal: an alarm is a state with its reason, publishing says so rather than hang, and everything goes on when it is over; what
/// was submitted meanwhile is accepted then, and none of it is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_a_state() {
    let (server, redis) = (RabbitServer::start(Setup::default()), RedisServer::default());
    let broker = open(&server.url(), options()).await;
    broker.publish(vec![message("other", "before")]).await.remove(0).unwrap();
    let Backbone { broker: messages, backend, ledger } =
        Backbone::amqp(&server.url(), Some(&redis.url(1)), options(), RedisOptions::default()).unwrap();
    let builder = Node::builder().name("alarmed").queues(["celery"]).concurrency(2).backbone(messages, backend, ledger).task(twice);
    let node = soon("the node", builder.start()).await.unwrap();
    let client = node.client().with_patience(Duration::from_secs(120));
    server.control(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    // RabbitMQ tells a connection when it sends something.
    let mut state = broker.state();
    let telling = until_async("publishing is refused with the reason", || async {
        let refused = broker.publish(vec![message("other", "meanwhile")]).await.remove(0).err()?;
        assert!(refused.is_transient(), "{refused}");
        refused.to_string().contains("takes no messages").then(|| refused.to_string())
    });
    let telling = telling.await;
    assert!(telling.contains("memory"), "{telling}");
    let blocked = |state: &LinkState| matches!(state, LinkState::Blocked { reason, .. } if reason.contains("memory"));
    soon("the state", state.wait_for(blocked)).await.unwrap();
    let submitting = tokio::spawn(async move { client.submit(twice::s(21)).await });
    server.control(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    soon("the state again", state.wait_for(|state| *state == LinkState::Up)).await.unwrap();
    until_async("publishing works", || async { broker.publish(vec![message("other", "after")]).await.remove(0).ok() }).await;
    let result = soon("the submission", submitting).await.unwrap().unwrap();
    assert_eq!(soon("the result", result.get::<i64>(Duration::from_secs(60))).await.unwrap(), 42);
}

/// Goal: a delivery that outlasts `consumer_timeout` (a node whose `hold` is set too long) costs its channel and no more: the
/// message comes again, and the taking that was cut off settles nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_times_out_takes_again() {
    let server = RabbitServer::start(Setup::default());
    server
        .control(&["eval", "application:set_env(rabbit, channel_tick_interval, 300), application:set_env(rabbit, consumer_timeout, 500)."]);
    let broker = open(&server.url(), options()).await;
    broker.publish(vec![message("q", "slow")]).await.remove(0).unwrap();
    let mut subscription = soon("subscribing", broker.subscribe(Subscribe::new("node", ["q"], Duration::from_secs(60)))).await.unwrap();
    let taken = soon("the message", subscription.fetch(1)).await.unwrap().remove(0);
    until_async("the delivery is not held any more", || async {
        (!broker.holds(std::slice::from_ref(&taken.held)).await.ok()?[0]).then_some(())
    })
    .await;
    server.control(&["eval", "application:set_env(rabbit, consumer_timeout, 1800000)."]);
    let again = loop {
        // A session that has ended says so, and whoever fetches subscribes anew.
        match soon("a fetch", subscription.fetch(1)).await {
            Ok(mut batch) if !batch.is_empty() => break batch.remove(0),
            Ok(_) => {}
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_eq!((id(&again).as_str(), again.held.attempt), ("slow", 2));
    assert!(!broker.release(vec![(taken.held, Release::Ack)]).await.remove(0).unwrap());
    assert!(broker.release(vec![(again.held, Release::Ack)]).await.remove(0).unwrap());
}
