//! Who holds what, by which attempt, and what happens when he dies.

use std::pin::pin;

use umbel::{brokers::Held, scheduler::Release};

use crate::{
    conformance::{Setup, Stage, making::*},
    wait::{soon, until_async},
};

/// What is sent in the place of a delivery is there once, however often it is asked for, comes at its time, and begins its count anew.
pub async fn a_message_is_sent_on_in_one_step<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "a"), message("q", "b")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q", "elsewhere"], LONG_LEASE).await;
    let held: Vec<Held> = fetch(&mut subscription, 2).await.into_iter().map(|delivery| delivery.held).collect();
    let moves = vec![
        (held[0].clone(), scheduled("q", "a", now() + 1_200)),
        (held[1].clone(), message("elsewhere", "b")),
        (held[1].clone(), message("elsewhere", "b")),
    ];
    let answers = soon("sending on", broker.send_on(moves.clone())).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [true, true, false]);
    let answers = soon("sending on", broker.send_on(moves)).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [false; 3]);
    let mut came = fetch(&mut subscription, 2).await;
    came.sort_by_key(id);
    assert_eq!(ids_of(&came), ["a", "b"]);
    assert!(came.iter().all(|delivery| delivery.held.attempt == 1), "{came:?}");
    ack(&*broker, &came).await;
    until_async("nothing is left", || async {
        let queues = broker.queues().await.ok()?;
        queues.iter().all(|queue| queue.ready + queue.held + queue.scheduled == 0).then_some(())
    })
    .await;
}

/// What is acknowledged never comes again, and cannot be settled again.
pub async fn an_acknowledged_message_is_gone<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "a"), message("q", "b")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch(&mut subscription, 2).await;
    assert_eq!(taken[0].held.attempt, 1);
    ack(&*broker, &taken[..1]).await;
    assert!(!release(&*broker, &taken[0].held, Release::Ack).await);
    stage.lose(subscription).await;
    drop(broker);
    stage = stage.reopen().await;
    let broker = stage.broker();
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let again = fetch_one(&mut subscription).await;
    assert_eq!((id(&again).as_str(), again.held.attempt), ("b", 2));
    ack(&*broker, &[again]).await;
    assert_eq!(broker.queues().await.unwrap()[0].ready, 0);
}

/// Each taking has a number one higher than the last; older numbers mean nothing any more.
pub async fn only_the_newest_attempt_may_settle<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "a")]).await;
    let mut old: Vec<Held> = Vec::new();
    for attempt in 1..=4 {
        let mut subscription = subscribe(&*broker, &format!("node{attempt}"), &["q"], SHORT_LEASE).await;
        let taken = fetch_one(&mut subscription).await;
        assert_eq!(taken.held.attempt, attempt);
        for held in &old {
            for way in [Release::Ack, Release::Begin, Release::Requeue { due: None, crashes: 1 }] {
                assert!(!release(&*broker, held, way).await, "attempt {} settled what attempt {attempt} holds", held.attempt);
            }
        }
        if attempt == 4 {
            assert!(release(&*broker, &taken.held, Release::Ack).await);
        } else {
            old.push(taken.held);
            stage.lose(subscription).await;
        }
    }
}

/// A delivery that this broker never gave is simply not held.
pub async fn an_unknown_delivery_is_not_held<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    for tag in ["999999", "nonsense", ""] {
        let held = Held { queue: "q".into(), tag: tag.into(), attempt: 1 };
        assert!(!release(&*broker, &held, Release::Ack).await);
    }
}

/// A requeued message goes before everything that waits, and carries its count of crashes.
pub async fn a_requeued_message_is_first_and_counts_its_crashes<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, ids("m", 5).iter().map(|id| message("q", id)).collect()).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let first = fetch_one(&mut subscription).await;
    assert_eq!((first.crashes, first.lost), (0, false));
    assert!(release(&*broker, &first.held, Release::Requeue { due: None, crashes: 2 }).await);
    let again = fetch(&mut subscription, 5).await;
    assert_eq!(ids_of(&again), ids("m", 5));
    assert_eq!((again[0].crashes, again[0].lost, again[0].held.attempt), (2, false, 2));
    assert_eq!(again[1].crashes, 0);
}

/// A requeue with a time is not delivered before it.
pub async fn a_requeued_message_waits_for_its_time<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "a"), message("q", "b")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let first = fetch_one(&mut subscription).await;
    let due = now() + S::SOON_MILLIS;
    assert!(release(&*broker, &first.held, Release::Requeue { due: Some(due), crashes: 1 }).await);
    assert_eq!(id(&fetch_one(&mut subscription).await), "b");
    let again = fetch_one(&mut subscription).await;
    assert_eq!((id(&again).as_str(), again.crashes, again.held.attempt), ("a", 1, 2));
    assert!(now() >= due);
}

/// Requeueing ends the attempt at once, also before the next taking.
pub async fn a_requeued_messages_old_attempt_is_over<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "a")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch_one(&mut subscription).await;
    assert!(release(&*broker, &taken.held, Release::Requeue { due: None, crashes: 0 }).await);
    assert!(!release(&*broker, &taken.held, Release::Ack).await);
    assert_eq!(fetch_one(&mut subscription).await.held.attempt, 2);
}

/// When a lease ends, what was held comes back before what waited, in the order it was taken.
pub async fn a_lost_nodes_messages_come_back_in_order<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, ids("m", 10).iter().map(|id| message("q", id)).collect()).await;
    let mut lost = subscribe(&*broker, "lost", &["q"], SHORT_LEASE).await;
    let taken = fetch(&mut lost, 6).await;
    assert_eq!(ids_of(&taken), ids("m", 6));
    stage.lose(lost).await;
    until_async("the lease ends", || async { (broker.queues().await.unwrap()[0].held == 0).then_some(()) }).await;
    let mut other = subscribe(&*broker, "other", &["q"], LONG_LEASE).await;
    let again = placed::<S>(fetch(&mut other, 10).await);
    assert_eq!(ids_of(&again), ids("m", 10));
    assert_eq!(again.iter().map(|delivery| delivery.held.attempt).collect::<Vec<_>>(), [2, 2, 2, 2, 2, 2, 1, 1, 1, 1]);
    assert!(again.iter().all(|delivery| !delivery.lost && delivery.crashes == 0));
}

/// A node that renews keeps what it holds, however long. Other nodes' leases that end meanwhile are the clock of this test.
pub async fn a_live_nodes_messages_are_never_given_to_others<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("long", "long")]).await;
    let mut alive = subscribe(&*broker, "alive", &["long"], SHORT_LEASE).await;
    let held = fetch_one(&mut alive).await;
    publish(&*broker, vec![message("clock", "tick")]).await;
    for round in 1..=4 {
        let mut ticking = subscribe(&*broker, &format!("tick{round}"), &["long", "clock"], SHORT_LEASE).await;
        let tick = fetch_one(&mut ticking).await;
        assert_eq!((id(&tick).as_str(), tick.held.attempt), ("tick", round));
        stage.lose(ticking).await;
    }
    assert!(release(&*broker, &held.held, Release::Ack).await, "it was taken from a live node");
}

/// A consumer that restarts subscribes again under its node's name: what the node runs stays the node's.
pub async fn a_new_subscription_of_a_node_keeps_its_messages<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "running"), message("clock", "tick")]).await;
    let mut old = subscribe(&*broker, "node", &["q"], SHORT_LEASE).await;
    let held = fetch_one(&mut old).await;
    let mut new = subscribe(&*broker, "node", &["q"], SHORT_LEASE).await;
    stage.lose(old).await;
    for round in 1..=3 {
        let mut ticking = subscribe(&*broker, &format!("tick{round}"), &["clock"], SHORT_LEASE).await;
        assert_eq!(fetch_one(&mut ticking).await.held.attempt, round);
        stage.lose(ticking).await;
    }
    let mut fetching = pin!(new.fetch(1));
    assert!(futures::poll!(fetching.as_mut()).is_pending());
    assert!(release(&*broker, &held.held, Release::Ack).await, "the node's message was given away while it lived");
}

/// A goodbye gives everything back at once, in order, and what the node does afterwards means nothing.
pub async fn closing_gives_everything_back<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, ids("m", 6).iter().map(|id| message("q", id)).collect()).await;
    let mut leaving = subscribe(&*broker, "leaving", &["q"], LONG_LEASE).await;
    let taken = fetch(&mut leaving, 4).await;
    ack(&*broker, &taken[..1]).await;
    soon("closing", leaving.close()).await.unwrap();
    assert!(!release(&*broker, &taken[1].held, Release::Ack).await);
    let status = broker.queues().await.unwrap();
    assert_eq!((status[0].ready, status[0].held, status[0].consumers), (5, 0, 0));
    let mut other = subscribe(&*broker, "other", &["q"], LONG_LEASE).await;
    assert_eq!(ids_of(&placed::<S>(fetch(&mut other, 5).await)), ["m1", "m2", "m3", "m4", "m5"]);
}

/// Early acknowledgement: a task that began and whose node died is told as lost to the next taker.
pub async fn a_begun_message_comes_back_as_lost<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "begun"), message("q", "waiting")]).await;
    let mut dying = subscribe(&*broker, "dying", &["q"], SHORT_LEASE).await;
    let taken = fetch(&mut dying, 2).await;
    assert!(release(&*broker, &taken[0].held, Release::Begin).await);
    stage.lose(dying).await;
    let mut other = subscribe(&*broker, "other", &["q"], LONG_LEASE).await;
    // Where among the others what is lost comes is nobody's business: it is not run.
    let (lost, waiting): (Vec<_>, Vec<_>) = fetch(&mut other, 2).await.into_iter().partition(|delivery| delivery.lost);
    assert_eq!((ids_of(&lost), ids_of(&waiting)), (vec!["begun".to_owned()], vec!["waiting".to_owned()]));
    assert_eq!(lost[0].held.attempt, 2);
    ack(&*broker, &lost).await;
    ack(&*broker, &waiting).await;
}

/// A begun message that does not start after all goes back to its queue, and is not lost with the next who takes it.
pub async fn a_begun_message_can_be_put_back<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "begun")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], SHORT_LEASE).await;
    let taken = fetch_one(&mut subscription).await;
    assert!(release(&*broker, &taken.held, Release::Begin).await);
    assert!(release(&*broker, &taken.held, Release::Requeue { due: Some(now()), crashes: 0 }).await);
    let again = fetch_one(&mut subscription).await;
    assert_eq!((id(&again).as_str(), again.held.attempt, again.lost), ("begun", 2, false));
    assert!(!release(&*broker, &taken.held, Release::Ack).await);
    stage.lose(subscription).await;
    let mut other = subscribe(&*broker, "other", &["q"], LONG_LEASE).await;
    let last = fetch_one(&mut other).await;
    assert!(!last.lost, "{last:?}");
    ack(&*broker, &[last]).await;
}

/// A begun message is held until its ending pays for it, and then it is gone for good.
pub async fn a_begun_message_can_end<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "begun")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch_one(&mut subscription).await;
    assert!(release(&*broker, &taken.held, Release::Begin).await);
    assert_eq!(broker.queues().await.unwrap()[0].held, 1);
    assert!(release(&*broker, &taken.held, Release::Ack).await);
    stage.lose(subscription).await;
    drop(broker);
    stage = stage.reopen().await;
    assert!(stage.broker().queues().await.unwrap().iter().all(|queue| queue.ready + queue.held == 0));
}

/// An accepted message is there after a crash, in its place.
pub async fn everything_published_survives<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let batch = ids("m", 300).iter().enumerate().map(|(at, id)| urgent("q", id, S::urgency((at % 2) as u8 * 9))).collect();
    publish(&*stage.broker(), batch).await;
    stage = stage.reopen().await;
    let broker = stage.broker();
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let came = ids_of(&fetch(&mut subscription, 300).await);
    let urgent_first = (1..300).step_by(2).chain((0..300).step_by(2)).map(|at| format!("m{at}")).collect();
    let expected: Vec<String> = if S::PRIORITIES { urgent_first } else { ids("m", 300) };
    assert_eq!(came, expected);
}

/// When everybody dies, what was held comes back in front, without waiting for any lease where the death is certain.
pub async fn everything_held_comes_back_after_a_crash<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, ids("m", 6).iter().map(|id| message("q", id)).collect()).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], SHORT_LEASE).await;
    let taken = fetch(&mut subscription, 4).await;
    ack(&*broker, &taken[3..]).await;
    assert!(release(&*broker, &taken[1].held, Release::Begin).await);
    drop((subscription, broker));
    stage = stage.reopen().await;
    let broker = stage.broker();
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let again = placed::<S>(fetch(&mut subscription, 5).await);
    // Where among the others what is lost comes is nobody's business: it is not run.
    let (lost, again): (Vec<_>, Vec<_>) = again.into_iter().partition(|delivery| delivery.lost);
    assert_eq!((ids_of(&lost), lost[0].held.attempt), (ids("m", 2).split_off(1), 2));
    assert_eq!(ids_of(&again), ["m0", "m2", "m4", "m5"]);
    let attempts: Vec<u32> = again.iter().map(|delivery| delivery.held.attempt).collect();
    assert_eq!(attempts[..2], [2, 2]);
    assert!(attempts[2..] == [1, 1] || (S::PUSHES && attempts[2..].iter().all(|attempt| (1..=2).contains(attempt))));
    assert!(!release(&*broker, &taken[0].held, Release::Ack).await, "a holder from before the crash settled something");
}
