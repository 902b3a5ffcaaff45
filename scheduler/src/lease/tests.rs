//! Leadership, by hand and against a store whose answers are late, lost and doubled.

use proptest::prelude::*;

use super::*;

#[test]
fn trust_begins_with_the_question_and_ends_with_the_lease() {
    let mut candidate = Leadership::new(1_500, 0);
    assert_eq!((candidate.ask_at(), candidate.token(0)), (0, None));
    assert_eq!(candidate.answered(100, 400, Standing::Leads(Token(7))), Change::Elected(Token(7)));
    assert_eq!((candidate.ask_at(), candidate.token(1_599), candidate.token(1_600)), (600, Some(Token(7)), None));
    assert_eq!(candidate.answered(600, 610, Standing::Leads(Token(7))), Change::None);
    assert_eq!(candidate.failed(1_200, 60_000), Change::None);
    assert_eq!(candidate.ask_at(), 1_700);
    assert_eq!((candidate.failed(2_099, 10), candidate.failed(2_100, 10)), (Change::None, Change::Deposed));
}

#[test]
fn a_follower_asks_when_the_lease_ends() {
    let mut candidate = Leadership::new(1_500, 0);
    assert_eq!(candidate.answered(0, 5, Standing::Follows { ends_in_ms: 900 }), Change::None);
    assert_eq!(candidate.ask_at(), 906);
    candidate.answered(906, 910, Standing::Follows { ends_in_ms: 3_600_000 });
    assert_eq!(candidate.ask_at(), 910 + 5_001);
    candidate.answered(1_000, 1_000, Standing::Leads(Token(1)));
    assert_eq!(candidate.refused(1_100), Change::Deposed);
    assert_eq!((candidate.ask_at(), candidate.token(1_100)), (1_100, None));
}

/// The lease as a store has it, by its own clock.
#[derive(Default)]
struct Store {
    holder: Option<usize>,
    ends: Millis,
    token: u64,
}

impl Store {
    fn ask(&mut self, who: usize, lease_ms: Millis, now: Millis) -> Standing {
        if self.holder != Some(who) || now >= self.ends {
            if self.holder.is_some() && now < self.ends {
                return Standing::Follows { ends_in_ms: self.ends - now };
            }
            self.token += 1;
            self.holder = Some(who);
        }
        self.ends = now + lease_ms;
        Standing::Leads(Token(self.token))
    }
}

proptest! {
    /// Goal: however late answers come and however candidates pause, no two of them trust themselves at one time, and trust ends
    /// before the lease does.
    #[test]
    fn never_two_at_a_time(steps in prop::collection::vec((0..3_usize, 0..700_i64, 0..900_i64, any::<bool>()), 1..200)) {
        const LEASE: Millis = 1_500;
        let mut store = Store::default();
        let mut candidates = vec![Leadership::new(LEASE, 0); 3];
        let mut now = 0;
        for (who, pause, delay, lost) in steps {
            now += pause;
            let asked = now;
            // The question arrives somewhere on the way.
            let standing = store.ask(who, LEASE, asked + delay / 2);
            now += delay;
            if lost { candidates[who].failed(now, 100) } else { candidates[who].answered(asked, now, standing) };
            let trusted: Vec<_> = candidates.iter().filter_map(|candidate| candidate.token(now)).collect();
            prop_assert!(trusted.len() <= 1, "{trusted:?} at {now}");
            if let Some(token) = trusted.first() {
                prop_assert!(token.0 == store.token && now < store.ends);
            }
        }
    }
}
