//! Which nodes are there.

use std::time::Duration;

use umbel::brokers::{About, Broker, LiveNode};

use crate::{
    conformance::{Setup, Stage, making::*},
    wait::{soon, until_async},
};

fn about(port: u16) -> About {
    let mut about = About { host: "here".to_owned(), pid: Some(7), version: "0".to_owned(), ..About::default() };
    about.http = Some(([127, 0, 0, 1], port).into());
    about.gossip = Some(([127, 0, 0, 1], port + 1).into());
    about.more.insert("colour".to_owned(), "red".into());
    about
}

async fn nodes<S: Stage>(broker: &dyn Broker) -> Option<Vec<LiveNode>> {
    let nodes = broker.nodes().await.unwrap();
    assert_eq!(nodes.is_some(), S::tells_nodes());
    nodes
}

fn names(nodes: &[LiveNode]) -> Vec<&str> {
    nodes.iter().map(|node| node.node.as_str()).collect()
}

/// A node is listed with everything it says of itself, from its first subscription until it says goodbye or its lease ends.
pub async fn nodes_are_told_while_they_hold_a_lease<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let Some(none) = nodes::<S>(&*broker).await else { return };
    assert_eq!(none, []);
    let leaving = subscribe_as(&*broker, "leaving", &["b", "a"], LONG_LEASE, about(1)).await;
    let dying = subscribe_as(&*broker, "dying", &["a"], SHORT_LEASE, about(3)).await;
    let told = broker.nodes().await.unwrap().unwrap();
    assert_eq!(names(&told), ["dying", "leaving"]);
    let queues: Vec<&str> = told[1].queues.iter().map(|queue| queue.as_str()).collect();
    assert_eq!((queues, &told[1].about), (vec!["a", "b"], &about(1)));
    assert!(told[1].lease_left > LONG_LEASE - Duration::from_secs(60) && told[1].lease_left <= LONG_LEASE, "{:?}", told[1].lease_left);
    assert_eq!(told[0].about, about(3));
    assert!(told[0].lease_left <= SHORT_LEASE && told[0].session != told[1].session);
    stage.lose(dying).await;
    until_async("the lease ends", || async { (broker.nodes().await.unwrap()?.len() == 1).then_some(()) }).await;
    soon("closing", leaving.close()).await.unwrap();
    assert_eq!(broker.nodes().await.unwrap().unwrap(), []);
}

/// A consumer that restarts is not a second node.
pub async fn a_node_that_subscribes_twice_is_one<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let old = subscribe_as(&*broker, "node", &["a"], LONG_LEASE, about(1)).await;
    let _new = subscribe_as(&*broker, "node", &["b"], LONG_LEASE, about(1)).await;
    stage.lose(old).await;
    let Some(told) = nodes::<S>(&*broker).await else { return };
    assert_eq!(names(&told), ["node"]);
    assert!(told[0].queues.iter().any(|queue| queue.as_str() == "b"));
}
