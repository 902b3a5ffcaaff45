#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::brokers::About;

fn heard(node: &str, generation: Millis) -> Heard {
    let card = NodeCard {
        node: NodeId::from(node),
        generation,
        roles: vec!["all".to_owned()],
        queues: vec![QueueName::from("celery")],
        version: "0".to_owned(),
        host: "h".to_owned(),
        http: None,
    };
    Heard { card, load: NodeLoad { slots: 4, ..NodeLoad::default() }, address: "127.0.0.1:1".parse().unwrap() }
}

fn lease(node: &str, left_ms: u64) -> LiveNode {
    LiveNode {
        node: NodeId::from(node),
        session: "s".to_owned(),
        queues: vec![QueueName::from("celery")],
        lease_left: Duration::from_millis(left_ms),
        about: About::default(),
    }
}

fn states(roster: &mut Roster, now: Millis) -> Vec<(String, MemberState, Millis)> {
    let view = roster.view(true, now);
    view.members.values().map(|member| (member.node.to_string(), member.state, member.since)).collect()
}

/// Goal: a node that dies is down as soon as gossip loses it, although its lease is still there to see; one whose lease goes
/// on is not heard.
#[test]
fn a_lease_that_is_renewed_outweighs_silence() {
    let mut roster = Roster::new("a".into());
    roster.heard(vec![heard("a", 1), heard("b", 1), heard("c", 1)], 0);
    roster.leases(vec![lease("a", 2_000), lease("b", 2_000), lease("c", 2_000)], 10);
    assert_eq!(states(&mut roster, 0)[0].1, MemberState::Alive);
    roster.heard(vec![heard("a", 1)], 1_000);
    let names = |state_b, state_c| {
        vec![("a".to_owned(), MemberState::Alive, 0), ("b".to_owned(), state_b, 1_000), ("c".to_owned(), state_c, 1_000)]
    };
    assert_eq!(states(&mut roster, 1_000), names(MemberState::Down, MemberState::Down));
    // What is left of the lease of b runs out; that of c is renewed.
    roster.leases(vec![lease("a", 2_000), lease("b", 500), lease("c", 2_400)], 1_400);
    assert_eq!(states(&mut roster, 1_400), names(MemberState::Down, MemberState::Down), "too early to tell");
    roster.leases(vec![lease("a", 2_000), lease("c", 2_400)], 3_500);
    let now = states(&mut roster, 3_500);
    assert_eq!(now[1], ("b".to_owned(), MemberState::Down, 1_000));
    assert_eq!(now[2], ("c".to_owned(), MemberState::Unheard, 3_500));
    roster.heard(vec![heard("a", 1), heard("c", 1)], 4_000);
    assert_eq!(states(&mut roster, 4_000)[2].1, MemberState::Alive, "a healed node is back");
}

#[test]
fn farewell_is_no_failure_and_is_forgotten() {
    let mut roster = Roster::new("a".into());
    let mut leaving = heard("b", 1);
    leaving.load.draining = true;
    roster.heard(vec![heard("a", 1), leaving.clone()], 0);
    assert_eq!(states(&mut roster, 0)[1].1, MemberState::Draining);
    leaving.load.leaving = true;
    roster.heard(vec![heard("a", 1), leaving], 10);
    assert_eq!(states(&mut roster, 10)[1].1, MemberState::Left);
    roster.heard(vec![heard("a", 1)], 20);
    assert_eq!(states(&mut roster, 20)[1].1, MemberState::Left);
    assert_eq!(states(&mut roster, 10 + LEFT_MS).len(), 1);
}

#[test]
fn a_new_life_hides_the_old_one() {
    let mut roster = Roster::new("a".into());
    roster.heard(vec![heard("b", 1)], 0);
    roster.heard(vec![heard("b", 2), heard("b", 1)], 10);
    let mut newer = heard("b", 2);
    newer.load.busy = 3;
    roster.heard(vec![heard("b", 1), newer], 20);
    assert_eq!(roster.view(true, 20).members["b"].load.unwrap().busy, 3);
    roster.heard(vec![heard("b", 1)], 30);
    assert_eq!(roster.view(true, 30).members["b"].load.unwrap().busy, 3, "the old life speaks for nobody");
}

#[test]
fn without_gossip_the_lease_is_all_there_is() {
    let mut roster = Roster::new("a".into());
    roster.leases(vec![lease("b", 2_000)], 0);
    assert_eq!(states(&mut roster, 0), [("b".to_owned(), MemberState::Alive, 0)]);
    roster.leases(vec![], 5);
    assert_eq!(states(&mut roster, 5), [("b".to_owned(), MemberState::Down, 5)]);
    assert!(states(&mut roster, 5 + DOWN_MS).is_empty(), "it is forgotten");
    assert!(ClusterView::alone("a".into()).size() == 1);
}

/// Goal: a node that dies before gossip has ever heard it is down all the same, and not gone without a trace.
#[test]
fn one_that_dies_before_it_is_heard_is_down() {
    let mut roster = Roster::new("a".into());
    let mut gossips = lease("b", 2_000);
    gossips.about.gossip = Some("127.0.0.1:1".parse().unwrap());
    roster.leases(vec![gossips], 0);
    assert_eq!(states(&mut roster, 0), [("b".to_owned(), MemberState::Unheard, 0)]);
    roster.leases(vec![], 2_000);
    assert_eq!(states(&mut roster, 2_000), [("b".to_owned(), MemberState::Down, 2_000)]);
}
