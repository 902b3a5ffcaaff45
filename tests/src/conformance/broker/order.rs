//! In which order messages leave.

use crate::{
    conformance::{Setup, Stage, making::*},
    wait::soon,
};

/// First in, first out, within and across fetches.
pub async fn messages_leave_in_the_order_they_came<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let sent = ids("m", 50);
    publish(&*broker, sent[..20].iter().map(|id| message("q", id)).collect()).await;
    for id in &sent[20..] {
        publish(&*broker, vec![message("q", id)]).await;
    }
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let mut came = ids_of(&fetch(&mut subscription, 7).await);
    came.extend(ids_of(&fetch(&mut subscription, 43).await));
    assert_eq!(came, sent);
}

/// What is published as a whole comes whole, in its order and at its time, and the next whole behind it.
pub async fn what_belongs_together_comes_together<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let sent = ids("m", 1_020);
    for half in sent.chunks(510) {
        let mut whole: Vec<_> = half.iter().map(|id| message("q", id)).collect();
        whole.push(scheduled("later", &format!("due-{}", half[0]), now() + 1_200));
        soon("publishing", broker.publish_whole(whole)).await.unwrap();
    }
    let mut subscription = subscribe(&*broker, "node", &["q", "later"], LONG_LEASE).await;
    let all = ids_of(&fetch(&mut subscription, sent.len() + 2).await);
    let (mut late, came): (Vec<_>, Vec<_>) = all.into_iter().partition(|id| id.starts_with("due-"));
    late.sort();
    assert_eq!(came, sent);
    assert_eq!(late, ["due-m0", "due-m510"]);
}

/// The urgent before the others, whatever came first; equal ones in the order they came; no priority is priority 0. Where there
/// are no priorities, all of them in the order they came.
pub async fn urgent_messages_leave_first<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let mut batch: Vec<_> = (0..=9).map(|priority| urgent("q", &format!("p{priority}"), priority)).collect();
    batch.extend((0..=9).map(|priority| urgent("q", &format!("later-p{priority}"), priority)));
    batch.push(message("q", "none"));
    batch.last_mut().unwrap().invocation.properties.priority = None;
    publish(&*broker, batch).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let mut expected = Vec::new();
    if !S::PRIORITIES {
        expected.extend(["p", "later-p"].iter().flat_map(|prefix| ids(prefix, 10)).chain(["none".to_owned()]));
    }
    for priority in (0..=9).rev().filter(|_| S::PRIORITIES).map(S::urgency) {
        expected.extend([format!("p{priority}"), format!("later-p{priority}")]);
        expected.extend((priority == 0).then(|| "none".to_owned()));
    }
    assert_eq!(ids_of(&fetch(&mut subscription, 21).await), expected);
}

/// One at a time, a subscription goes round its queues.
pub async fn queues_take_turns<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    for queue in ["a", "b", "c"] {
        publish(&*broker, ids(queue, 10).iter().map(|id| message(queue, id)).collect()).await;
    }
    let mut subscription = subscribe(&*broker, "node", &["a", "b", "c"], LONG_LEASE).await;
    for _ in 0..10 {
        let mut round = Vec::new();
        for _ in 0..3 {
            round.push(fetch_one(&mut subscription).await.held.queue.to_string());
        }
        round.sort();
        assert_eq!(round, ["a", "b", "c"]);
    }
}

/// A long queue takes no more than its share while others have messages, and the whole room when they have none.
pub async fn a_busy_queue_leaves_room_for_others<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, ids("busy", 100).iter().map(|id| message("busy", id)).collect()).await;
    publish(&*broker, ids("calm", 5).iter().map(|id| message("calm", id)).collect()).await;
    let mut subscription = subscribe(&*broker, "node", &["busy", "calm"], LONG_LEASE).await;
    let first = fetch(&mut subscription, 20).await;
    assert_eq!(first.iter().filter(|delivery| delivery.held.queue.as_str() == "calm").count(), 5);
    assert_eq!(fetch(&mut subscription, 20).await.len(), 20);
}

/// Credits are a bound.
pub async fn a_fetch_returns_no_more_than_asked_for<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    for queue in ["a", "b"] {
        publish(&*broker, ids(queue, 20).iter().map(|id| message(queue, id)).collect()).await;
    }
    let mut subscription = subscribe(&*broker, "node", &["a", "b"], LONG_LEASE).await;
    for max in [1, 3, 7, 2, 15] {
        let batch = crate::wait::soon("messages", subscription.fetch(max)).await.unwrap();
        assert!(!batch.is_empty() && batch.len() <= max as usize);
    }
}

/// A subscription takes from other queues when it is told to, and keeps what it has. One that cannot says so.
pub async fn a_subscription_takes_from_other_queues<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("a", "a1"), message("b", "b1")]).await;
    let mut subscription = subscribe(&*broker, "node", &["a"], LONG_LEASE).await;
    let first = fetch_one(&mut subscription).await;
    assert_eq!(id(&first), "a1");
    let changed = soon("other queues", subscription.take_from(&["a".into(), "b".into()])).await;
    if let Err(error) = changed {
        assert!(matches!(error, umbel::brokers::BrokerError::Refused { .. }), "{error}");
        return;
    }
    assert_eq!(id(&fetch_one(&mut subscription).await), "b1");
    soon("other queues", subscription.take_from(&["b".into()])).await.unwrap();
    publish(&*broker, vec![message("a", "a2"), message("b", "b2")]).await;
    assert_eq!(id(&fetch_one(&mut subscription).await), "b2");
    let left = subscription.fetch(1);
    assert!(futures::poll!(std::pin::pin!(left)).is_pending(), "a queue that was left");
    ack(&*broker, &[first]).await;
    assert_eq!(broker.peek(&"a".into(), 9).await.unwrap().len(), 1);
}

/// A subscription takes from nothing when it is told to, keeps what it has handed out, and goes on when it is told queues. One that
/// cannot says so.
pub async fn a_subscription_takes_from_nothing<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, ids("m", 3).iter().map(|id| message("q", id)).collect()).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let first = fetch_one(&mut subscription).await;
    if let Err(error) = soon("no queues", subscription.take_from(&[])).await {
        assert!(matches!(error, umbel::brokers::BrokerError::Refused { .. }), "{error}");
        return;
    }
    let depth = broker.queues().await.unwrap().into_iter().find(|queue| queue.name.as_str() == "q").unwrap();
    assert_eq!((depth.ready, depth.held), (2, 1));
    soon("the queue again", subscription.take_from(&["q".into()])).await.unwrap();
    assert_eq!(set_of(&fetch(&mut subscription, 2).await), ["m1".to_owned(), "m2".to_owned()].into());
    ack(&*broker, &[first]).await;
}
