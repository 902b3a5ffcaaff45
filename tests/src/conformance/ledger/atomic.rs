//! All effects or none, under a fence.

use std::pin::pin;

use umbel::{
    backends::Backend,
    brokers::Broker,
    proto::{ResultRecord, State, TaskId, Value},
    scheduler::{Answer, Commit, DeadReason, Effect, Fence, Publish, Release},
};

use super::{commit, done, refused};
use crate::{
    conformance::{Setup, Stage, making::*},
    wait::soon,
};

fn send(publish: Publish) -> Effect {
    Effect::Publish(Box::new(publish))
}

fn store(record: ResultRecord) -> Effect {
    Effect::Store(Box::new(record))
}

fn success(id: &str) -> Effect {
    store(result(id, State::Success, "value"))
}

async fn stored(backend: &dyn Backend, id: &str) -> Option<State> {
    backend.get(&[TaskId::from(id)]).await.unwrap().remove(0).map(|record| record.status)
}

async fn counts(broker: &dyn Broker, queue: &str) -> (u64, u64, u64) {
    let queues = broker.queues().await.unwrap();
    queues.iter().find(|status| status.name.as_str() == queue).map_or((0, 0, 0), |queue| (queue.ready, queue.held, queue.scheduled))
}

/// Successors, result and acknowledgement.
pub async fn an_ending_happens_whole<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger) = (stage.broker(), stage.ledger());
    publish(&*broker, vec![message("q", "t")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch_one(&mut subscription).await;
    let next = [
        send(urgent("next", "n1", S::urgency(0))),
        send(scheduled("next", "n2", now() + 1_000_000)),
        send(urgent("next", "n3", S::urgency(9))),
    ];
    let effects = next.into_iter().chain([success("t"), Effect::Release(Release::Ack)]).collect();
    assert!(done(&*ledger, ending(&taken.held, effects)).await.is_empty());
    assert_eq!(stored(&*stage.backend(), "t").await, Some(State::Success));
    assert_eq!(counts(&*broker, "q").await, (0, 0, 0));
    assert_eq!(counts(&*broker, "next").await, (2, 0, 1));
    let mut subscription = subscribe(&*broker, "node", &["next"], LONG_LEASE).await;
    let order = if S::PRIORITIES { ["n3", "n1"] } else { ["n1", "n3"] };
    assert_eq!(ids_of(&fetch(&mut subscription, 2).await), order);
}

/// Whoever is told of a failure can read it, as an errback does.
pub async fn a_failure_is_there_before_its_errback<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger, backend) = (stage.broker(), stage.ledger(), stage.backend());
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let mut errbacks = subscribe(&*broker, "other", &["errbacks"], LONG_LEASE).await;
    for round in 0..20 {
        let id = format!("t{round}");
        publish(&*broker, vec![message("q", &id)]).await;
        let taken = fetch_one(&mut subscription).await;
        let failure = store(result(&id, State::Failure, "error"));
        let errback = send(message("errbacks", &format!("e{round}")));
        let told = async {
            let errback = fetch_one(&mut errbacks).await;
            let found = stored(&*backend, &id).await;
            ack(&*broker, &[errback]).await;
            found
        };
        let (_, found) = tokio::join!(done(&*ledger, ending(&taken.held, vec![failure, errback, Effect::Release(Release::Ack)])), told);
        assert_eq!(found, Some(State::Failure));
    }
}

/// A failure is stored while its task's process has yet to call errbacks, and the ending adds nothing to it.
pub async fn a_failure_that_was_stored_before_ends_its_task<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger, backend) = (stage.broker(), stage.ledger(), stage.backend());
    publish(&*broker, vec![message("q", "t")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let held = fetch_one(&mut subscription).await.held;
    let mut zombie = held.clone();
    zombie.attempt += 1;
    let failure = || vec![store(result("t", State::Failure, "error"))];
    refused(&*ledger, ending(&zombie, failure())).await;
    assert_eq!(stored(&*backend, "t").await, None);
    done(&*ledger, ending(&held, failure())).await;
    assert_eq!((stored(&*backend, "t").await, counts(&*broker, "q").await), (Some(State::Failure), (0, 1, 0)));
    // What the task's process does meanwhile stays.
    done(&*ledger, ending(&held, vec![store(result("t", State::by_name("MINE"), Value::Null))])).await;
    done(&*ledger, ending(&held, vec![Effect::StoredBefore, Effect::Release(Release::Ack)])).await;
    assert_eq!((stored(&*backend, "t").await, counts(&*broker, "q").await), (Some(State::by_name("MINE")), (0, 0, 0)));
}

/// Under a fence that does not hold, nothing at all.
pub async fn a_refused_commit_does_nothing<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger) = (stage.broker(), stage.ledger());
    publish(&*broker, vec![message("q", "t")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let mut held = fetch_one(&mut subscription).await.held;
    let effects = |group| vec![send(message("next", "n")), success("t"), open_chord(group, 0), Effect::Release(Release::Ack)];
    held.attempt += 1;
    refused(&*ledger, ending(&held, effects("g"))).await;
    held.tag = "424242".into();
    refused(&*ledger, ending(&held, effects("g"))).await;
    held.tag = "no tag of this broker".into();
    refused(&*ledger, ending(&held, effects("g"))).await;
    let chord = umbel::scheduler::Fence::Chord { group: "g".into(), failed: false };
    refused(&*ledger, umbel::scheduler::Commit { fence: chord, effects: effects("h") }).await;
    assert_eq!(stored(&*stage.backend(), "t").await, None);
    assert_eq!(stage.backend().chord(&"g".into()).await.unwrap(), None);
    assert_eq!(counts(&*broker, "q").await, (0, 1, 0));
    assert_eq!(counts(&*broker, "next").await, (0, 0, 0));
}

/// A node that was thought dead and comes back changes nothing any more.
pub async fn an_old_attempt_is_refused<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger) = (stage.broker(), stage.ledger());
    publish(&*broker, vec![message("q", "t")]).await;
    let mut zombie = subscribe(&*broker, "zombie", &["q"], SHORT_LEASE).await;
    let old = fetch_one(&mut zombie).await.held;
    stage.lose(zombie).await;
    let mut heir = subscribe(&*broker, "heir", &["q"], LONG_LEASE).await;
    let new = fetch_one(&mut heir).await.held;
    let effects = |value: &str| vec![store(result("t", State::Success, value)), Effect::Release(Release::Ack)];
    refused(&*ledger, ending(&old, effects("old"))).await;
    done(&*ledger, ending(&new, effects("new"))).await;
    refused(&*ledger, ending(&old, effects("old"))).await;
    let record = stage.backend().get(&[TaskId::from("t")]).await.unwrap().remove(0).unwrap();
    assert_eq!(record.result, Value::from("new"));
}

/// The same commit sent again, also in the same batch.
pub async fn an_ending_cannot_happen_twice<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger) = (stage.broker(), stage.ledger());
    publish(&*broker, vec![message("q", "t")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let held = fetch_one(&mut subscription).await.held;
    let one = ending(&held, vec![send(message("next", "n")), Effect::Release(Release::Ack)]);
    let answers = commit(&*ledger, vec![one.clone(), one.clone()]).await;
    assert_eq!(answers, [Answer::Done { ready: Vec::new() }, Answer::Refused]);
    refused(&*ledger, one).await;
    assert_eq!(counts(&*broker, "next").await, (1, 0, 0));
}

/// Commits of one batch have nothing to do with each other.
pub async fn a_refused_commit_harms_no_other<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger) = (stage.broker(), stage.ledger());
    publish(&*broker, ids("t", 9).iter().map(|id| message("q", id)).collect()).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch(&mut subscription, 9).await;
    let commits = taken.iter().enumerate().map(|(at, delivery)| {
        let mut held = delivery.held.clone();
        held.attempt += u32::from(at % 3 == 1);
        ending(&held, vec![success(&id(delivery)), Effect::Release(Release::Ack)])
    });
    let answers = commit(&*ledger, commits.collect()).await;
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(*answer == Answer::Refused, at % 3 == 1);
        assert_eq!(stored(&*stage.backend(), &format!("t{at}")).await.is_none(), at % 3 == 1);
    }
    assert_eq!(counts(&*broker, "q").await, (0, 3, 0));
}

/// STARTED and progress are stored under the fence of a delivery that goes on.
pub async fn a_commit_without_a_release_keeps_the_delivery<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger) = (stage.broker(), stage.ledger());
    publish(&*broker, vec![message("q", "t")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let held = fetch_one(&mut subscription).await.held;
    done(&*ledger, ending(&held, vec![store(result("t", State::Started, Value::Null))])).await;
    assert_eq!(stored(&*stage.backend(), "t").await, Some(State::Started));
    assert_eq!(counts(&*broker, "q").await, (0, 1, 0));
    done(&*ledger, ending(&held, vec![success("t"), Effect::Release(Release::Ack)])).await;
    assert_eq!(counts(&*broker, "q").await, (0, 0, 0));
}

/// Early acknowledgement: the fence goes on until the ending.
pub async fn a_begun_delivery_ends_under_its_fence<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger) = (stage.broker(), stage.ledger());
    publish(&*broker, vec![message("q", "t")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let held = fetch_one(&mut subscription).await.held;
    done(&*ledger, ending(&held, vec![store(result("t", State::Started, Value::Null)), Effect::Release(Release::Begin)])).await;
    assert_eq!(counts(&*broker, "q").await, (0, 1, 0));
    done(&*ledger, ending(&held, vec![success("t"), Effect::Release(Release::Ack)])).await;
    assert_eq!(counts(&*broker, "q").await, (0, 0, 0));
    refused(&*ledger, ending(&held, vec![Effect::Release(Release::Ack)])).await;
}

/// After a crash the next taker is told, and its ending is the one that counts.
pub async fn a_begun_delivery_of_a_dead_node_is_lost<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    publish(&*stage.broker(), vec![message("q", "t")]).await;
    let mut subscription = subscribe(&*stage.broker(), "node", &["q"], SHORT_LEASE).await;
    let old = fetch_one(&mut subscription).await.held;
    done(&*stage.ledger(), ending(&old, vec![Effect::Release(Release::Begin)])).await;
    drop(subscription);
    stage = stage.reopen().await;
    let mut subscription = subscribe(&*stage.broker(), "node", &["q"], LONG_LEASE).await;
    let again = fetch_one(&mut subscription).await;
    assert!(again.lost);
    refused(&*stage.ledger(), ending(&old, vec![success("t"), Effect::Release(Release::Ack)])).await;
    let failure = store(result("t", State::Failure, "lost"));
    done(&*stage.ledger(), ending(&again.held, vec![failure, Effect::Release(Release::Ack)])).await;
    assert_eq!(stored(&*stage.backend(), "t").await, Some(State::Failure));
}

/// The other ways to pay.
pub async fn an_ending_can_requeue_and_bury<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let (broker, ledger) = (stage.broker(), stage.ledger());
    publish(&*broker, vec![message("q", "back"), message("q", "dead")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch(&mut subscription, 2).await;
    let requeue = Effect::Release(Release::Requeue { due: None, crashes: 1 });
    let dead = Effect::Release(Release::Dead { reason: DeadReason::Crashed, detail: "three times".to_owned() });
    let answers = commit(&*ledger, vec![ending(&taken[0].held, vec![requeue]), ending(&taken[1].held, vec![success("dead"), dead])]).await;
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Done { .. })));
    let again = fetch_one(&mut subscription).await;
    assert_eq!((id(&again).as_str(), again.crashes), ("back", 1));
    assert_eq!(broker.dead(10).await.unwrap()[0].detail, "three times");
}

/// A sender that repeats a submission whose answer it has not heard sends it once; another token is another submission. The
/// repetition is answered as done by every ledger, whether it remembers or not.
pub async fn a_repeated_submission_happens_once<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let once = |token: &str, id: &str| Commit {
        fence: Fence::Once { token: token.to_owned(), keep: LONG_LEASE },
        effects: vec![send(message("q", id)), success(id)],
    };
    let ledger = stage.ledger();
    assert!(done(&*ledger, once("a", "first")).await.is_empty());
    for answer in commit(&*ledger, vec![once("a", "first"), once("b", "second"), once("b", "second")]).await {
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    }
    drop(ledger);
    stage = stage.reopen().await;
    assert!(done(&*stage.ledger(), once("a", "first")).await.is_empty());
    if S::remembers_tokens() {
        assert_eq!(counts(&*stage.broker(), "q").await, (2, 0, 0));
    }
}

/// A workflow is there with its chord and all its first messages, and is woken up for.
pub async fn a_submission_happens_whole<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let mut came = {
        let mut fetching = pin!(subscription.fetch(100));
        assert!(futures::poll!(fetching.as_mut()).is_pending());
        let effects = std::iter::once(open_chord("g", 50)).chain(ids("m", 50).iter().map(|id| send(message("q", id)))).collect();
        assert!(done(&*stage.ledger(), open(effects)).await.is_empty());
        soon("the header", fetching).await.unwrap()
    };
    // A broker that pushes may hand out the first before the last has come.
    let rest = 50 - came.len();
    came.extend(fetch(&mut subscription, rest).await);
    assert_eq!(ids_of(&came), ids("m", 50));
    let progress = stage.backend().chord(&"g".into()).await.unwrap().unwrap();
    assert_eq!((progress.size, progress.done), (50, 0));
}

/// Answered is durable.
pub async fn endings_survive<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    publish(&*stage.broker(), vec![message("q", "t")]).await;
    let mut subscription = subscribe(&*stage.broker(), "node", &["q"], LONG_LEASE).await;
    let held = fetch_one(&mut subscription).await.held;
    done(&*stage.ledger(), ending(&held, vec![send(message("next", "n")), success("t"), Effect::Release(Release::Ack)])).await;
    drop(subscription);
    stage = stage.reopen().await;
    assert_eq!(stored(&*stage.backend(), "t").await, Some(State::Success));
    assert_eq!(counts(&*stage.broker(), "q").await, (0, 0, 0));
    assert_eq!(counts(&*stage.broker(), "next").await, (1, 0, 0));
}

/// A late failure is acknowledged with everything else it means, but does not overwrite.
pub async fn a_stored_success_stays<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let ledger = stage.ledger();
    done(&*ledger, open(vec![success("t")])).await;
    done(&*ledger, open(vec![store(result("t", State::Failure, "late")), send(message("next", "n"))])).await;
    assert_eq!(stored(&*stage.backend(), "t").await, Some(State::Success));
    assert_eq!(counts(&*stage.broker(), "next").await, (1, 0, 0));
}

/// Results that come through the ledger are watched like any others.
pub async fn watchers_hear_of_endings<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let mut watch = stage.backend().watch(&[TaskId::from("t")]).await.unwrap();
    done(&*stage.ledger(), open(vec![success("t")])).await;
    assert_eq!(soon("the record", watch.next()).await.unwrap().status, State::Success);
}

/// Nothing to do is done.
pub async fn an_empty_batch_is_answered<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    assert!(commit(&*stage.ledger(), Vec::new()).await.is_empty());
    assert!(done(&*stage.ledger(), open(Vec::new())).await.is_empty());
}
