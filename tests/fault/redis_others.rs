//! What Celery's workers, the server and other programs do to Redis at the same time: it is not lost, and it happens once.

use std::time::Duration;

use umbel::{brokers::Backbone, ledgers::Ledger, redis::RedisOptions, scheduler::ReadyChord};
use umbel_tests::{
    conformance::making::{self, id, message, open, part, subscribe},
    servers::redis::RedisServer,
    wait::{soon, until, until_async},
};

use super::redis_state::backbone_with;

/// Longer than it takes to renew.
const LEASE: Duration = Duration::from_secs(2);

/// How long a chord may be complete without being concluded.
const GRACE: Duration = Duration::from_millis(100);

async fn backbone(server: &RedisServer) -> Backbone {
    backbone_with(server, RedisOptions { chord_grace: GRACE, ..RedisOptions::default() }).await
}

async fn look(ledger: &dyn Ledger) -> Vec<ReadyChord> {
    soon("a look for chords", ledger.unconcluded(10)).await.unwrap()
}

/// Goal: a queue whose list is a key of another type keeps nothing that is taken from the others, and comes back when that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoilt_list_loses_nothing_of_others() {
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    making::publish(&*broker, making::ids("a", 5).iter().map(|id| message("a", id)).collect()).await;
    // Whichever queue is looked at first.
    for list in ["b", "c"] {
        let _: i64 = server.ask(&["HSET", list, "somebody", "else's"]);
    }
    let mut subscription = subscribe(&*broker, "node", &["a", "b", "c"], LEASE).await;
    let taken = making::fetch(&mut subscription, 5).await;
    assert_eq!(making::set_of(&taken).len(), 5);
    assert_eq!(server.ask::<i64>(&["HLEN", "unacked"]), 5);
    let _: i64 = server.ask(&["DEL", "b", "c"]);
    making::publish(&*broker, vec![message("b", "b1"), message("a", "a9")]).await;
    assert_eq!(making::set_of(&making::fetch(&mut subscription, 2).await), ["a9".to_owned(), "b1".to_owned()].into());
}

/// Goal: a chord that a Celery worker of 5.6 has failed is not failed once more. Method: its traces, as `on_chord_part_return` leaves them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chord_that_celery_failed_has_failed_once() {
    let server = RedisServer::default();
    let Backbone { ledger, .. } = backbone(&server).await;
    soon("an answer", ledger.commit(vec![open(vec![making::open_chord("g", 2), part("g", 0, "a")])])).await.unwrap();
    let failed = r#"[1, "b", "FAILURE", {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}]"#;
    let _: i64 = server.ask(&["ZADD", "celery-taskset-meta-g.j", "1", failed]);
    let record = r#"{"status": "FAILURE", "result": {"exc_type": "ChordError", "exc_message": ["b"], "exc_module": "celery.exceptions"}, "traceback": null, "children": [], "date_done": "2026-01-01T00:00:00+00:00", "task_id": "g-body"}"#;
    let _: String = server.ask(&["SET", "celery-task-meta-g-body", record]);
    until_async("it is forgotten", || async {
        assert!(look(&*ledger).await.is_empty(), "it is about to fail once more");
        (server.ask::<i64>(&["ZCARD", "umbel:chords"]) == 0).then_some(())
    })
    .await;
}

/// Goal: a chord whose last part a Celery worker has counted is left to that worker for a while, and concluded when nobody does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn celery_has_time_to_conclude() {
    let server = RedisServer::default();
    let Backbone { ledger, .. } = backbone(&server).await;
    soon("an answer", ledger.commit(vec![open(vec![making::open_chord("g", 2), part("g", 0, "a")])])).await.unwrap();
    let looked = |server: &RedisServer| server.ask::<Option<f64>>(&["ZSCORE", "umbel:chords", "g"]).unwrap();
    let first = looked(&server);
    until_async("a look", || async {
        assert!(look(&*ledger).await.is_empty());
        (looked(&server) > first).then_some(())
    })
    .await;
    // The next look is due when it is complete.
    let seen = looked(&server);
    until("a grace", || (making::now() as f64 > seen + GRACE.as_millis() as f64).then_some(()));
    let _: i64 = server.ask(&["ZADD", "celery-taskset-meta-g.j", "1", r#"[1, "b", "SUCCESS", 7]"#]);
    assert!(look(&*ledger).await.is_empty(), "the worker that counted it has just begun to conclude");
    let found = until_async("it is found", || async { look(&*ledger).await.pop() }).await;
    assert_eq!(found.parts.len(), 2);
    assert!(making::now() as f64 > seen + 2.0 * GRACE.as_millis() as f64);
}

/// Goal: what a server that came back holds for a session once more, as it has forgotten an acknowledgement, is handed out again; what had
/// begun comes as what was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_acknowledgement_is_noticed() {
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], Duration::from_secs(60)).await;
    let session = server.ask::<Vec<String>>(&["ZRANGE", "umbel:leases", "0", "-1"]).remove(0);
    for (number, name) in ["waited", "began"].into_iter().enumerate() {
        making::publish(&*broker, vec![message("other", name)]).await;
        let envelope: String = server.ask(&["RPOP", "other"]);
        let field = format!("umbel:{session}:{}", 900 + number);
        let _: i64 = server.ask(&["HSET", "unacked", &field, &format!("[{envelope},\"\",\"q\"]")]);
        let _: i64 = if name == "began" {
            server.ask(&["SADD", "umbel:begun", &field])
        } else {
            server.ask(&["ZADD", "unacked_index", "1e12", &field])
        };
    }
    // Renewals fail until the server goes on.
    let renewed = |server: &RedisServer| server.ask::<Vec<(String, f64)>>(&["ZRANGE", "umbel:leases", "0", "-1", "WITHSCORES"]).remove(0).1;
    let before = renewed(&server);
    server.freeze();
    // Each of these waits for as long as a renewal does.
    for _ in 0..2 {
        soon("a failure", async { while broker.queues().await.is_ok() {} }).await;
    }
    server.thaw();
    until("a renewal", || (renewed(&server) > before).then_some(()));
    making::publish(&*broker, vec![message("q", "new")]).await;
    let mut lost = Vec::new();
    let mut seen = Vec::new();
    let mut kept = Vec::new();
    while seen.len() < 3 {
        let delivery = making::fetch_one(&mut subscription).await;
        seen.push(id(&delivery));
        lost.extend(delivery.lost.then(|| id(&delivery)));
        kept.push(delivery);
    }
    seen.sort();
    assert_eq!(seen, ["began", "new", "waited"]);
    assert_eq!(lost, ["began"]);
}

/// Goal: what is being taken while the last queue is given up is not kept by a node that fetches no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_with_who_takes_from_nothing() {
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LEASE).await;
    server.freeze();
    assert!(tokio::time::timeout(Duration::from_millis(50), subscription.fetch(1)).await.is_err());
    server.thaw();
    making::publish(&*broker, vec![message("q", "m")]).await;
    soon("no queues", subscription.take_from(&[])).await.unwrap();
    assert_eq!(broker.peek(&"q".into(), 9).await.unwrap().len(), 1);
}

/// Goal: whoever moves a great many messages that are due renews its lease in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_that_is_due_keeps_nobody_from_renewing() {
    const DUE: i64 = 200_000;
    let server = RedisServer::default();
    let Backbone { broker, .. } = backbone(&server).await;
    let script = "for i = 1, ARGV[1] do redis.call('ZADD', 'umbel:due:q', 1, i) redis.call('HSET', 'umbel:scheduled:q', i, 'q\\n{}') end
        redis.call('ZADD', 'umbel:schedules', 1, 'q')";
    let _: () = server.ask(&["EVAL", script, "0", &DUE.to_string()]);
    let _subscription = subscribe(&*broker, "node", &["elsewhere"], Duration::from_secs(1)).await;
    let renewed = || server.ask::<Vec<(String, f64)>>(&["ZRANGE", "umbel:leases", "0", "-1", "WITHSCORES"])[0].1;
    let moved = || server.ask::<i64>(&["LLEN", "q"]);
    until("some have been moved", || (moved() > 0).then_some(()));
    let before = renewed();
    until("a renewal", || {
        let later = renewed() > before;
        assert!(later || moved() < DUE, "all of it was moved without a renewal");
        later.then_some(())
    });
}
