//! Waiting for messages, and for their time.

use std::{pin::pin, sync::Arc, task::Poll};

use umbel::proto::{Map, Value};

use crate::{
    conformance::{Setup, Stage, making::*},
    wait::{soon, until_async},
};

/// Headers of the user's own, bytes, large integers and the arguments' very bytes arrive as they were sent.
pub async fn a_message_comes_out_as_it_went_in<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let mut sent = message("q", "exact");
    let nested = Value::List(vec![
        Value::Null,
        Value::Float(-0.5),
        Value::Bool(true),
        Value::Map(Map::from_iter([("k".to_owned(), Value::Int(i64::MIN))])),
    ]);
    for (name, value) in [
        ("x-text", Value::from("käse \u{1F9C0}\0\n")),
        ("x-huge", Value::BigInt("123456789012345678901234567890".into())),
        ("x-nested", nested),
    ] {
        sent.invocation.headers.other.insert(name.to_owned(), value);
    }
    sent.invocation.properties.reply_to = Some("reply".to_owned());
    let expected = sent.invocation.clone();
    publish(&*broker, vec![sent]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let came = invocation(&fetch_one(&mut subscription).await);
    assert_eq!(came.headers, expected.headers);
    assert_eq!(came.body, expected.body);
    assert_eq!(came.properties.reply_to, expected.properties.reply_to);
}

/// The routing key names the queue at the default exchange; at a named one the sender has worked the queue out.
pub async fn a_named_exchange_leads_to_the_routes_queue<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let mut named = message("q", "named");
    named.route.exchange = "media".to_owned();
    named.route.routing_key = "video.mpeg".to_owned();
    publish(&*broker, vec![named, message("q", "plain")]).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    assert_eq!(ids_of(&fetch(&mut subscription, 2).await), ["named", "plain"]);
}

/// A fetch on an empty queue is woken by the next publish.
pub async fn a_fetch_waits_for_a_message<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    for round in ids("r", 20) {
        let fetching = tokio::spawn(async move {
            let delivery = fetch_one(&mut subscription).await;
            (subscription, delivery)
        });
        publish(&*broker, vec![message("q", &round)]).await;
        let (back, delivery) = soon("the fetch", fetching).await.unwrap();
        assert_eq!(id(&delivery), round);
        subscription = back;
    }
}

/// Messages of other queues neither wake a fetch nor end up in it.
pub async fn other_queues_do_not_disturb<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let mut mine = subscribe(&*broker, "node", &["mine"], LONG_LEASE).await;
    let mut fetching = pin!(mine.fetch(10));
    assert!(futures::poll!(fetching.as_mut()).is_pending());
    publish(&*broker, ids("o", 10).iter().map(|id| message("other", id)).collect()).await;
    assert!(futures::poll!(fetching.as_mut()).is_pending());
    publish(&*broker, vec![message("mine", "m")]).await;
    assert_eq!(ids_of(&soon("the fetch", fetching).await.unwrap()), ["m"]);
    let mut theirs = subscribe(&*broker, "node", &["other"], LONG_LEASE).await;
    assert_eq!(ids_of(&fetch(&mut theirs, 10).await), ids("o", 10));
}

/// Fetches that are given up at any moment, again and again, lose and double nothing.
pub async fn a_dropped_fetch_loses_nothing<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let sent = ids("m", 200);
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let mut came = Vec::new();
    for (round, id) in sent.iter().enumerate() {
        publish(&*broker, vec![message("q", id)]).await;
        let mut fetching = pin!(subscription.fetch(3));
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
            if let Poll::Ready(batch) = futures::poll!(fetching.as_mut()) {
                came.extend(batch.unwrap());
                break;
            }
        }
    }
    let rest = sent.len() - came.len();
    came.extend(fetch(&mut subscription, rest).await);
    assert_eq!(set_of(&came), sent.into_iter().collect());
    ack(&*broker, &came).await;
}

/// A consumer that dies while it waits takes nothing with it, though its node lives on with another.
pub async fn a_dead_consumers_wait_takes_nothing<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    for round in ids("r", 20) {
        let mut dying = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
        let mut fetching = Box::pin(async move {
            let batch = dying.fetch(10).await;
            (dying, batch)
        });
        assert!(futures::poll!(fetching.as_mut()).is_pending());
        // Lets the wait get to where it is going, before or after the message.
        broker.queues().await.unwrap();
        let published = tokio::spawn({
            let (broker, message) = (Arc::clone(&broker), message("q", &round));
            async move { publish(&*broker, vec![message]).await }
        });
        drop(fetching);
        soon("the publisher", published).await.unwrap();
        let mut heir = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
        let taken = fetch(&mut heir, 1).await;
        assert_eq!(ids_of(&taken), [round]);
        ack(&*broker, &taken).await;
        soon("closing", heir.close()).await.unwrap();
    }
}

/// A debt that is dropped unsettled brings its message back to the front. Each comes back by itself, so those that were
/// dropped one after the other have no order among themselves; what was never taken stays behind them.
pub async fn a_dropped_debt_returns_its_message<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    publish(&*broker, ids("m", 5).iter().map(|id| message("q", id)).collect()).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    let taken = fetch(&mut subscription, 3).await;
    for delivery in &taken {
        drop(umbel::claim::Debt::new(delivery.held.clone(), subscription.returns()));
    }
    until_async("the messages are back", || async { (broker.queues().await.unwrap()[0].ready == 5).then_some(()) }).await;
    let again = placed::<S>(fetch(&mut subscription, 5).await);
    let came = ids_of(&again);
    assert_eq!(set_of(&again[..3]), ids("m", 3).into_iter().collect());
    assert_eq!(came[3..], ids("m", 5)[3..]);
    assert_eq!(again.iter().map(|delivery| delivery.held.attempt).collect::<Vec<_>>(), [2, 2, 2, 1, 1]);
    // A debt that is settled returns nothing.
    ack(&*broker, &again).await;
    umbel::claim::Debt::new(again[0].held.clone(), subscription.returns()).settled();
}

/// Nothing comes before its time; what is due comes by itself.
pub async fn a_scheduled_message_waits_for_its_time<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let due = now() + S::SOON_MILLIS;
    publish(
        &*broker,
        vec![scheduled("q", "later", due), scheduled("q", "never", due + 1_000_000), scheduled("q", "past", 1), message("q", "now")],
    )
    .await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    assert_eq!(ids_of(&fetch(&mut subscription, 2).await), ["past", "now"]);
    assert_eq!(id(&fetch_one(&mut subscription).await), "later");
    assert!(now() >= due, "it came {} ms early", due - now());
    let mut fetching = pin!(subscription.fetch(1));
    assert!(futures::poll!(fetching.as_mut()).is_pending());
    assert_eq!(broker.queues().await.unwrap()[0].scheduled, 1);
}

/// The schedule is durable.
pub async fn a_scheduled_message_survives<S: Stage>() {
    let mut stage = S::fresh(Setup::default()).await;
    let due = now() + 500;
    publish(&*stage.broker(), vec![scheduled("q", "soon", due), scheduled("q", "late", due + 1_000_000)]).await;
    stage = stage.reopen().await;
    let broker = stage.broker();
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    assert_eq!(id(&fetch_one(&mut subscription).await), "soon");
    assert!(now() >= due);
    assert_eq!(broker.queues().await.unwrap()[0].scheduled, 1);
}

/// A whole heap that becomes due at the same time comes complete, urgent ones first.
pub async fn many_become_due_at_once<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let due = now() + 300;
    let sent = ids("m", 5000);
    let batch = sent.iter().enumerate().map(|(at, id)| {
        let mut message = scheduled("q", id, due);
        message.invocation.properties.priority = Some((at % 10) as u8);
        message
    });
    publish(&*broker, batch.collect()).await;
    let mut subscription = subscribe(&*broker, "node", &["q"], LONG_LEASE).await;
    assert_eq!(set_of(&fetch(&mut subscription, 5000).await), sent.into_iter().collect());
    assert!(now() >= due);
}
