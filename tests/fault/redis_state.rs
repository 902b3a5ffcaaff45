//! What others have put into Redis, or taken away: it harms what it is about, and nothing else.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use umbel::{
    Shutdown,
    brokers::{Backbone, redis::RedisBroker},
    node::Node,
    proto::Timestamp,
    redis::{RedisOptions, Target},
    scheduler::{Answer, Commit, Effect, Fence, PartResult},
};
use umbel_tests::{
    conformance::making::{self, id, message, now, open, part, scheduled, subscribe},
    servers::redis::RedisServer,
    wait::{soon, until, until_async},
};

/// Longer than it takes to renew.
const LEASE: Duration = Duration::from_secs(2);

async fn backbone(server: &RedisServer) -> Backbone {
    backbone_with(server, RedisOptions::default()).await
}

/// Messages and results in one database, with these options.
pub(super) async fn backbone_with(server: &RedisServer, options: RedisOptions) -> Backbone {
    let target = || Target::parse(&server.url(0)).unwrap();
    let broker = RedisBroker::open(target(), options.clone());
    until_async("the broker can be used", || async { broker.ready().await.ok() }).await;
    Backbone::redis(broker, target(), options)
}

/// Makes a queue's list a key of another type.
fn spoil(server: &RedisServer, queue: &str) {
    let _: i64 = server.ask(&["HSET", queue, "somebody", "else's"]);
}

/// Goal: what is due and cannot be moved keeps neither what others wait for, nor the lease of whoever moves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_moved_stops_nothing_else() {
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    spoil(&server, "bad");
    making::publish(&*broker, vec![scheduled("bad", "b", now() + 200), scheduled("good", "g", now() + 400)]).await;
    let mut subscription = subscribe(&*broker, "node", &["good"], LEASE).await;
    assert_eq!(id(&making::fetch_one(&mut subscription).await), "g");
    let ends = |server: &RedisServer| server.ask::<Vec<(String, f64)>>(&["ZRANGE", "umbel:leases", "0", "-1", "WITHSCORES"])[0].1;
    let first = ends(&server);
    until("the lease goes on", || (ends(&server) > first).then_some(()));
    assert_eq!(server.ask::<i64>(&["HLEN", "umbel:scheduled:bad"]), 1, "it is still there, for later");
}

/// Goal: when the last node ends, what waits for its time is where Celery's workers find it, the next due first and behind what waits already;
/// while another node is there it stays where it is, and so does what does not say its time. The next node knows it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_node_leaves_what_waits_to_celery() {
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    let at = |task: &str, after: i64| {
        let mut publish = scheduled("later", task, now() + after);
        publish.invocation.headers.eta = Some(Timestamp::from_millis(now() + after));
        publish
    };
    making::publish(
        &*broker,
        vec![message("later", "now"), at("second", 600_000), at("first", 300_000), scheduled("later", "mute", now() + 60_000)],
    )
    .await;
    let counts = || (server.ask::<i64>(&["LLEN", "later"]), server.ask::<i64>(&["HLEN", "umbel:scheduled:later"]));
    let subscriptions = [subscribe(&*broker, "one", &["other"], LEASE).await, subscribe(&*broker, "two", &["other"], LEASE).await];
    for (subscription, expected) in subscriptions.into_iter().zip([(1, 3), (3, 1)]) {
        assert_eq!(counts(), (1, 3));
        subscription.close().await.unwrap();
        assert_eq!(counts(), expected);
    }
    let mut next = subscribe(&*broker, "three", &["later"], LEASE).await;
    for task in ["now", "first", "second"] {
        assert_eq!(id(&making::fetch_one(&mut next).await), task);
    }
}

#[umbel::task(name = "state.early")]
async fn early() -> i64 {
    EARLY.fetch_add(1, Ordering::Relaxed);
    1
}

static EARLY: AtomicUsize = AtomicUsize::new(0);

/// Goal: what the last node has left waits for its time with the next one as well: that it has waited before is true no more. Method: a message
/// as a client sends it, which the first node puts into the schedule; a second one whose time comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_waits_again() {
    let server = RedisServer::default();
    let mut counts = Vec::new();
    for (round, name) in ["first", "second"].into_iter().enumerate() {
        let Backbone { broker, backend, ledger } = backbone(&server).await;
        if round == 0 {
            let mut publish = message("later", "patient");
            publish.invocation.headers.task = "state.early".into();
            publish.invocation.headers.eta = Some(Timestamp::from_millis(now() + 3_600_000));
            making::publish(&*broker, vec![publish]).await;
        }
        let builder =
            Node::builder().name(name).queues(["later"]).concurrency(1).lease(LEASE).backbone(broker, backend, ledger).task(early);
        let node = soon("the node", builder.start()).await.unwrap();
        until("it is in the schedule", || (server.ask::<i64>(&["HLEN", "umbel:scheduled:later"]) == 1).then_some(()));
        node.shutdown(Shutdown::Warm { grace: Duration::from_secs(5) });
        soon("its end", node.wait()).await.unwrap();
        counts.push((server.ask::<i64>(&["LLEN", "later"]), EARLY.load(Ordering::Relaxed)));
    }
    assert_eq!(counts, [(1, 0), (1, 0)]);
}

/// Goal: commits that are carried out together are carried out together or not at all, also where one of them cannot be. Method: all of them
/// are sent again, as the aggregator does one by one; the good one must not be there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_fails_has_done_nothing() {
    let server = RedisServer::default();
    let Backbone { ledger, .. } = backbone(&server).await;
    spoil(&server, "bad");
    let _: i64 = server.ask(&["RPUSH", "celery-taskset-meta-spoilt.j", "somebody else's"]);
    let good = || open(vec![Effect::Publish(Box::new(message("good", "g")))]);
    for bad in [open(vec![Effect::Publish(Box::new(message("bad", "b")))]), open(vec![part("spoilt", 0, "p")])] {
        assert!(soon("an answer", ledger.commit(vec![good(), bad])).await.is_err());
        assert_eq!(server.ask::<i64>(&["LLEN", "good"]), 0);
    }
}

/// Goal: what is given back and cannot be stays where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_go_back_is_not_lost() {
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    making::publish(&*broker, vec![message("q", "m")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LEASE).await;
    let taken = making::fetch_one(&mut subscription).await;
    spoil(&server, "q");
    drop(taken);
    // The others of the session are given back as well.
    let _ = soon("closing", subscription.close()).await;
    assert_eq!(server.ask::<i64>(&["HLEN", "unacked"]), 1);
    let _: i64 = server.ask(&["DEL", "q"]);
    let mut other = subscribe(&*broker, "other", &["q"], LEASE).await;
    assert_eq!(id(&making::fetch_one(&mut other).await), "m");
}

/// Goal: what cannot go back, however much there is of it, keeps nothing else from going back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_go_back_is_left_out() {
    // More than are looked at together.
    const BAD: usize = 600;
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    let mut subscription = subscribe(&*broker, "node", &["bad", "good"], LEASE).await;
    making::publish(&*broker, vec![message("good", "g")]).await;
    let good = making::fetch_one(&mut subscription).await;
    making::publish(&*broker, making::ids("b", BAD).iter().map(|id| message("bad", id)).collect()).await;
    let bad = making::fetch(&mut subscription, BAD).await;
    spoil(&server, "bad");
    soon("closing", subscription.close()).await.unwrap();
    assert_eq!(server.ask::<i64>(&["LLEN", "good"]), 1);
    assert_eq!(server.ask::<usize>(&["HLEN", "unacked"]), BAD);
    drop((good, bad));
}

/// Goal: a message that a Celery worker took from a queue of a topic exchange, and that nobody acknowledged, is back in that queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_topic_exchange_delivered_goes_back() {
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    making::publish(&*broker, vec![message("feeds", "m")]).await;
    let envelope: String = server.ask(&["LPOP", "feeds"]);
    // As kombu's `_queue_bind` and its `Transaction.append` write them.
    let _: i64 = server.ask(&["SADD", "_kombu.binding.feed", "feed.#\u{6}\u{16}^feed\\..*?$\u{6}\u{16}feeds"]);
    let _: i64 = server.ask(&["HSET", "unacked", "tag", &format!("[{envelope},\"feed\",\"feed.import\"]")]);
    let _: i64 = server.ask(&["ZADD", "unacked_index", "1", "tag"]);
    let mut subscription = subscribe(&*broker, "node", &["feeds"], LEASE).await;
    assert_eq!(id(&making::fetch_one(&mut subscription).await), "m");
}

/// Goal: a member that cannot be read fails its chord, which would wait for it for ever; and one that a Celery worker of 5.6 has concluded
/// meanwhile is not concluded again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_others_end_a_chord_once() {
    let server = RedisServer::default();
    let Backbone { ledger, .. } = backbone(&server).await;
    let key = |suffix: &str| format!("celery-taskset-meta-g.{suffix}");
    soon("an answer", ledger.commit(vec![open(vec![making::open_chord("g", 2)])])).await.unwrap();
    let _: i64 = server.ask(&["ZADD", &key("j"), "0", "[1, \"a\", no JSON"]);
    let answers = soon("an answer", ledger.commit(vec![open(vec![part("g", 1, "b")])])).await.unwrap();
    let [Answer::Done { ready }] = &answers[..] else { panic!("{answers:?}") };
    let parts: Vec<_> = ready[0].parts.iter().map(|part| (part.task_id.as_str(), matches!(part.result, PartResult::Error(_)))).collect();
    assert_eq!(parts, [("a", true), ("b", false)]);
    let _: i64 = server.ask(&["DEL", &key("s")]);
    let conclusion = Commit { fence: Fence::Chord { group: "g".into(), failed: true }, effects: Vec::new() };
    assert_eq!(soon("an answer", ledger.commit(vec![conclusion])).await.unwrap(), [Answer::Refused]);
}

/// Goal: a chord's body is there however often the request that brings it is not heard. Method: the first attempt meets no server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_comes_with_the_attempt_that_arrives() {
    let mut server = RedisServer::durable();
    let Backbone { ledger, .. } = backbone(&server).await;
    server.stop();
    let attempt = || ledger.commit(vec![open(vec![part("g", 0, "a")])]);
    assert!(soon("an answer", attempt()).await.is_err());
    server.restart();
    until_async("the part is recorded", || async { attempt().await.ok() }).await;
    assert_eq!(server.ask::<i64>(&["HEXISTS", "umbel:bodies", "g"]), 1);
    // One that is refused has brought nothing either.
    let refused = Commit { fence: Fence::Chord { group: "none".into(), failed: false }, effects: vec![part("h", 0, "a")] };
    soon("an answer", ledger.commit(vec![refused])).await.unwrap();
    soon("an answer", ledger.commit(vec![open(vec![part("h", 0, "a")])])).await.unwrap();
    assert_eq!(server.ask::<i64>(&["HEXISTS", "umbel:bodies", "h"]), 1);
}

/// Goal: a session that the server has forgotten takes nothing: what it took would be nobody's. Method: a take is left in doubt, and
/// the leases are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_forgotten_takes_nothing() {
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LEASE).await;
    // The answer is not waited for.
    server.freeze();
    assert!(tokio::time::timeout(Duration::from_millis(50), subscription.fetch(1)).await.is_err());
    server.thaw();
    let _: i64 = server.ask(&["DEL", "umbel:leases", "umbel:takers"]);
    making::publish(&*broker, vec![message("q", "m")]).await;
    assert_eq!(id(&making::fetch_one(&mut subscription).await), "m");
    let held: Vec<String> = server.ask(&["HKEYS", "unacked"]);
    let sessions: Vec<String> = server.ask(&["ZRANGE", "umbel:leases", "0", "-1"]);
    assert!(sessions.iter().any(|session| held[0].starts_with(&format!("umbel:{session}:"))), "{held:?} is not of {sessions:?}");
}
