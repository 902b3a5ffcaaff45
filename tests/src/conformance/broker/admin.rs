//! What operators see and do.

use std::pin::pin;

use crate::{
    conformance::{Setup, Stage, making::*},
    wait::soon,
};

/// Counters, age, consumers.
pub async fn queues_tell_what_they_have<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let before = now();
    publish(&*broker, ids("m", 5).iter().map(|id| message("b", id)).collect()).await;
    publish(&*broker, vec![urgent("b", "urgent", 9), scheduled("b", "s", now() + 1_000_000), message("a", "x")]).await;
    let mut subscription = subscribe(&*broker, "node", &["b"], LONG_LEASE).await;
    let _other_of_the_node = subscribe(&*broker, "node", &["b"], LONG_LEASE).await;
    let _other_node = subscribe(&*broker, "node2", &["b", "c"], LONG_LEASE).await;
    fetch(&mut subscription, 2).await;
    let queues = broker.queues().await.unwrap();
    let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let b = &queues[1];
    assert_eq!((b.ready, b.held, b.scheduled, b.consumers, b.paused), (4, 2, 1, 2, false));
    match S::TELLS_AGES {
        true => assert!(b.oldest.is_some_and(|oldest| (before - 1000..=now()).contains(&oldest)), "{:?}", b.oldest),
        false => assert_eq!(b.oldest, None),
    }
    assert_eq!((queues[2].ready, queues[2].oldest, queues[2].consumers), (0, None, 1));
}

/// A queue without messages, consumers or a pause is not worth a line.
pub async fn empty_queues_are_not_listed<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "a")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch(&mut subscription, 1).await;
    ack(&*broker, &taken).await;
    soon("closing", subscription.close()).await.unwrap();
    assert_eq!(broker.queues().await.unwrap(), []);
}

/// Waiting and scheduled messages go, held ones and other queues' stay.
pub async fn a_purge_spares_what_is_held<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, ids("m", 6).iter().map(|id| message("q", id)).collect()).await;
    publish(&*broker, vec![scheduled("q", "s", now() + 300), urgent("q", "u", 9), message("other", "o")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch(&mut subscription, 2).await;
    assert_eq!(broker.purge(&"q".into()).await.unwrap(), 6);
    assert_eq!(broker.purge(&"q".into()).await.unwrap(), 0);
    assert_eq!(broker.purge(&"nowhere".into()).await.unwrap(), 0);
    let queues = broker.queues().await.unwrap();
    assert_eq!((queues[0].name.as_str(), queues[0].ready), ("other", 1));
    assert_eq!((queues[1].ready, queues[1].held, queues[1].scheduled, queues[1].oldest), (0, 2, 0, None));
    ack(&*broker, &taken).await;
}

/// A purge of more than fits into one step.
pub async fn a_large_purge_leaves_nothing<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let sent = ids("m", 10_000);
    for chunk in sent.chunks(1000) {
        publish(&*broker, chunk.iter().map(|id| message("q", id)).collect()).await;
    }
    assert_eq!(broker.purge(&"q".into()).await.unwrap(), 10_000);
    assert_eq!(broker.queues().await.unwrap(), []);
}

/// A paused queue keeps taking messages in and hands none out, until it is resumed.
pub async fn a_paused_queue_hands_nothing_out<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "before")]).await;
    broker.pause(&"q".into(), true).await.unwrap();
    let mut subscription = subscribe(&*broker, "node", &["q", "open"], LONG_LEASE).await;
    publish(&*broker, vec![message("q", "during"), message("open", "other")]).await;
    assert_eq!(id(&fetch_one(&mut subscription).await), "other");
    {
        let mut fetching = pin!(subscription.fetch(10));
        assert!(futures::poll!(fetching.as_mut()).is_pending());
        let queues = broker.queues().await.unwrap();
        assert_eq!((queues[1].name.as_str(), queues[1].paused, queues[1].ready), ("q", true, 2));
        assert!(futures::poll!(fetching.as_mut()).is_pending());
        broker.pause(&"q".into(), false).await.unwrap();
        assert_eq!(ids_of(&soon("the fetch", fetching).await.unwrap()), ["before", "during"]);
    }
    assert!(broker.queues().await.unwrap().iter().all(|queue| !queue.paused));
}

/// A pause is for every node, now and later, also of a queue that nobody has used yet.
pub async fn a_pause_survives<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    stage.broker().pause(&"q".into(), true).await.unwrap();
    stage = stage.reopen().await;
    let broker = stage.broker();
    publish(&*broker, vec![message("q", "m")]).await;
    let queues = broker.queues().await.unwrap();
    assert_eq!((queues[0].name.as_str(), queues[0].paused, queues[0].ready), ("q", true, 1));
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let mut fetching = pin!(subscription.fetch(1));
    assert!(futures::poll!(fetching.as_mut()).is_pending());
    broker.pause(&"q".into(), false).await.unwrap();
    assert_eq!(ids_of(&soon("the fetch", fetching).await.unwrap()), ["m"]);
}

/// The next messages, in the order in which they would leave, stay where they are.
pub async fn peeking_takes_nothing<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let due = now() + 1_000_000;
    publish(
        &*broker,
        vec![
            urgent("q", "a", S::urgency(4)),
            urgent("q", "u", S::urgency(5)),
            urgent("q", "b", S::urgency(4)),
            scheduled("q", "s2", due + 1),
            scheduled("q", "s1", due),
        ],
    )
    .await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch_one(&mut subscription).await;
    assert!(release(&*broker, &taken.held, umbel::scheduler::Release::Requeue { due: None, crashes: 0 }).await);
    for round in 0..2 {
        let told = |attempts: u32| if S::LOOKING_COUNTS && round > 0 { 0 } else { attempts };
        let peeked = broker.peek(&"q".into(), 10).await.unwrap();
        let seen: Vec<_> = peeked
            .iter()
            .map(|peeked| {
                let invocation = umbel::proto::Invocation::decode(peeked.envelope.as_ref().unwrap(), umbel::proto::Limits::default());
                (invocation.unwrap().headers.id.to_string(), peeked.due, told(peeked.attempts))
            })
            .collect();
        let first = if S::PRIORITIES { [("u", None, 1), ("a", None, 0)] } else { [("a", None, 1), ("u", None, 0)] };
        let expected = [first[0], first[1], ("b", None, 0), ("s1", Some(due), 0), ("s2", Some(due + 1), 0)];
        assert_eq!(seen, expected.map(|(id, due, attempts)| (id.to_owned(), due, told(attempts))));
    }
    assert_eq!(broker.peek(&"q".into(), 2).await.unwrap().len(), 2);
    assert!(broker.peek(&"nowhere".into(), 10).await.unwrap().is_empty());
    let attempt = fetch(&mut subscription, 3).await[0].held.attempt;
    assert!(attempt == 2 || (S::LOOKING_COUNTS && attempt > 2), "{attempt}");
}
