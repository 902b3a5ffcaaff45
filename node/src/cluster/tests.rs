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
        lease: Duration::from_millis(2_500),
        about: About::default(),
    }
}

fn states(roster: &mut Roster, now: Millis) -> Vec<(String, MemberState, Millis)> {
    let view = roster.view(true, now);
    view.members.values().map(|member| (member.node.to_string(), member.state, member.since)).collect()
}

/// Goal: a node that is silent is what it was until the broker has been asked; then it is down if its renewal is overdue, and
/// not heard if it renews and stays silent.
#[test]
fn a_lease_that_is_renewed_outweighs_silence() {
    let mut roster = Roster::new("a".into());
    roster.heard(vec![heard("a", 1), heard("b", 1), heard("c", 1)], 0);
    roster.leases(vec![lease("a", 2_500), lease("b", 2_500), lease("c", 2_500)], 10);
    let seen = |roster: &mut Roster, now| states(roster, now).into_iter().map(|(_, state, _)| state).collect::<Vec<_>>();
    use MemberState::{Alive, Down, Unheard};
    assert_eq!(seen(&mut roster, 10), [Alive, Alive, Alive]);
    assert_eq!(roster.doubted(), None);
    roster.heard(vec![heard("a", 1)], 1_000);
    assert_eq!(seen(&mut roster, 1_000), [Alive, Alive, Alive]);
    assert_eq!(roster.doubted(), Some(1_000), "the broker is asked at once");
    // The lease of b was renewed at 100, that of c at 900.
    roster.leases(vec![lease("a", 2_500), lease("b", 1_590), lease("c", 2_390)], 1_010);
    assert_eq!(seen(&mut roster, 1_010), [Alive, Alive, Alive]);
    assert_eq!(roster.doubted(), Some(1_800), "when that of b is overdue");
    roster.leases(vec![lease("a", 2_500), lease("b", 800), lease("c", 1_600)], 1_800);
    assert_eq!(seen(&mut roster, 1_800), [Alive, Down, Alive]);
    roster.leases(vec![lease("a", 2_500), lease("c", 2_000)], 4_000);
    assert_eq!(seen(&mut roster, 4_000), [Alive, Down, Unheard]);
    assert_eq!(roster.doubted(), None, "from here on the usual look is enough");
    roster.heard(vec![heard("a", 1), heard("c", 1)], 4_100);
    assert_eq!(seen(&mut roster, 4_100), [Alive, Down, Alive], "a healed node is back");
}

/// Goal: a lease that has ended outweighs what gossip takes for life, if nothing is heard since; not where it is heard, not of a
/// node that never held one, and not of a new life. Until the broker is asked again nothing else changes it.
#[test]
fn a_lease_that_ended_outweighs_slow_gossip() {
    use MemberState::{Alive, Down};
    let at = |node: &str, generation, port| Heard { address: SocketAddr::from(([127, 0, 0, 1], port)), ..heard(node, generation) };
    let all = || vec![at("a", 1, 1), at("b", 1, 2), at("c", 1, 3), at("d", 1, 4)];
    let news = |beats: [u64; 4]| (1..).zip(beats).map(|(port, beat)| (SocketAddr::from(([127, 0, 0, 1], port)), beat)).collect();
    let seen = |roster: &mut Roster, now| states(roster, now).into_iter().map(|(_, state, _)| state).collect::<Vec<_>>();
    let mut roster = Roster::new("a".into());
    roster.heard(all(), 0);
    roster.news(&news([1, 1, 1, 1]), 0);
    roster.leases(vec![lease("a", 2_500), lease("b", 2_500), lease("c", 2_500)], 10);
    // News of c is late; b says nothing any more; d takes from no queue.
    roster.news(&news([2, 1, 1, 1]), 4_000);
    roster.news(&news([3, 1, 2, 1]), 9_000);
    roster.leases(vec![lease("a", 2_500)], 10_000);
    assert_eq!(seen(&mut roster, 10_000), [Alive, Down, Alive, Alive]);
    // What others have heard of it before its end is still on its way.
    roster.news(&news([4, 2, 3, 2]), 11_000);
    assert_eq!(seen(&mut roster, 11_000), [Alive, Down, Alive, Alive]);
    roster.heard(vec![at("a", 1, 1), at("b", 2, 5), at("c", 1, 3), at("d", 1, 4)], 12_000);
    assert_eq!(seen(&mut roster, 12_000), [Alive, Alive, Alive, Alive], "another life of b");
    roster.leases(vec![lease("a", 2_500), lease("b", 2_500)], 20_000);
    assert_eq!(seen(&mut roster, 20_000), [Alive, Alive, Down, Alive], "c is not heard any more either");
    roster.leases(vec![lease("a", 2_500), lease("b", 2_500), lease("c", 2_500)], 21_000);
    assert_eq!(seen(&mut roster, 21_000), [Alive, Alive, Alive, Alive]);
}

/// Goal: one of which there was news all the time is doubted as soon as there is none, long before gossip gives it up, and down once its
/// renewal is overdue; what gossip says afterwards changes nothing. Nobody else is shown as anything but alive.
#[test]
fn no_news_is_a_reason_to_ask() {
    use MemberState::{Alive, Down};
    let at = |node: &str, port| Heard { address: SocketAddr::from(([127, 0, 0, 1], port)), ..heard(node, 1) };
    let news = |beats: &[(u16, u64)]| beats.iter().map(|(port, beat)| (SocketAddr::from(([127, 0, 0, 1], *port)), *beat)).collect();
    let seen = |roster: &mut Roster, now| states(roster, now).into_iter().map(|(_, state, _)| state).collect::<Vec<_>>();
    let mut roster = Roster::new("a".into());
    // There is seldom news of d, and e takes from no queue: it holds no lease.
    roster.heard(vec![at("a", 1), at("b", 2), at("c", 3), at("d", 4), at("e", 5)], 0);
    let four = || vec![lease("a", 2_500), lease("b", 2_500), lease("c", 2_500), lease("d", 2_500)];
    roster.leases(four(), 10);
    for beat in 1..=40 {
        let now = 250 * Millis::try_from(beat).unwrap();
        roster.news(&news(&[(2, beat), (3, beat), (4, beat / 5), (5, beat)]), now);
    }
    roster.leases(four(), 10_000);
    assert!(!roster.is_uneasy(10_799));
    // Nothing is heard any more of anybody but c.
    roster.news(&news(&[(2, 40), (3, 41), (4, 8), (5, 40)]), 10_700);
    assert!(roster.is_uneasy(10_800));
    assert_eq!(seen(&mut roster, 10_800), [Alive; 5]);
    assert_eq!(roster.doubted(), Some(10_800), "the broker is asked at once");
    // b has renewed at 10,000.
    roster.leases(vec![lease("a", 2_500), lease("b", 1_690), lease("c", 2_400), lease("d", 2_500)], 10_810);
    assert_eq!(seen(&mut roster, 10_810), [Alive; 5]);
    assert_eq!(roster.doubted(), Some(11_700), "when its renewal is overdue; that of e is unknown, and so its silence means nothing");
    roster.news(&news(&[(2, 40), (3, 42), (4, 8), (5, 40)]), 11_600);
    roster.leases(vec![lease("a", 2_500), lease("b", 800), lease("c", 2_400), lease("d", 2_500)], 11_700);
    assert_eq!(seen(&mut roster, 11_700), [Alive, Down, Alive, Alive, Alive]);
    assert_eq!(roster.doubted(), Some(13_400), "d has renewed just now; among so few, seldom news is worth a question after that");
    roster.heard(vec![at("a", 1), at("c", 3), at("d", 4), at("e", 5)], 11_900);
    assert_eq!(seen(&mut roster, 11_900), [Alive, Down, Alive, Alive, Alive], "gossip has given it up as well");
    // It was cut off, and is back.
    roster.heard(vec![at("a", 1), at("b", 2), at("c", 3), at("d", 4), at("e", 5)], 12_100);
    assert_eq!(seen(&mut roster, 12_100), [Alive; 5]);
}

/// Goal: where the broker does not answer, silence alone is believed, later.
#[test]
fn without_the_broker_silence_has_to_do() {
    let mut roster = Roster::new("a".into());
    roster.heard(vec![heard("a", 1), heard("b", 1)], 0);
    roster.heard(vec![heard("a", 1)], 1_000);
    assert_eq!(states(&mut roster, 9_000)[1].1, MemberState::Alive, "it has not been asked");
    roster.unanswered();
    assert_eq!(states(&mut roster, 1_900)[1].1, MemberState::Alive);
    assert_eq!(states(&mut roster, 2_000)[1].1, MemberState::Down);
    assert_eq!(roster.doubted(), None);
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
