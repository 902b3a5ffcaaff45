//! Redis servers that freeze, or want to see a certificate. Whole outages are in `redis_outages.rs`.

use std::time::Duration;

use umbel::{
    brokers::{Broker, Subscribe, redis::RedisBroker},
    redis::{LinkState, RedisOptions, Target},
    scheduler::Release,
};
use umbel_tests::{
    conformance::making::{id, message},
    servers::redis::{RedisServer, Sentinel, Setup},
    wait::{soon, until_async},
};

/// A frozen server is noticed although no socket breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_noticed() {
    let server = RedisServer::default();
    let broker = RedisBroker::open(Target::parse(&server.url(0)).unwrap(), RedisOptions::default());
    let mut state = broker.state();
    soon("the connection", state.wait_for(|state| *state == LinkState::Up)).await.unwrap();
    server.freeze();
    soon("the outage", state.wait_for(|state| matches!(state, LinkState::Reconnecting { .. }))).await.unwrap();
    server.thaw();
    soon("the connection again", state.wait_for(|state| *state == LinkState::Up)).await.unwrap();
}

async fn round_trip(url: &str) {
    let broker = RedisBroker::open(Target::parse(url).unwrap(), RedisOptions::default());
    until_async("the broker can be used", || async { broker.ready().await.ok() }).await;
    broker.publish(vec![message("q", "m")]).await.remove(0).unwrap();
    let request = Subscribe::new("node", ["q"], Duration::from_secs(5));
    let mut subscription = soon("subscribing", broker.subscribe(request)).await.unwrap();
    let taken = soon("the message", subscription.fetch(1)).await.unwrap();
    assert_eq!(id(&taken[0]), "m");
    assert!(broker.release(vec![(taken[0].held.clone(), Release::Ack)]).await.remove(0).unwrap());
    soon("closing", subscription.close()).await.unwrap();
}

/// TLS with the server's own authority and a client certificate, a user with a password, a unix socket, a sentinel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_works() {
    let login = Some(("someone".to_owned(), "p@ss/word".to_owned().replace(['@', '/'], "-")));
    let secured = RedisServer::start(Setup { tls: true, login, ..Setup::default() });
    round_trip(&secured.url(2)).await;
    let plain = RedisServer::default();
    round_trip(&plain.socket_url(3)).await;
    let sentinel = Sentinel::start("mymaster", &plain);
    let dead = umbel_tests::servers::redis::free_port();
    round_trip(&format!("sentinel://127.0.0.1:{dead};127.0.0.1:{}/4?master_name=mymaster", sentinel.port())).await;
}

/// A wrong password, and a server whose certificate nobody vouches for, are told as what they are, and never with the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_let_in_is_told_why() {
    let secured = RedisServer::start(Setup { tls: true, ..Setup::default() });
    let stranger = secured.url(0).split('?').next().unwrap().to_owned();
    let locked = RedisServer::start(Setup { login: Some(("someone".to_owned(), "right".to_owned())), ..Setup::default() });
    let wrong = locked.url(0).replace("right", "hunter2");
    for url in [stranger, wrong] {
        let broker = RedisBroker::open(Target::parse(&url).unwrap(), RedisOptions::default());
        let mut state = broker.state();
        let refused = soon("a refusal", state.wait_for(|state| matches!(state, LinkState::Reconnecting { .. }))).await.unwrap().clone();
        let text = format!("{refused:?} {broker:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(broker.publish(vec![message("q", "m")]).await.remove(0).unwrap_err().is_transient());
    }
}
