//! Outages of a Redis server under a node: restarts on the append-only file, cut connections, frozen servers, dropped packets.
//!
//! The node and a client are in this process and are never started again; only the server goes away and comes back, each time
//! in another way, while tasks run and are submitted. As soon as the server answers again, a message is put straight into the
//! queue over the server's own socket, past the node's connections, and what is measured is how long until it starts.
//!
//! `UMBEL_OUTAGES` sets how many (10 by default; 200 is the full run, in which every first task has to start within two
//! seconds, and frozen servers and networks stay so for up to thirty).

use std::{
    collections::BTreeMap,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use umbel::{
    Node,
    brokers::Backbone,
    client::Client,
    embedded::StoreOptions,
    proto::{Invocation, Map, TaskId, TaskName, Value},
    redis::RedisOptions,
};
use umbel_tests::{
    proxy::Proxy,
    servers::redis::RedisServer,
    wait::{soon, until, until_async},
};

/// From how many outages on a run is the full one.
const FULL: u64 = 200;

/// What the full run demands of the first task after an outage.
const BACK_WITHIN: Duration = Duration::from_secs(2);

static STARTS: Mutex<BTreeMap<i64, Vec<Instant>>> = Mutex::new(BTreeMap::new());

#[umbel::task(name = "outage.note")]
async fn note(number: i64) -> i64 {
    STARTS.lock().unwrap().entry(number).or_default().push(Instant::now());
    number
}

fn started(number: i64) -> Option<Instant> {
    STARTS.lock().unwrap().get(&number).map(|starts| starts[0])
}

/// Submits until it is accepted: a client that is refused asks again.
async fn submit(client: &Client, number: i64) -> umbel::AsyncResult {
    until_async("the submission is accepted", || async { client.submit_as(note::s(number), &format!("note-{number}")).await.ok() }).await
}

/// Puts a message into the queue as Celery's client does, over the server's socket.
fn push(server: &RedisServer, number: i64) {
    let id = TaskId::from(format!("pushed-{number}"));
    let mut invocation = Invocation::new(TaskName::from("outage.note"), id.clone(), &[Value::from(number)], &Map::new()).unwrap();
    invocation.properties.routing_key = "celery".to_owned();
    let envelope = invocation.encode(id.as_str(), None).unwrap().to_kombu();
    server.run(&["LPUSH", "celery", std::str::from_utf8(&envelope).unwrap()]);
}

/// How a server goes away and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outage {
    /// `CLIENT KILL TYPE normal`.
    Cut,
    /// SIGSTOP, SIGCONT.
    Frozen,
    /// SIGKILL and a start on the append-only file.
    Killed,
    /// SIGTERM, and a start on the append-only file after a while.
    Restarted,
    /// Nothing gets through the network.
    Dropped,
}

impl Outage {
    const ALL: [Self; 5] = [Self::Cut, Self::Frozen, Self::Killed, Self::Restarted, Self::Dropped];

    /// Lets it happen, and returns when the server answers again.
    fn happen(self, server: &mut RedisServer, proxy: &Proxy, length: Duration) {
        match self {
            Self::Cut => server.cut(),
            Self::Frozen => {
                server.freeze();
                thread::sleep(length); // workload: the length of the outage
                server.thaw();
            }
            Self::Killed => {
                server.kill();
                server.restart();
            }
            Self::Restarted => {
                server.stop();
                thread::sleep(length / 4); // workload: the length of the outage
                server.restart();
            }
            Self::Dropped => {
                proxy.drop_packets();
                thread::sleep(length); // workload: the length of the outage
                proxy.heal();
            }
        }
    }
}

/// Goal: whatever happens to the server, everything submitted ends well, work goes on when it is back, and nobody is restarted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_are_pauses() {
    let outages = std::env::var("UMBEL_OUTAGES").map_or(10, |text| text.parse().expect("UMBEL_OUTAGES is a number"));
    let length = |round: u64| {
        // Every kind for every length, in the long run.
        let seconds = 1 + (round / 5 * 7 + round % 5 * 3) % if outages >= FULL { 30 } else { 5 };
        Duration::from_secs(seconds)
    };
    let mut server = RedisServer::durable();
    let proxy = Proxy::before(([127, 0, 0, 1], server.port()).into(), "TRACKING").await;
    let url = |db: u8| format!("redis://{}/{db}", proxy.address());
    let Backbone { broker, backend, ledger } =
        Backbone::open_with(&url(0), Some(&url(1)), StoreOptions::default(), RedisOptions::default()).unwrap();
    let builder = Node::builder().name("outage").queues(["celery"]).concurrency(4).backbone(broker, backend, ledger).task(note);
    let node = soon("the node", builder.start()).await.unwrap();
    let client = node.client();
    let (mut results, mut number) = (Vec::new(), 0);
    let mut back: BTreeMap<Outage, Vec<u128>> = BTreeMap::new();
    for round in 0..outages {
        for _ in 0..10 {
            results.push((number, submit(&client, number).await));
            number += 1;
        }
        let kind = Outage::ALL[(round % 5) as usize];
        tokio::task::block_in_place(|| kind.happen(&mut server, &proxy, length(round)));
        let answers = Instant::now();
        push(&server, number);
        let start = until_async("the first task after the outage starts", || async { started(number) }).await;
        let wait = start.saturating_duration_since(answers);
        if outages >= FULL {
            assert!(wait < BACK_WITHIN, "outage {round}, {kind:?} for {:?}: the first task started after {wait:?}", length(round));
        }
        back.entry(kind).or_default().push(wait.as_millis());
        number += 1;
    }
    for (kind, waits) in &mut back {
        waits.sort_unstable();
        let within = waits.iter().filter(|wait| **wait < BACK_WITHIN.as_millis()).count();
        println!(
            "{kind:?}: the first task started {} ms (median), {} ms (worst) after the server answered; within 2 s: {within} of {}",
            waits[waits.len() / 2],
            waits.last().unwrap(),
            waits.len()
        );
    }
    for (number, result) in results {
        let value = until_async("a task has ended", || async { result.get::<i64>(Duration::from_secs(5)).await.ok() }).await;
        assert_eq!(value, number);
    }
    until("everything is acknowledged", || (server.ask::<String>(&["TYPE", "unacked"]) == "none").then_some(()));
    let never: Vec<i64> = (0..number).filter(|number| started(*number).is_none()).collect();
    assert!(never.is_empty(), "tasks that never ran: {never:?}");
    let report = node.report().await.unwrap();
    assert!(report.restarts.values().all(|count| *count == 0), "parts of the node were restarted: {:?}", report.restarts);
}

/// Goal: a node that is not told of messages finds them. Method: the network holds up the one connection on which the server
/// tells of changed keys, while the node waits for news; the others work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_told_looks_for_itself() {
    let server = RedisServer::default();
    let proxy = Proxy::before(([127, 0, 0, 1], server.port()).into(), "TRACKING").await;
    let url = |db: u8| format!("redis://{}/{db}", proxy.address());
    let Backbone { broker, backend, ledger } =
        Backbone::open_with(&url(0), Some(&url(1)), StoreOptions::default(), RedisOptions::default()).unwrap();
    let builder = Node::builder().name("deaf").queues(["celery"]).concurrency(1).backbone(broker, backend, ledger).task(note);
    let node = soon("the node", builder.start()).await.unwrap();
    until("the node waits for news", || {
        let clients: String = server.ask(&["CLIENT", "LIST"]);
        clients.lines().any(|client| client.contains(" flags=t") && client.contains(" cmd=exists ")).then_some(())
    });
    proxy.drop_packets_of_marked();
    let deaf = Instant::now();
    push(&server, -1);
    let start = until_async("the task starts", || async { started(-1) }).await;
    let report = node.report().await.unwrap();
    println!("found after {} ms; stalls: {}", (start - deaf).as_millis(), report.consumer.map_or(0, |consumer| consumer.stalls));
    drop(node);
}
