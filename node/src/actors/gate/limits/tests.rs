//! Who passes a rate limit when, by a clock of the test's own.

use std::sync::Arc;

use tokio::sync::Semaphore;
use umbel_proto::{Invocation, Map};
use umbel_scheduler::TaskSpec;

use super::*;
use crate::{
    brokers::{Held, Returns},
    claim::{Claim, Credit, Debt},
};

const HOUR: Millis = 3_600_000;

fn task(number: u32, attempt: u32) -> Admitted {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let id = number.to_string();
    let invocation = Arc::new(Invocation::new("t".into(), id.as_str().into(), &[], &Map::new()).unwrap());
    let held = Held { queue: "q".into(), tag: id.as_str().into(), attempt };
    let debt = Debt::new(held, Returns::new().0);
    let claim =
        Claim { invocation: Ok(invocation.clone()), debt, begun: false, crashes: 0, lost: false, ended: None, credit: Credit::new(permit) };
    Admitted { claim, invocation, spec: Arc::new(TaskSpec::new("t")), place: None }
}

fn limited(rate: &str) -> Limited {
    Limited::new(Rate::parse(rate).unwrap().unwrap(), 0, 0)
}

fn due(pass: Pass) -> Millis {
    match pass {
        Pass::Later { due, .. } => due,
        other => panic!("{other:?}"),
    }
}

/// Goal: a fast limit holds what runs soon, in order, one an interval; what would wait too long goes to the schedule.
#[test]
fn holds_what_runs_soon() {
    let mut limit = limited("10/s");
    assert!(matches!(limit.pass(task(0, 1), 0), Pass::Now(_)));
    assert!(matches!(limit.pass(task(1, 1), 0), Pass::Waits { first_until: Some(100) }));
    for number in 2..=50 {
        assert!(matches!(limit.pass(task(number, 1), 0), Pass::Waits { first_until: None }), "{number}");
    }
    assert!((5_000..5_300).contains(&due(limit.pass(task(51, 1), 0))));
    let mut now = 0;
    for number in 1..=50 {
        let (ready, next) = limit.open(now);
        assert!(ready.is_empty());
        now = next.unwrap();
        let (ready, _) = limit.open(now);
        assert_eq!(ready[0].invocation.headers.id.as_str(), number.to_string());
        assert_eq!(now, Millis::from(number) * 100);
    }
    assert_eq!(limit.waiting(), 0);
}

/// Goal: a slow limit gives each message a turn of its own in the schedule, and lets it pass when it comes back; what comes
/// for the first time does not push in before it.
#[test]
fn spreads_what_runs_late() {
    let mut limit = limited("1/h");
    assert!(matches!(limit.pass(task(0, 1), 0), Pass::Now(_)));
    let turns: Vec<Millis> = (1..5).map(|number| due(limit.pass(task(number, 1), 10))).collect();
    assert!(turns.windows(2).all(|pair| pair[1] - pair[0] == HOUR), "{turns:?}");
    let first = turns[0];
    assert!((HOUR..HOUR + 20).contains(&first));
    assert!(due(limit.pass(task(5, 1), first - 1)) > turns[3], "it queues up behind");
    assert!(matches!(limit.pass(task(1, 2), first), Pass::Now(_)));
    assert!(matches!(limit.pass(task(2, 2), turns[1]), Pass::Now(_)));
}

/// Goal: where the rate is lowered, nobody waits here for longer than before; who would goes to the schedule, in order.
#[test]
fn a_lower_rate_holds_no_more() {
    for (rate, interval, stays) in [("1/m", 60_000, 0), ("5/s", 200, 25), ("20/s", 50, 49)] {
        let mut limit = limited("10/s");
        assert!(matches!(limit.pass(task(0, 1), 0), Pass::Now(_)));
        for number in 1..=50 {
            assert!(matches!(limit.pass(task(number, 1), 0), Pass::Waits { .. }), "{number}");
        }
        limit.change(Rate::parse(rate).unwrap().unwrap(), 0);
        let (ready, next) = limit.open(0);
        assert_eq!((ready.len(), next), (1, Some(interval)), "{rate}");
        let shed = limit.shed(next.unwrap(), 0);
        assert_eq!((limit.waiting(), shed.len()), (stays.min(49), 49 - stays.min(49)), "{rate}");
        for (at, (task, due)) in shed.iter().enumerate() {
            assert_eq!(task.invocation.headers.id.as_str(), (2 + stays + at).to_string());
            assert_eq!(*due, interval * (1 + (stays + at) as Millis), "{rate}");
        }
    }
}
