#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const LENGTH: Millis = 2_500;

fn silence(asked: Millis, left: Millis) -> Silence {
    Silence { since: 1_000, asked: Some(asked), unanswered: false, lease: Some(Lease { left, length: LENGTH }), oldest: 0 }
}

#[test]
fn silence_and_a_renewal_that_is_overdue_are_a_death() {
    let before = silence(900, 2_500);
    assert_eq!(judge(&before, 1_000), Verdict::Doubted(1_000), "the broker was asked before the silence");
    // It was renewed at 200.
    let doubt = silence(1_010, 1_690);
    assert_eq!(judge(&doubt, 1_012), Verdict::Doubted(1_900));
    let overdue = silence(1_901, 799);
    assert_eq!(judge(&overdue, 1_903), Verdict::Down);
    assert_eq!(judge(&Silence { oldest: 1_500, ..overdue }, 1_903), Verdict::Doubted(2_150), "others are late as well");
    assert_eq!(judge(&overdue, 9_000), Verdict::Down, "for as long as nobody has asked again");
    // It was renewed at 1,500.
    assert_eq!(judge(&silence(1_901, 2_099), 1_903), Verdict::Doubted(3_200));
    assert_eq!(judge(&Silence { lease: None, ..doubt }, 1_012), Verdict::Down, "its lease has ended");
}

#[test]
fn a_short_silence_means_something_where_news_is_frequent() {
    let mut pace = Pace::default();
    assert_eq!(pace.patience(FEW + 1), None, "nothing is known yet");
    assert_eq!(pace.patience(FEW), Some(1_200), "of few it is known that there is news all the time");
    (0..24).for_each(|_| pace.heard(250));
    assert_eq!(pace.patience(FEW + 1), Some(800));
    pace.heard(30_000);
    assert!(pace.patience(FEW + 1).unwrap() < 900, "once is no habit: {pace:?}");
    (0..24).for_each(|_| pace.heard(400));
    assert!((900..=1_000).contains(&pace.patience(FEW + 1).unwrap()), "gossip has much to say: {pace:?}");
    (0..12).for_each(|_| pace.heard(900));
    assert_eq!(pace.patience(FEW + 1), None, "a large cluster");
    assert_eq!(pace.patience(FEW), Some(1_200), "a small one whose gossip is slow");
}

#[test]
fn a_lease_that_ended_is_believed_where_gossip_is_slower() {
    assert!(lapsed(10_000, LENGTH, 13_000), "no news since it should have renewed");
    assert!(!lapsed(11_000, LENGTH, 13_000), "it was heard after it should have renewed: it lives, and the broker does not hear it");
}

#[test]
fn a_node_that_renews_lives_however_long_it_is_silent() {
    assert_eq!(judge(&silence(4_100, 2_000), 4_100), Verdict::Unheard);
    assert_eq!(judge(&silence(3_900, 2_000), 4_100), Verdict::Doubted(5_100), "it has to be asked about after that time");
    assert_eq!(judge(&silence(9_000, 600), 9_000), Verdict::Unheard, "its lease runs yet");
}

#[test]
fn where_the_broker_says_nothing_silence_has_to_do() {
    let alone = Silence { since: 1_000, asked: None, unanswered: true, lease: None, oldest: 0 };
    assert_eq!(judge(&alone, 1_000), Verdict::Doubted(1_000));
    assert_eq!(judge(&alone, 1_999), Verdict::Doubted(1_999));
    assert_eq!(judge(&alone, 2_000), Verdict::Down);
    assert_eq!(judge(&Silence { unanswered: false, ..alone }, 9_000), Verdict::Doubted(9_000), "it has not been asked yet");
    let since_then = Silence { unanswered: true, ..silence(1_100, 2_000) };
    assert_eq!(judge(&since_then, 3_900), Verdict::Doubted(2_300), "it had renewed in time when the broker was last heard");
    assert_eq!(judge(&since_then, 4_000), Verdict::Unheard);
}

proptest! {
    /// Goal: whoever renews in time is never down, whenever it is silent and asked about; whoever died is, soon.
    #[test]
    fn renewals_decide(
        pause in 100..=RENEWAL_MAX_MS, late in 0..LATE_MS, phase in 0..2_000i64, died in 3_000..20_000i64, doubted in 500..1_400i64,
    ) {
        // Renewals up to its death, as its broker sees them.
        let renewed = |at: Millis| (0..).map(|n| phase + n * (pause + late)).take_while(|renewal| *renewal <= at.min(died)).last();
        let ask = |at: Millis| renewed(at).map(|renewed| renewed + LENGTH - at).filter(|left| *left > 0).map(|left| Lease { left, length: LENGTH });
        // Silence in its life, which is a fault of the network, is no death.
        let (mut now, since) = (2_000, 2_000);
        while now < died {
            let silence = Silence { since, asked: Some(now), unanswered: false, lease: ask(now), oldest: 0 };
            match judge(&silence, now) {
                Verdict::Doubted(again) => now = again.max(now + 1),
                Verdict::Unheard => break,
                Verdict::Down => prop_assert!(false, "it lives at {now}"),
            }
        }
        // Silence after its death is one.
        let since = died + doubted;
        let mut now = since;
        loop {
            match judge(&Silence { since, asked: Some(now), unanswered: false, lease: ask(now), oldest: 0 }, now) {
                Verdict::Doubted(again) => now = again.max(now + 1),
                Verdict::Unheard => prop_assert!(false, "it is dead"),
                Verdict::Down => break,
            }
        }
        prop_assert!(now <= (died + RENEWAL_MAX_MS + LATE_MS + 1).max(since), "{died} was noticed at {now}");
    }
}
