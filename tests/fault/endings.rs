//! Endings of the phased ledger that are cut off between two steps, at each of them: what comes again is known for what it is.
//!
//! The broker is the embedded one, with a place in front of it where a step fails as it does for a node that dies there.

use std::{sync::Arc, time::Duration};

use umbel::{
    backends::{Backend, redis::RedisBackend},
    brokers::{Backbone, Broker, Delivery, Held, Subscription},
    embedded::{Store, StoreOptions},
    ledgers::{Ledger, Taken, phased::PhasedLedger},
    proto::State,
    redis::{RedisOptions, Target},
    scheduler::{Answer, Commit, Effect, Fence, Release, RunId, admission::Ended},
};
use umbel_tests::{
    conformance::making::{self, ack, fetch, fetch_one, invocation, message, open, open_chord, part, result},
    servers::redis::RedisServer,
    wait::until_async,
};

use super::faulty::Faulty;

struct Rig {
    broker: Arc<Faulty>,
    ledger: PhasedLedger,
    backend: Arc<RedisBackend>,
    redis: RedisServer,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let (folder, redis) = (tempfile::tempdir().unwrap(), RedisServer::default());
        let Backbone { broker: inner, .. } =
            Backbone::embedded(Store::open(folder.path().join("store"), StoreOptions::default()).unwrap()).unwrap();
        let broker = Arc::new(Faulty::new(inner));
        let backend = Arc::new(RedisBackend::open(Target::parse(&redis.url(1)).unwrap(), RedisOptions::default()));
        let ledger = PhasedLedger::new(broker.clone(), backend.clone());
        Self { broker, ledger, backend, redis, _folder: folder }
    }

    async fn node(&self, queue: &str) -> Box<dyn Subscription> {
        making::subscribe(&*self.broker, "node", &[queue], Duration::from_secs(60)).await
    }

    /// A message, and a node that has taken it.
    async fn taken(&self) -> (Box<dyn Subscription>, Delivery) {
        making::publish(&*self.broker, vec![message("q", "m")]).await;
        let mut node = self.node("q").await;
        let delivery = fetch_one(&mut node).await;
        (node, delivery)
    }

    /// [`Self::fail`] of a taker that dies as soon as it has sent the errback.
    async fn cut_off_sending(&self, delivery: &Delivery) {
        self.broker.publishing.set(true);
        assert!(!self.fail(delivery, "e").await);
        self.broker.publishing.set(false);
    }

    async fn state_of(&self, task: &str) -> Option<State> {
        self.backend.get(&[task.into()]).await.unwrap().remove(0).map(|record| record.status)
    }

    /// Why there is nothing left to run of a delivery.
    async fn ended(&self, delivery: &Delivery) -> Option<Ended> {
        let taken = Taken { invocation: Arc::new(invocation(delivery)), again: delivery.held.attempt > 1 };
        self.ledger.ended(&[taken]).await.unwrap().remove(0)
    }

    /// Ends a task that failed, as its taker does; whether it came through.
    async fn fail(&self, delivery: &Delivery, errback: &str) -> bool {
        let invocation = invocation(delivery);
        let effects = vec![
            Effect::Store(Box::new(result(invocation.headers.id.as_str(), State::Failure, 0))),
            Effect::Publish(Box::new(message("errbacks", errback))),
            Effect::Release(Release::Ack),
        ];
        let Held { tag, attempt, .. } = delivery.held.clone();
        let fence = Fence::Delivery { tag, attempt, run: Some(RunId::of(&invocation)) };
        self.ledger.commit(vec![Commit { fence, effects }]).await.is_ok_and(|answers| matches!(answers[..], [Answer::Done { .. }]))
    }

    /// What is remembered of endings, but for which copies were taken.
    fn remembered(&self) -> Vec<String> {
        let keys: Vec<String> = self.redis.ask(&["EVAL", "redis.call('SELECT', 1) return redis.call('KEYS', 'umbel:end*')", "0"]);
        keys
    }
}

/// The message of a dead taker, again.
async fn again(rig: &Rig, dead: Box<dyn Subscription>, delivery: Delivery, queue: &str) -> (Box<dyn Subscription>, Delivery) {
    assert!(rig.broker.inner.release(vec![(delivery.held, Release::Requeue { due: None, crashes: 0 })]).await.remove(0).unwrap());
    drop(dead);
    let mut node = rig.node(queue).await;
    let delivery = fetch_one(&mut node).await;
    assert_eq!(delivery.held.attempt, 2);
    (node, delivery)
}

/// Goal: a failure whose node dies before it has paid is not run again, and its errback is not sent again.
#[tokio::test]
async fn what_is_stored_has_ended() {
    let rig = Rig::new();
    let (node, delivery) = rig.taken().await;
    assert_eq!(rig.ended(&delivery).await, None);
    rig.broker.paying.set(true);
    assert!(!rig.fail(&delivery, "e").await);
    rig.broker.paying.set(false);
    let (_node, delivery) = again(&rig, node, delivery, "q").await;
    assert_eq!(rig.ended(&delivery).await, Some(Ended::Whole));
    // Its taker did not hear of it in time: then the ending that is there stands.
    assert!(rig.fail(&delivery, "e").await);
    let mut errbacks = rig.node("errbacks").await;
    let errback = fetch(&mut errbacks, 1).await;
    assert_eq!(rig.ended(&errback[0]).await, None);
    ack(&*rig.broker, &errback).await;
    assert!(rig.broker.queues().await.unwrap().iter().all(|queue| queue.ready + queue.held == 0), "an errback was sent twice");
}

/// Goal: whoever is told of a failure can read it, also when its node dies as soon as it has told; and the task has not ended by that.
#[tokio::test]
async fn what_is_told_is_stored() {
    let rig = Rig::new();
    let (node, delivery) = rig.taken().await;
    rig.cut_off_sending(&delivery).await;
    let mut errbacks = rig.node("errbacks").await;
    fetch_one(&mut errbacks).await;
    assert_eq!(rig.state_of("m").await, Some(State::Failure));
    let (_node, delivery) = again(&rig, node, delivery, "q").await;
    assert_eq!(rig.ended(&delivery).await, None);
    let Held { tag, attempt, .. } = delivery.held.clone();
    let effects = vec![Effect::Store(Box::new(result("m", State::Success, 1))), Effect::Release(Release::Ack)];
    let fence = Fence::Delivery { tag, attempt, run: Some(RunId::of(&invocation(&delivery))) };
    assert!(matches!(rig.ledger.commit(vec![Commit { fence, effects }]).await.unwrap()[..], [Answer::Done { .. }]));
    assert_eq!(rig.state_of("m").await, Some(State::Success), "the next run may end another way");
}

/// Goal: the failure of a chord's body is stored with the chord's conclusion and not before: who concludes it may be somebody else.
#[tokio::test]
async fn a_body_fails_with_its_chord() {
    let rig = Rig::new();
    let done = async |commit: Commit| rig.ledger.commit(vec![commit]).await.map(|answers| matches!(answers[..], [Answer::Done { .. }]));
    assert!(done(open(vec![open_chord("g", 1), part("g", 0, "t")])).await.unwrap());
    let effects = vec![Effect::Store(Box::new(result("body", State::Failure, 0))), Effect::Publish(Box::new(message("errbacks", "e")))];
    let conclusion = Commit { fence: Fence::Chord { group: "g".into(), failed: true }, effects };
    rig.broker.publishing.set(true);
    assert!(done(conclusion.clone()).await.is_err());
    rig.broker.publishing.set(false);
    assert_eq!(rig.state_of("body").await, None);
    assert!(done(conclusion.clone()).await.unwrap());
    assert_eq!(rig.state_of("body").await, Some(State::Failure));
    assert!(!done(conclusion).await.unwrap(), "it is concluded once");
}

/// Goal: a task that is cut off while it sends its errback runs again and sends a copy; of the copies one runs, also when its own
/// node dies, whichever is taken first.
#[tokio::test]
async fn one_of_two_copies_runs() {
    let rig = Rig::new();
    let (node, delivery) = rig.taken().await;
    rig.cut_off_sending(&delivery).await;
    let (_node, delivery) = again(&rig, node, delivery, "q").await;
    assert_eq!(rig.ended(&delivery).await, None, "nothing of it is stored");
    assert!(rig.fail(&delivery, "e").await);
    let mut errbacks = rig.node("errbacks").await;
    let mut copies = fetch(&mut errbacks, 2).await;
    assert_eq!(rig.ended(&copies[1]).await, None);
    assert_eq!(rig.ended(&copies[0]).await, Some(Ended::Whole));
    ack(&*rig.broker, &copies[..1]).await;
    let (_errbacks, first) = again(&rig, errbacks, copies.remove(1), "errbacks").await;
    assert_eq!(rig.ended(&first).await, None, "the copy that was taken first runs wherever it comes to");
    assert!(rig.fail(&first, "other").await);
    until_async("what is remembered of endings is forgotten", || async { rig.remembered().is_empty().then_some(()) }).await;
    assert_eq!(rig.state_of("e").await, Some(State::Failure));
}

/// Goal: a message that is moved to a later time is there once, also when its node is not told that it is.
#[tokio::test]
async fn what_is_moved_is_there_once() {
    let rig = Rig::new();
    let (mut node, delivery) = rig.taken().await;
    let Held { tag, attempt, .. } = delivery.held.clone();
    let moved = invocation(&delivery);
    let fence = Fence::Delivery { tag, attempt, run: Some(RunId::of(&moved)) };
    let publish = umbel::scheduler::Publish { invocation: moved, ..message("q", "m") };
    let commit = Commit { fence, effects: vec![Effect::Publish(Box::new(publish)), Effect::Release(Release::Ack)] };
    rig.broker.publishing.set(true);
    assert!(rig.ledger.commit(vec![commit.clone()]).await.is_err());
    rig.broker.publishing.set(false);
    assert!(matches!(rig.ledger.commit(vec![commit]).await.unwrap()[..], [Answer::Refused]));
    let queues = rig.broker.queues().await.unwrap();
    assert_eq!(queues.iter().map(|queue| queue.ready + queue.held + queue.scheduled).sum::<u64>(), 1, "{queues:?}");
    assert_eq!(fetch_one(&mut node).await.held.attempt, 1);
}

/// Goal: the same ids again, sent by another life of the same task, are no copies.
#[tokio::test]
async fn another_life_is_no_copy() {
    let rig = Rig::new();
    for _ in 0..2 {
        let (_node, delivery) = rig.taken().await;
        assert!(rig.fail(&delivery, "e").await);
        let mut errbacks = rig.node("errbacks").await;
        let errback = fetch(&mut errbacks, 1).await;
        assert_eq!(rig.ended(&errback[0]).await, None);
        ack(&*rig.broker, &errback).await;
    }
}
