#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn rate(text: &str) -> Rule {
    Rule { rate: Rate::parse(text).unwrap(), ..Rule::default() }
}

fn asker(waited: bool) -> Asker<'static> {
    Asker { holder: "h", task: "t", waited }
}

/// The most of `starts` in any second.
fn busiest(starts: &[f64]) -> usize {
    (0..starts.len()).map(|at| starts[at..].iter().take_while(|start| **start < starts[at] + 1_000.0).count()).max().unwrap_or(0)
}

/// Starts of a backlog that is taken by turns: each message asks, waits as it is told, and asks again. `late` is how much later
/// than its time each look comes.
fn starts(rule: &Rule, messages: usize, until: f64, late: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut meter = Meter::default();
    let mut looks: BTreeMap<(u64, usize), bool> = (0..messages).map(|message| ((0, message), false)).collect();
    let mut starts = Vec::new();
    while let Some(((at, message), waited)) = looks.pop_first() {
        let now = at as f64 / 1_000.0;
        if now > until {
            break;
        }
        let (wait, waited) = match meter.ask(rule, asker(waited), now) {
            Turn::Now => {
                starts.push(now);
                continue;
            }
            Turn::Soon(wait) => (wait, true),
            Turn::Later(wait) => (wait, true),
            Turn::Duplicate(_) => unreachable!(),
        };
        assert!(wait > 0.0, "a wait passes");
        looks.insert((((now + wait + late(message + starts.len())) * 1_000.0) as u64, message), waited);
    }
    starts
}

/// Goal: a backlog starts at its rate: never more in any second, hardly fewer in each.
#[test]
fn a_backlog_starts_at_its_rate() {
    for (late, least) in [(0.0, 96), (3.0, 96), (15.0, 95)] {
        let starts = starts(&rate("100/s"), 5_000, 20_000.0, |at| if at % 3 == 0 { late } else { 0.0 });
        assert!(busiest(&starts) <= 100, "{late}: {}", busiest(&starts));
        for second in 1..20 {
            let count = starts.iter().filter(|start| (**start / 1_000.0) as usize == second).count();
            assert!(count >= least, "{late}: {count} in second {second}");
        }
    }
    let slow = starts(&rate("100/m"), 200, 60_000.0, |_| 2.0);
    assert!((98..=101).contains(&slow.len()), "{}", slow.len());
    assert!(slow.windows(2).all(|pair| pair[1] - pair[0] > 300.0), "they are spaced");
}

/// Goal: a stall is caught up with, within the limit.
#[test]
fn a_stall_is_caught_up_with() {
    let mut meter = Meter::default();
    let rule = rate("50/s");
    let mut starts = Vec::new();
    for ms in 0..5_000 {
        let stalled = (2_000..2_150).contains(&ms);
        if !stalled && meter.ask(&rule, asker(true), f64::from(ms)) == Turn::Now {
            starts.push(f64::from(ms));
        }
    }
    assert!(busiest(&starts) <= 50);
    let around = starts.iter().filter(|start| (2_000.0..3_000.0).contains(*start)).count();
    assert!(around >= 47, "{around} in the second of the stall");
}

/// Goal: a start that was allowed and did not take place is made up for at once, and no second sees more for it.
#[test]
fn what_was_not_used_is_given_back() {
    let (mut meter, rule) = (Meter::default(), rate("100/s"));
    let mut starts = Vec::new();
    for ms in 0..5_000 {
        let now = f64::from(ms);
        if meter.ask(&rule, asker(true), now) == Turn::Now {
            if ms % 7 == 0 {
                meter.unused(rule.rate.unwrap(), now);
            } else {
                starts.push(now);
            }
        }
    }
    assert!(busiest(&starts) <= 100, "{}", busiest(&starts));
    assert!(starts.len() >= 5 * 96, "{} in five seconds", starts.len());
}

proptest! {
    /// Goal: whatever comes when, no second sees more than the rate.
    #[test]
    fn no_second_sees_more_than_the_rate(
        per_second in 10u32..300,
        gaps in proptest::collection::vec((0u32..40, any::<bool>()), 1..2_000),
    ) {
        let rule = rate(&format!("{per_second}/s"));
        let mut meter = Meter::default();
        let (mut now, mut starts) = (1e12, Vec::new());
        for (gap, waited) in gaps {
            now += f64::from(gap) / 8.0;
            if meter.ask(&rule, asker(waited), now) == Turn::Now {
                starts.push(now);
            }
        }
        prop_assert!(busiest(&starts) <= per_second as usize);
    }
}

/// Goal: who comes first waits for nobody who came later, and who comes later for all that came before.
#[test]
fn turns_are_given_in_order() {
    let (mut meter, rule) = (Meter::default(), rate("1/s"));
    assert_eq!(meter.ask(&rule, asker(false), 9_000.0), Turn::Now);
    assert_eq!(meter.ask(&rule, asker(false), 9_000.0), Turn::Later(1_800.0));
    assert_eq!(meter.ask(&rule, asker(false), 9_000.0), Turn::Later(2_800.0));
    assert_eq!(meter.ask(&rule, asker(true), 9_700.0), Turn::Soon(100.0), "it came a little early");
    assert_eq!(meter.ask(&rule, asker(true), 10_800.0), Turn::Now);
    assert_eq!(meter.ask(&rule, asker(true), 10_801.0), Turn::Later(1_000.0), "back before its turn, it is not sent to the end");
    assert_eq!(meter.ask(&rule, asker(false), 10_802.0), Turn::Later(1_998.0), "but a new one goes there");
}

#[test]
fn places_are_taken_and_come_free() {
    let rule = Rule { concurrency: Some(2), ..Rule::default() };
    let mut meter = Meter::default();
    let ask = |meter: &mut Meter, holder, now| meter.ask(&rule, Asker { holder, task: holder, waited: false }, now);
    assert_eq!((ask(&mut meter, "a", 0.0), ask(&mut meter, "b", 0.0)), (Turn::Now, Turn::Now));
    assert_eq!(ask(&mut meter, "a", 1.0), Turn::Now, "it has its place already");
    assert_eq!(ask(&mut meter, "c", 1.0), Turn::Soon(50.0));
    assert_eq!(ask(&mut meter, "d", 1.0), Turn::Soon(100.0), "they do not all look at once");
    meter.done("a", Some("a"), 4_000.0);
    assert_eq!(ask(&mut meter, "c", 4_000.0), Turn::Now);
    assert_eq!(ask(&mut meter, "d", 4_000.0), Turn::Later(1_999.5), "half of what one takes, as there are two places");
    assert!(!meter.is_idle(5_000.0));
    meter.done("b", None, 5_000.0);
    meter.done("c", None, 5_000.0);
    assert!(meter.is_idle(60_000.0));
}

#[test]
fn one_of_a_key_keeps_the_others_away() {
    let rule = Rule { unique: Some(1_000), ..Rule::default() };
    let mut meter = Meter::default();
    let ask = |meter: &mut Meter, task, now| meter.ask(&rule, Asker { holder: task, task, waited: false }, now);
    assert_eq!(ask(&mut meter, "a", 0.0), Turn::Now);
    assert_eq!(ask(&mut meter, "b", 500.0), Turn::Duplicate("a".to_owned()));
    assert_eq!(ask(&mut meter, "a", 600.0), Turn::Now, "it is taken again, or retried");
    assert_eq!(ask(&mut meter, "b", 1_700.0), Turn::Now, "its time has passed");
    meter.done("a", Some("a"), 1_800.0);
    assert_eq!(ask(&mut meter, "c", 1_800.0), Turn::Duplicate("b".to_owned()), "only the one that is there can end it");
    meter.done("b", Some("b"), 1_900.0);
    assert_eq!(ask(&mut meter, "c", 1_900.0), Turn::Now);
}
