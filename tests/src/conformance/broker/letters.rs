//! Dead letters and revocations.

use umbel::{
    brokers::Broker,
    proto::{GroupId, TaskId, TaskName},
    scheduler::{
        DeadReason, Release,
        revocation::Revocation,
        tuning::{Limits, Tuning},
    },
};

use crate::{
    conformance::{Setup, Stage, making::*},
    wait::soon,
};

async fn bury(broker: &dyn Broker, id: &str, reason: DeadReason) {
    bury_urgent(broker, id, reason, 0).await;
}

async fn bury_urgent(broker: &dyn Broker, id: &str, reason: DeadReason, priority: u8) {
    publish(broker, vec![urgent("q", id, priority)]).await;
    let mut subscription = subscribe(broker, "undertaker", &["q"], LONG_LEASE).await;
    let taken = fetch_one(&mut subscription).await;
    assert!(release(broker, &taken.held, Release::Dead { reason, detail: format!("because of {id}") }).await);
    assert!(!release(broker, &taken.held, Release::Ack).await);
    soon("closing", subscription.close()).await.unwrap();
}

/// Where it came from, why, how often it was taken, when; also after a crash.
pub async fn a_dead_letter_keeps_its_story<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let before = now();
    bury(&*stage.broker(), "poison", DeadReason::Crashed).await;
    stage = stage.reopen().await;
    let broker = stage.broker();
    let letters = broker.dead(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.queue.as_str(), letter.reason, letter.detail.as_str()), ("q", DeadReason::Crashed, "because of poison"));
    assert_eq!(letter.attempts, 1);
    assert!((before - 1000..=now() + 1000).contains(&letter.at));
    let invocation = umbel::proto::Invocation::decode(letter.envelope.as_ref().unwrap(), umbel::proto::Limits::default()).unwrap();
    assert_eq!(invocation.headers.id.as_str(), "poison");
    assert!(broker.queues().await.unwrap().iter().all(|queue| queue.ready + queue.held == 0));
}

/// The last one first, and no more than asked for.
pub async fn dead_letters_are_listed_newest_first<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    for id in ids("m", 4) {
        bury(&*broker, &id, DeadReason::Rejected).await;
    }
    let details: Vec<String> = broker.dead(3).await.unwrap().into_iter().map(|letter| letter.detail).collect();
    assert_eq!(details, ["because of m3", "because of m2", "because of m1"]);
}

/// Sent again, it is like new: first attempt, in its old queue with its old priority.
pub async fn a_dead_letter_can_be_sent_again<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    bury_urgent(&*broker, "m", DeadReason::UnknownTask, S::urgency(9)).await;
    if S::PRIORITIES {
        publish(&*broker, vec![urgent("q", "ordinary", S::urgency(0))]).await;
    }
    let letter = broker.dead(1).await.unwrap().remove(0).id;
    assert!(broker.dead_retry(&letter).await.unwrap());
    assert!(!broker.dead_retry(&letter).await.unwrap());
    assert!(!broker.dead_retry("no such letter").await.unwrap());
    assert!(broker.dead(1).await.unwrap().is_empty());
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let again = fetch_one(&mut subscription).await;
    assert_eq!((id(&again).as_str(), again.held.attempt, again.crashes), ("m", 1, 0));
}

/// Dropped, it is gone.
pub async fn a_dead_letter_can_be_dropped<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    bury(&*broker, "m", DeadReason::BadArguments).await;
    let letter = broker.dead(1).await.unwrap().remove(0).id;
    assert!(broker.dead_drop(&letter).await.unwrap());
    assert!(!broker.dead_drop(&letter).await.unwrap());
    assert!(!broker.dead_drop("no such letter").await.unwrap());
    assert!(broker.dead(1).await.unwrap().is_empty());
}

/// Beyond the limit the oldest go.
pub async fn dead_letters_are_bounded<S: Stage>() {
    let stage = S::fresh(Setup { max_dead_letters: Some(3), ..Setup::default() }).await;
    let broker = stage.broker();
    for id in ids("m", 5) {
        bury(&*broker, &id, DeadReason::Undecodable).await;
    }
    let details: Vec<String> = broker.dead(10).await.unwrap().into_iter().map(|letter| letter.detail).collect();
    assert_eq!(details, ["because of m4", "because of m3", "because of m2"]);
}

/// Whoever listens hears of an order; whoever comes later, also after a crash, finds it.
pub async fn revocations_are_heard_and_survive<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let mut heard = broker.revoked();
    let orders = [
        Revocation::Task(TaskId::from("t")),
        Revocation::Workflow(TaskId::from("w")),
        Revocation::Group(GroupId::from("g")),
        Revocation::Start(TaskId::from("s")),
        Revocation::Stamp { name: "customer".to_owned(), value: "acme: \"1\"".to_owned() },
    ];
    broker.revoke(&orders[..1]).await.unwrap();
    broker.revoke(&orders[1..]).await.unwrap();
    let all = |revoked: &umbel::scheduler::revocation::Revoked| orders.iter().all(|order| revoked.iter().any(|(found, _)| found == order));
    soon("the orders", heard.wait_for(|revoked| all(revoked))).await.unwrap();
    assert!(heard.borrow().covers(&message("q", "t").invocation));
    assert!(!heard.borrow().covers(&message("q", "other").invocation));
    drop(broker);
    stage = stage.reopen().await;
    assert!(all(&stage.broker().revoked().borrow()));
}

/// What is changed of tasks at run time is heard by whoever listens, adds up, and is there for whoever comes later. Brokers
/// that keep no such thing say so.
pub async fn changes_to_tasks_are_heard_and_survive<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let task = TaskName::from("proj.add");
    let rate = Tuning { rate_limit: Some("10/m".to_owned()), time_limit: None };
    let limits = Tuning { rate_limit: None, time_limit: Some(Limits { soft: Some(1.5), hard: None }) };
    let Some(mut heard) = broker.tunings() else {
        assert!(!broker.tune(&task, &rate).await.unwrap());
        return;
    };
    assert!(broker.tune(&task, &rate).await.unwrap());
    assert!(broker.tune(&task, &limits).await.unwrap());
    let both = limits.over(rate);
    soon("both changes", heard.wait_for(|tunings| tunings.get(&task) == Some(&both))).await.unwrap();
    drop(broker);
    stage = stage.reopen().await;
    // Whoever takes work knows them before it takes any.
    let _subscription = subscribe(&*stage.broker(), "node", &["q"], LONG_LEASE).await;
    assert_eq!(stage.broker().tunings().unwrap().borrow().get(&task), Some(&both));
}
