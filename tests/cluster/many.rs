//! Many nodes of one process gossip on a network that loses some of what they say.
//!
//! `UMBEL_GOSSIP_NODES`, `UMBEL_GOSSIP_SECS` and `UMBEL_GOSSIP_LOSS` (of a thousand datagrams) make it bigger: `make gossip` runs
//! fifty nodes for ten minutes with one datagram in twenty lost.

use std::{
    collections::BTreeSet,
    env,
    sync::{Arc, Mutex},
    time::Duration,
};

use umbel::{
    Node,
    cluster::MemberState,
    fault,
    gossip::{GossipOptions, KeyRing, Traffic},
};
use umbel_tests::{servers::redis::RedisServer, wait::soon};

use super::rig::{Ground, node_on};

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// What an IP and a UDP header take.
const HEADERS: u64 = 28;

async fn traffic(node: &Node) -> Traffic {
    soon("a report", async {
        loop {
            if let Some(gossip) = node.report().await.and_then(|report| report.gossip) {
                return gossip.traffic;
            }
        }
    })
    .await
}

/// Goal: many nodes see each other and go on doing so although the network loses some of what they say, each within its budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_are_quiet_and_sure() {
    let (count, secs) = (setting("UMBEL_GOSSIP_NODES", 10), setting("UMBEL_GOSSIP_SECS", 10));
    fault::lose_gossip(u32::try_from(setting("UMBEL_GOSSIP_LOSS", 50)).unwrap());
    let server = Ground::redis(RedisServer::default());
    let mut nodes = Vec::new();
    for number in 0..count {
        let options = GossipOptions::loopback(KeyRing::new("a secret of some length", []));
        nodes.push(node_on(&server, &format!("n{number}"), Some(options)).await);
    }
    for node in &nodes {
        let mut view = node.cluster();
        let all = |view: &Arc<umbel::cluster::ClusterView>| {
            let alive = |member: &&umbel::cluster::Member| member.state == MemberState::Alive && member.load.is_some();
            view.members.values().filter(alive).count() == usize::try_from(count).unwrap()
        };
        soon("everybody hears everybody", view.wait_for(all)).await.unwrap();
    }
    let false_verdicts: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut watching = tokio::task::JoinSet::new();
    for node in &nodes {
        let (mut view, told) = (node.cluster(), false_verdicts.clone());
        watching.spawn(async move {
            let mut wrong = BTreeSet::new();
            loop {
                let now = view.borrow_and_update().clone();
                for (name, member) in &now.members {
                    if member.state == MemberState::Alive {
                        wrong.remove(name);
                    } else if wrong.insert(name.clone()) {
                        told.lock().unwrap().push(format!("{name} is {} for {}", member.state.as_str(), now.me));
                    }
                }
                if view.changed().await.is_err() {
                    return;
                }
            }
        });
    }
    let before = futures::future::join_all(nodes.iter().map(traffic)).await;
    let begun = std::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(secs)).await; // workload: they have so much time to be wrong
    let after = futures::future::join_all(nodes.iter().map(traffic)).await;
    let took = begun.elapsed().as_secs_f64();
    let bytes = |traffic: &Traffic| traffic.sent_bytes + traffic.sent * HEADERS;
    let mut rates: Vec<u64> =
        before.iter().zip(&after).map(|(before, after)| ((bytes(after) - bytes(before)) as f64 / took) as u64).collect();
    rates.sort_unstable();
    let verdicts = false_verdicts.lock().unwrap().clone();
    println!(
        "{count} nodes, {took:.0} s: median {} B/s, most {} B/s each, headers included; {} false verdicts {verdicts:?}",
        rates[rates.len() / 2],
        rates.last().unwrap(),
        verdicts.len(),
    );
    // A second's worth may be said at once.
    let budget = f64::from(umbel::gossip::BYTES_PER_SECOND) * (took + 1.0) / took;
    assert!(rates.iter().all(|rate| (*rate as f64) < budget * 1.1), "{rates:?}");
    // A machine that is busy with other tests may keep a node silent for long; over ten quiet minutes nobody is misjudged.
    if env::var("UMBEL_GOSSIP_SECS").is_ok() {
        assert!(verdicts.is_empty(), "{verdicts:?}");
    }
}
