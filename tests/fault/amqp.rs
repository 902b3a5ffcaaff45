//! RabbitMQ servers that are killed, freeze, cut connections or want to see a certificate.

use std::time::{Duration, Instant};

use umbel::{
    Node,
    amqp::{AmqpOptions, LinkState, QueueType, Target},
    brokers::{Backbone, Broker, Subscribe, amqp::AmqpBroker},
    client::Client,
    redis::RedisOptions,
    scheduler::Release,
};
use umbel_tests::{
    conformance::making::{id, message},
    servers::{
        endings::Endings,
        rabbit::{RabbitServer, Setup, Vhost},
        redis::{RedisServer, free_port},
    },
    wait::{soon, until, until_async},
};

#[umbel::task(name = "amqp.note")]
async fn note(number: i64) -> i64 {
    tokio::time::sleep(Duration::from_millis(2)).await; // workload
    number
}

/// The server is killed and started again under load, again and again: every confirmed task succeeds, and its ending is
/// committed once. `UMBEL_AMQP_RESTARTS` says how often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing() {
    let restarts: u32 = std::env::var("UMBEL_AMQP_RESTARTS").map_or(2, |text| text.parse().unwrap());
    let mut server = RabbitServer::start(Setup::default());
    let redis = RedisServer::default();
    let endings = Endings::of(&redis);
    let options = AmqpOptions { delayed_type: QueueType::Classic, ..AmqpOptions::default() };
    let open = || Backbone::amqp(&server.url(), Some(&redis.url(1)), options.clone(), RedisOptions::default()).unwrap();
    let Backbone { broker, backend, ledger } = open();
    let builder = Node::builder().name("restart").queues(["celery"]).concurrency(4).backbone(broker, backend, ledger).task(note);
    let node = soon("the node", builder.start()).await.unwrap();
    // A server may take minutes to start on a machine that is busy with other things.
    let client = node.client().with_patience(Duration::from_secs(240));
    let (mut accepted, mut waits) = (Vec::new(), Vec::new());
    for round in 0..restarts {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (from, before) = (accepted.len(), endings.count());
        let submitting = tokio::spawn(submit_until(client.clone(), i64::try_from(from).unwrap(), stopped));
        until_async("some are done", || async { (endings.count() > before + 5).then_some(()) }).await;
        server.kill();
        server.launch();
        server.await_answer();
        let (back, done) = (Instant::now(), endings.count());
        until_async("tasks end again", || async { (endings.count() > done).then_some(()) }).await;
        let again = back.elapsed().as_millis();
        stop.send(()).unwrap();
        accepted.extend(submitting.await.unwrap());
        waits.push(again);
        println!("restart {round}: {} tasks, some end again {again} ms after the server answers", accepted.len() - from);
    }
    until_async("everything accepted has ended", || async { (endings.count() >= accepted.len()).then_some(()) }).await;
    for (number, result) in accepted {
        assert_eq!(soon("a result", result.get::<i64>(Duration::from_secs(30))).await.unwrap(), number);
    }
    waits.sort_unstable();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{restarts} restarts: {} tasks accepted, {} finished twice, tasks end again {median} ms (median), {longest} ms (at most) after",
        endings.count(),
        endings.doubled().len()
    );
    assert_eq!(endings.doubled(), Vec::<String>::new());
}

/// Submits tasks, each until it is accepted, all the time until told to stop.
async fn submit_until(client: Client, from: i64, mut stop: tokio::sync::oneshot::Receiver<()>) -> Vec<(i64, umbel::AsyncResult)> {
    let mut accepted = Vec::new();
    for number in from.. {
        let result =
            until_async("the submission is accepted", || async { client.submit_as(note::s(number), &format!("note-{number}")).await.ok() });
        accepted.push((number, result.await));
        // workload: some forty a second
        if tokio::time::timeout(Duration::from_millis(25), &mut stop).await.is_ok() {
            break;
        }
    }
    accepted
}

/// A frozen server is noticed by its missing heartbeats, and a cut connection at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_noticed() {
    let server = RabbitServer::start(Setup::default());
    let options = AmqpOptions { heartbeat: Duration::from_secs(1), ..AmqpOptions::default() };
    let broker = AmqpBroker::open(Target::parse(&server.url()).unwrap(), options);
    let mut state = broker.state();
    soon("the connection", state.wait_for(|state| *state == LinkState::Up)).await.unwrap();
    server.freeze();
    soon("the outage", state.wait_for(|state| matches!(state, LinkState::Reconnecting { .. }))).await.unwrap();
    server.thaw();
    soon("the connection again", state.wait_for(|state| *state == LinkState::Up)).await.unwrap();
}

/// A queue that somebody deletes while a node takes from it is declared again and taken from, and what was held of it harms nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_served_again() {
    let vhost = Vhost::new();
    let broker = AmqpBroker::open(Target::parse(&vhost.url()).unwrap(), AmqpOptions::default());
    until_async("the broker can be used", || async { broker.ready().await.ok() }).await;
    let request = Subscribe::new("node", ["q", "other"], Duration::from_secs(60));
    let mut subscription = soon("subscribing", broker.subscribe(request)).await.unwrap();
    soon("publishing", broker.publish(vec![message("q", "before")])).await.remove(0).unwrap();
    let held = soon("the message", subscription.fetch(2)).await.unwrap().remove(0);
    for round in ["first", "second"] {
        vhost.manage("DELETE", &format!("/api/queues/{}/q", vhost.name()), "");
        soon("publishing", broker.publish(vec![message("q", round)])).await.remove(0).unwrap();
        let taken = soon("a message of the new queue", subscription.fetch(2)).await.unwrap().remove(0);
        assert_eq!(id(&taken), round);
        assert!(broker.release(vec![(taken.held, Release::Ack)]).await.remove(0).unwrap());
    }
    // As a whole, too: what found no queue is sent once more.
    vhost.manage("DELETE", &format!("/api/queues/{}/q", vhost.name()), "");
    soon("publishing", broker.publish_whole(vec![message("other", "a"), message("q", "b"), message("q", "c")])).await.unwrap();
    let mut whole = Vec::new();
    while whole.len() < 3 {
        for taken in soon("the whole", subscription.fetch(2)).await.unwrap() {
            whole.push(id(&taken).to_owned());
            assert!(broker.release(vec![(taken.held, Release::Ack)]).await.remove(0).unwrap());
        }
    }
    whole.sort();
    assert_eq!(whole, ["a", "b", "c"]);
    let _ = broker.release(vec![(held.held, Release::Ack)]).await.remove(0).unwrap();
    soon("publishing", broker.publish(vec![message("other", "after")])).await.remove(0).unwrap();
    assert_eq!(id(&soon("a message of the other queue", subscription.fetch(2)).await.unwrap()[0]), "after");
    soon("closing", subscription.close()).await.unwrap();
}

async fn round_trip(url: &str) {
    let broker = AmqpBroker::open(Target::parse(url).unwrap(), AmqpOptions::default());
    until_async("the broker can be used", || async { broker.ready().await.ok() }).await;
    soon("publishing", broker.publish(vec![message("q", "m")])).await.remove(0).unwrap();
    let request = Subscribe::new("node", ["q"], Duration::from_secs(5));
    let mut subscription = soon("subscribing", broker.subscribe(request)).await.unwrap();
    let taken = soon("the message", subscription.fetch(1)).await.unwrap();
    assert_eq!(id(&taken[0]), "m");
    assert!(broker.release(vec![(taken[0].held.clone(), Release::Ack)]).await.remove(0).unwrap());
    soon("closing", subscription.close()).await.unwrap();
}

/// TLS with the server's own authority and a client certificate; and a list of servers of which the first is dead. Who shows
/// no certificate is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_works() {
    let secured = RabbitServer::start(Setup { tls: true, ..Setup::default() });
    round_trip(&secured.url()).await;
    let stranger = secured.url().split('?').next().unwrap().to_owned();
    let broker = AmqpBroker::open(Target::parse(&stranger).unwrap(), AmqpOptions::default());
    let mut state = broker.state();
    soon("a refusal", state.wait_for(|state| matches!(state, LinkState::Reconnecting { .. }))).await.unwrap();
    let vhost = Vhost::new();
    let dead = free_port();
    round_trip(&vhost.url().replace("127.0.0.1", &format!("127.0.0.1:{dead},127.0.0.1"))).await;
}

/// A wrong password is told as what it is, and never shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_let_in_is_told_why() {
    let vhost = Vhost::new();
    let wrong = vhost.url().replace("guest:guest", "guest:hunter2");
    let broker = AmqpBroker::open(Target::parse(&wrong).unwrap(), AmqpOptions::default());
    let mut state = broker.state();
    let refused = soon("a refusal", state.wait_for(|state| matches!(state, LinkState::Reconnecting { .. }))).await.unwrap().clone();
    let text = format!("{refused:?} {broker:?}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(soon("an answer", broker.publish(vec![message("q", "m")])).await.remove(0).unwrap_err().is_transient());
}

/// A message is held for longer than one delivery may last: by copy after copy, and it is still held and can be settled once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_tasks_are_held_by_one_delivery_after_another() {
    let vhost = Vhost::new();
    let options = AmqpOptions { hold: Duration::from_millis(300), ..AmqpOptions::default() };
    let broker = AmqpBroker::open(Target::parse(&vhost.url()).unwrap(), options);
    until_async("the broker can be used", || async { broker.ready().await.ok() }).await;
    broker.publish(vec![message("q", "long")]).await.remove(0).unwrap();
    let mut subscription = soon("subscribing", broker.subscribe(Subscribe::new("node", ["q"], Duration::from_secs(600)))).await.unwrap();
    let taken = soon("the message", subscription.fetch(1)).await.unwrap().remove(0);
    let path = format!("/api/queues/{}?disable_stats=true&enable_queue_totals=true", vhost.name());
    let holding = || {
        let queues = vhost.manage("GET", &path, "");
        let held = queues
            .as_array()
            .into_iter()
            .flatten()
            .find(|queue| queue["name"].as_str().is_some_and(|name| name.starts_with("umbel.held.")))?;
        (held["messages_unacknowledged"] == 1).then_some(())
    };
    until("a copy holds it", holding);
    let begun = Instant::now();
    until("several holds have passed", || (begun.elapsed() > Duration::from_secs(2)).then_some(()));
    until("a copy holds it still", holding);
    assert!(broker.release(vec![(taken.held.clone(), Release::Ack)]).await.remove(0).unwrap());
    assert!(!broker.release(vec![(taken.held, Release::Ack)]).await.remove(0).unwrap());
    until_async("nothing is left", || async {
        broker.queues().await.ok()?.iter().all(|queue| queue.ready + queue.held == 0).then_some(())
    })
    .await;
}
