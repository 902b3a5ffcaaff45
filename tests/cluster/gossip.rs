//! Nodes of one process hear each other, notice who dies and who leaves, and listen to nobody else.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use umbel::{
    Node, Shutdown,
    cluster::{ClusterView, MemberState},
    gossip::{GossipOptions, KeyRing},
};
use umbel_tests::{
    servers::redis::RedisServer,
    wait::{soon, until_async},
};

use super::rig::{self, Ground, node_on};

/// Waits until `view` shows what `look` wants.
async fn sees(view: &mut watch::Receiver<Arc<ClusterView>>, what: &str, look: impl Fn(&ClusterView) -> bool) {
    soon(what, view.wait_for(|view| look(view))).await.unwrap();
}

fn state(view: &ClusterView, node: &str) -> Option<MemberState> {
    view.members.get(node).map(|member| member.state)
}

async fn gossiping(ground: &Ground, name: &str, secret: &str) -> Node {
    node_on(ground, name, Some(GossipOptions::loopback(KeyRing::new(secret, [])))).await
}

/// Goal: nodes that know nothing but their broker find each other; one that is killed is down, one that stops has left, one
/// that starts again under its name is back, and nothing is started twice for it.
async fn form(server: Ground) {
    let secret = "a secret of some length";
    let (a, b, c) = tokio::join!(gossiping(&server, "a", secret), gossiping(&server, "b", secret), gossiping(&server, "c", secret));
    let mut views = [a.cluster(), b.cluster(), c.cluster()];
    for view in &mut views {
        sees(view, "everybody hears everybody", |view| {
            ["a", "b", "c"].iter().all(|node| {
                let member = view.members.get(*node);
                member.is_some_and(|member| member.state == MemberState::Alive && member.load.is_some_and(|load| load.slots == 2))
            })
        })
        .await;
    }
    b.shutdown(Shutdown::Warm { grace: Duration::from_secs(5) });
    soon("a node that does nothing stops", b.wait()).await.unwrap();
    sees(&mut views[0], "b has left", |view| state(view, "b") == Some(MemberState::Left)).await;
    let b = gossiping(&server, "b", secret).await;
    for view in &mut views[..1] {
        sees(view, "b is back", |view| state(view, "b") == Some(MemberState::Alive)).await;
    }
    // Dropped: ended at once, without a word.
    drop(c);
    sees(&mut views[0], "c is down", |view| state(view, "c") == Some(MemberState::Down)).await;
    sees(&mut b.cluster(), "c is down for b as well", |view| state(view, "c") == Some(MemberState::Down)).await;
    assert_eq!(a.cluster().borrow().others().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_broker_form_a_cluster() {
    form(Ground::redis(RedisServer::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_rabbitmq_form_a_cluster() {
    form(Ground::rabbit()).await;
}

/// Goal: who does not have the secret is not heard and hears nobody, and yet the broker tells of it.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_listened_to() {
    let server = Ground::redis(RedisServer::default());
    let a = gossiping(&server, "a", "a secret of some length").await;
    let b = gossiping(&server, "b", "another secret of some length").await;
    sees(&mut a.cluster(), "the broker tells of b", |view| state(view, "b") == Some(MemberState::Unheard)).await;
    until_async("a refuses what b sends", || async {
        let report = a.report().await?;
        (report.gossip?.traffic.refused > 3).then_some(())
    })
    .await;
    assert_eq!(a.cluster().borrow().members["b"].load, None, "nothing was heard of it");
    let report = b.report().await.unwrap();
    assert_eq!(report.gossip.unwrap().traffic.heard, 0);
}

/// Goal: without gossip a node knows the others by their leases, and runs tasks as ever.
#[tokio::test(flavor = "multi_thread")]
async fn leases_tell_of_those_that_do_not_gossip() {
    let server = Ground::redis(RedisServer::default());
    let (a, b) = tokio::join!(node_on(&server, "a", None), node_on(&server, "b", None));
    sees(&mut a.cluster(), "b holds a lease", |view| state(view, "b") == Some(MemberState::Alive)).await;
    assert!(!a.cluster().borrow().gossips);
    drop(b);
    sees(&mut a.cluster(), "its lease has ended", |view| view.others().count() == 0).await;
    let result = a.client().submit(rig::double::s(4)).await.unwrap();
    assert_eq!(result.get::<i64>(Duration::from_secs(30)).await.unwrap(), 8);
}
