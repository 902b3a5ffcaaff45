//! Remote control of a busy node, and what events cost.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use umbel::{
    Context, Node,
    brokers::Backbone,
    control::ask,
    embedded::StoreOptions,
    proto::{Signature, control::Request},
    redis::RedisOptions,
    telling::Description,
};
use umbel_tests::{
    servers::redis::RedisServer,
    wait::{until, until_async},
};

use super::{print, tasks};

/// How often each command is given.
const TIMES: usize = 200;

#[umbel::task(name = "bench.burn")]
fn burn(ctx: &Context) {
    let mut number = 1u64;
    while !ctx.is_cancelled() {
        for _ in 0..100_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        std::hint::black_box(number);
    }
}

#[umbel::task(name = "bench.nothing")]
async fn nothing() {}

async fn node(server: &RedisServer, task_events: bool) -> Node {
    let options = (StoreOptions::default(), RedisOptions::default());
    let Backbone { broker, backend, ledger } = Backbone::open_with(&server.url(0), Some(&server.url(1)), options.0, options.1).unwrap();
    let builder = Node::builder().name("bench@host").backbone(broker, backend, ledger).task(burn).task(nothing);
    builder.describe(Description { task_events, ..Description::default() }).start().await.unwrap()
}

/// The time to the first answer with every slot busy and every processor burning.
pub(super) async fn busy() {
    let server = RedisServer::default();
    let node = node(&server, false).await;
    let slots = node.report().await.unwrap().pools[0].as_ref().unwrap().slots;
    for _ in 0..slots * 2 {
        node.client().submit(Signature::new("bench.burn")).await.unwrap();
    }
    until_async("every slot burns", || async { (node.report().await?.running().count() == slots).then_some(()) }).await;
    let broker = node.broker();
    let mut figures = json!({ "times": TIMES, "slots": slots });
    for method in ["ping", "active", "reserved", "stats"] {
        let (mut took, mut answered) = (Vec::with_capacity(TIMES), 0);
        for _ in 0..TIMES {
            let request = Request { destination: Some(vec!["bench@host".to_owned()]), ..Request::new(method) };
            let began = Instant::now();
            let answers = ask::ask(&broker, request, Duration::from_secs(10)).await.unwrap();
            took.push(began.elapsed());
            answered += answers.replies.len();
        }
        took.sort();
        let ms = |at: usize| took[at].as_secs_f64() * 1e3;
        figures[method] = json!({ "answered": answered, "p50_ms": ms(TIMES / 2), "p99_ms": ms(TIMES * 99 / 100), "max_ms": ms(TIMES - 1) });
    }
    print("control", figures);
    node.shutdown(umbel::Shutdown::Cold);
    node.wait().await.unwrap();
}

/// How fast a backlog of empty tasks is drained, without events, with them, and without again.
pub(super) async fn events() {
    let mut rates = Vec::new();
    for on in [false, true, false] {
        let server = RedisServer::default();
        let node = node(&server, on).await;
        let (client, count) = (node.client(), tasks().min(20_000));
        let began = Instant::now();
        for _ in 0..count / 500 {
            client.submit(Signature::group((0..500).map(|_| Signature::new("bench.nothing")))).await.unwrap();
        }
        let done = || node.facts().counters().total(umbel::facts::Kind::Succeeded) as usize;
        until("all are done", || (done() >= count / 500 * 500).then_some(()));
        rates.push(json!({ "events": on, "tasks_per_second": (count as f64 / began.elapsed().as_secs_f64()).round() }));
        node.shutdown(umbel::Shutdown::Cold);
        node.wait().await.unwrap();
    }
    print("events", json!({ "rates": Json::Array(rates) }));
}
