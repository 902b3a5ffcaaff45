//! Limits on the stage: one node's own, and a Redis server's with the messages beside them and elsewhere.

use std::sync::Arc;

use umbel::{
    backends::{Backend, redis::RedisBackend},
    brokers::{Broker, redis::RedisBroker},
    limits::{Limits, LocalLimits},
    redis::{RedisOptions, Target},
};
use umbel_tests::{
    conformance::limits::{Stand, run},
    servers::redis::RedisServer,
};

#[tokio::test]
async fn of_one_node() {
    let limits: Arc<dyn Limits> = Arc::new(LocalLimits::alone());
    run(&Stand { limits: limits.clone(), other: limits, hold: Box::new(|_, _| ()) }).await;
}

/// A delivery that is not held any more has lost its place, whatever became of its node.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_redis_broker() {
    let server = Arc::new(RedisServer::default());
    let broker = || RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default()).limits().unwrap();
    let held = Arc::clone(&server);
    let hold = move |holder: &str, holds: bool| {
        let words: &[&str] = if holds { &["HSET", "unacked", holder, "x"] } else { &["HDEL", "unacked", holder] };
        held.run(words);
    };
    let stand = Stand { limits: broker(), other: broker(), hold: Box::new(hold) };
    run(&stand).await;
    let rule = umbel::scheduler::limits::Rule { concurrency: Some(1), ..Default::default() };
    let ask = |holder: &str| umbel::limits::Ask {
        limit: "dead".to_owned(),
        rule,
        holder: holder.to_owned(),
        task: holder.to_owned(),
        waited: true,
        ready: true,
    };
    (stand.hold)("of the dead", true);
    let turn = async |holder: &str| stand.limits.turns(&[ask(holder)]).await.unwrap().1.remove(0);
    assert_eq!(turn("of the dead").await, umbel::scheduler::limits::Turn::Now);
    assert_ne!(turn("of the living").await, umbel::scheduler::limits::Turn::Now);
    (stand.hold)("of the dead", false);
    assert_eq!(turn("of the living").await, umbel::scheduler::limits::Turn::Now);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_redis_result_backend() {
    let server = RedisServer::default();
    let backend = || RedisBackend::open(Target::parse(&server.url(1)).unwrap(), RedisOptions::default()).limits().unwrap();
    run(&Stand { limits: backend(), other: backend(), hold: Box::new(|_, _| ()) }).await;
}
