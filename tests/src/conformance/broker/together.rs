//! Many at once.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::Mutex;

use crate::{
    conformance::{Setup, Stage, making::*},
    wait::{soon, until_async},
};

/// Several publishers, several nodes with several queues: every message comes exactly once.
pub async fn nothing_is_lost_or_doubled_among_many<S: Stage>() {
    const PUBLISHERS: usize = 6;
    const EACH: usize = 250;
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let seen: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let mut nodes = Vec::new();
    for node in 0..3u32 {
        let (broker, seen) = (Arc::clone(&broker), Arc::clone(&seen));
        nodes.push(tokio::spawn(async move {
            let mut subscription = subscribe(&*broker, &format!("node{node}"), &["a", "b"], LONG_LEASE).await;
            loop {
                let batch = subscription.fetch(1 + node * 5).await.unwrap();
                let mut seen = seen.lock().await;
                batch.iter().for_each(|delivery| *seen.entry(id(delivery)).or_default() += 1);
                drop(seen);
                ack(&*broker, &batch).await;
            }
        }));
    }
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            for chunk in ids(&format!("p{publisher}-"), EACH).chunks(1 + publisher) {
                let queue = if publisher % 2 == 0 { "a" } else { "b" };
                publish(&*broker, chunk.iter().map(|id| message(queue, id)).collect()).await;
            }
        })
    });
    soon("the publishers", futures::future::try_join_all(publishers)).await.unwrap();
    until_async("everything has come", || async { (seen.lock().await.len() == PUBLISHERS * EACH).then_some(()) }).await;
    until_async("everything is acknowledged", || async {
        broker.queues().await.unwrap().iter().all(|queue| queue.ready + queue.held == 0).then_some(())
    })
    .await;
    assert!(seen.lock().await.values().all(|count| *count == 1));
    nodes.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Nodes that die in the middle again and again: every message is acknowledged exactly once in the end.
pub async fn nothing_is_lost_or_doubled_when_nodes_die<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let sent = ids("m", 120);
    publish(&*broker, sent.iter().map(|id| message("q", id)).collect()).await;
    let mut ended: HashMap<String, u32> = HashMap::new();
    let mut round = 0;
    while ended.len() < sent.len() {
        round += 1;
        let mut subscription = subscribe(&*broker, &format!("node{round}"), &["q"], SHORT_LEASE).await;
        let taken = soon("messages", subscription.fetch(30)).await.unwrap();
        let (settled, _abandoned) = taken.split_at(taken.len().div_ceil(2));
        for delivery in settled {
            if release(&*broker, &delivery.held, umbel::scheduler::Release::Ack).await {
                *ended.entry(id(delivery)).or_default() += 1;
            }
        }
        stage.lose(subscription).await;
    }
    assert!(ended.values().all(|count| *count == 1));
    until_async("nothing is left", || async {
        broker.queues().await.unwrap().iter().all(|queue| queue.ready + queue.held == 0).then_some(())
    })
    .await;
}
