//! When a change panics, and when the disk does not work.

use std::time::{Duration, Instant};

use umbel_scheduler::Release;

use super::{
    disk::{self, Fault},
    *,
};
use crate::brokers::{BrokerError, Delivery, Subscribe, Subscription};

fn new_message(queue: &str) -> NewMessage {
    let envelope = umbel_proto::Envelope {
        body: bytes::Bytes::from_static(b"[[], {}, {}]"),
        content_type: "application/json".to_owned(),
        content_encoding: "utf-8".to_owned(),
        headers: umbel_proto::Map::new(),
        properties: umbel_proto::Map::new(),
    };
    NewMessage { queue: queue.into(), priority: 0, due: None, message: encode_envelope(&envelope).unwrap() }
}

async fn publish(store: &Arc<Store>) -> Result<(), StoreError> {
    let new = new_message("q");
    store.write(0, move |tx| tx.publish(&new)).await
}

/// Asks until it works, as callers do.
async fn insist<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn subscribe(store: &Arc<Store>) -> Box<dyn Subscription> {
    let broker = EmbeddedBroker::new(Arc::clone(store)).unwrap();
    let request = Subscribe::new("node", ["q"], Duration::from_secs(600));
    broker.subscribe(request).await.unwrap()
}

async fn fetch(subscription: &mut Box<dyn Subscription>, max: u32) -> Vec<Delivery> {
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(Duration::from_secs(60), subscription.fetch(max)).await.expect("nothing came") {
            Ok(deliveries) => return deliveries,
            Err(BrokerError::Unavailable { .. }) => assert!(begun.elapsed() < Duration::from_secs(60)),
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn ready(store: &Arc<Store>) -> u64 {
    EmbeddedBroker::new(Arc::clone(store)).unwrap().queues().await.unwrap().first().map_or(0, |queue| queue.ready)
}

#[tokio::test]
async fn a_change_that_panics_harms_only_itself() {
    let store = Store::temporary(StoreOptions::default()).unwrap();
    publish(&store).await.unwrap();
    let error = store
        .write(0, |tx| -> Result<(), StoreError> {
            tx.publish(&new_message("half"))?;
            panic!("a bug")
        })
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    publish(&store).await.unwrap();
    assert_eq!(ready(&store).await, 2);
    assert!(store.memory(|state| !state.ids.contains_key(&umbel_proto::QueueName::from("half"))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_among_good_changes_undo_no_answered_one() {
    let store = Store::temporary(StoreOptions::default()).unwrap();
    let changes = (0..200).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            if number % 20 == 7 {
                // Another panic in the same transaction may come first; then this one is told to ask again.
                while let Err(StoreError::Unavailable(_)) = store.write(0, |_| -> Result<(), StoreError> { panic!("a bug") }).await {}
                0
            } else {
                insist(|| publish(&store)).await;
                1
            }
        })
    });
    let published: u64 = futures::future::try_join_all(changes).await.unwrap().into_iter().sum();
    assert_eq!((published, ready(&store).await), (190, 190));
}

#[tokio::test]
async fn a_full_disk_is_a_pause() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    let mut subscription = subscribe(&store).await;
    publish(&store).await.unwrap();
    publish(&store).await.unwrap();
    let first = fetch(&mut subscription, 1).await.remove(0);
    disk::set(&path, Some(Fault::Full));
    for _ in 0..3 {
        let error = publish(&store).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    disk::set(&path, None);
    insist(|| publish(&store)).await;
    // What was held is still held by the one who holds it; what waited waits.
    let broker = EmbeddedBroker::new(Arc::clone(&store)).unwrap();
    assert!(broker.release(vec![(first.held, Release::Ack)]).await.remove(0).unwrap());
    assert_eq!(fetch(&mut subscription, 10).await.len(), 2);
    assert_eq!(ready(&store).await, 0);
}

/// The commit that hands a message out becomes durable, and yet the disk says that it failed: nobody has the message, though
/// the file says that a live node holds it.
#[tokio::test]
async fn a_message_handed_out_to_nobody_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    let mut subscription = subscribe(&store).await;
    for _ in 0..3 {
        publish(&store).await.unwrap();
    }
    disk::set(&path, Some(Fault::Liar));
    let error = subscription.fetch(2).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unavailable { .. }), "{error}");
    disk::set(&path, None);
    let mut taken = fetch(&mut subscription, 3).await;
    while taken.len() < 3 {
        taken.extend(fetch(&mut subscription, 3).await);
    }
    let broker = EmbeddedBroker::new(Arc::clone(&store)).unwrap();
    for answer in broker.release(taken.into_iter().map(|delivery| (delivery.held, Release::Ack)).collect()).await {
        assert!(answer.unwrap());
    }
    assert!(broker.queues().await.unwrap().iter().all(|queue| queue.ready + queue.held == 0));
}
