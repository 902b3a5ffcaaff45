#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn rate(text: &str) -> Rule {
    Rule { rate: Rate::parse(text).unwrap(), ..Rule::default() }
}

fn asker(waited: bool) -> Asker<'static> {
    Asker { holder: "h", task: "t", waited, ready: true }
}

/// The most of `starts` in any second.
fn busiest(starts: &[f64]) -> usize {
    (0..starts.len()).map(|at| starts[at..].iter().take_while(|start| **start < starts[at] + 1_000.0).count()).max().unwrap_or(0)
}

/// Starts of a backlog that is taken by turns: each message asks, waits as it is told, and asks again or starts. `late` is how much
/// later than its time everything is; a start that is too late for that is given back, and its message asks again.
fn starts(rule: &Rule, messages: usize, until: f64, late: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut meter = Meter::default();
    // What each of them does next: it asks, or has booked.
    let mut looks: BTreeMap<(u64, usize), (bool, Option<Millis>)> = (0..messages).map(|message| ((0, message), (false, None))).collect();
    let (mut starts, mut looked) = (Vec::new(), 0);
    while let Some(((at, message), (waited, booked))) = looks.pop_first() {
        let now = at as f64 / 1_000.0;
        if now > until {
            break;
        }
        if let Some(booked) = booked {
            if now <= booked as f64 + MARGIN_MS {
                starts.push(now);
                continue;
            }
            meter.unused(rule.rate.unwrap(), booked);
        }
        let (at, booked) = match meter.ask(rule, asker(waited), now) {
            Turn::Now => {
                starts.push(now);
                continue;
            }
            Turn::At(start) => (start as f64, Some(start)),
            Turn::Later(wait) => (now + wait, None),
            other => panic!("{other:?}"),
        };
        looked += 1;
        looks.insert(((at.max(now) * 1_000.0 + late(looked) * 1_000.0) as u64 + 1, message), (true, booked));
    }
    starts
}

/// Goal: a backlog starts at its rate: never more in any second, hardly fewer in each, however late those who ask are.
#[test]
fn a_backlog_starts_at_its_rate() {
    for (late, often, least) in [(0.0, 1, 97), (3.0, 3, 97), (12.0, 3, 97), (60.0, 200, 95)] {
        let starts = starts(&rate("100/s"), 5_000, 20_000.0, |at| if at % often == 0 { late } else { 0.0 });
        assert!(busiest(&starts) <= 100, "{late}: {}", busiest(&starts));
        for from in (0..190).map(|tenth| f64::from(tenth) * 100.0) {
            let count = starts.iter().filter(|start| (from..from + 1_000.0).contains(*start)).count();
            assert!(count >= least, "{late}: {count} in the second from {from}");
        }
    }
    let slow = starts(&rate("100/m"), 200, 60_000.0, |_| 2.0);
    assert!((98..=101).contains(&slow.len()), "{}", slow.len());
    assert!(slow.windows(2).all(|pair| pair[1] - pair[0] > 500.0), "they are spaced");
}

/// Goal: nobody who asks in time is needed for a start: who comes back too late by less than the lead costs none.
#[test]
fn a_late_schedule_costs_no_start() {
    let starts = starts(&rate("100/s"), 5_000, 20_000.0, |at| if (at / 97) % 7 == 0 { 14.0 } else { 0.0 });
    let gap = starts.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    assert!(gap < 45.0, "{gap}");
}

/// Goal: what waits at a node for its start is bounded, whatever the rate.
#[test]
fn few_starts_are_booked_ahead() {
    for text in ["1/s", "10/s", "100/s", "5000/s"] {
        let mut meter = Meter::default();
        let turns: Vec<Turn> = (0..10_000).map(|_| meter.ask(&rate(text), asker(false), 1e12)).collect();
        let booked = turns.iter().filter(|turn| matches!(turn, Turn::At(_))).count();
        assert!(booked <= AHEAD_STARTS as usize + 2, "{text}: {booked}");
        let first_later = turns.iter().position(|turn| matches!(turn, Turn::Later(_))).unwrap();
        assert!(turns[first_later..].iter().all(|turn| matches!(turn, Turn::Later(_))), "{text}: nobody passes those that wait");
    }
}

/// Goal: whoever has no slot takes no start, no place and no turn from others, and is put off like them when its turn is far.
#[test]
fn without_a_slot_nothing_is_booked() {
    let (mut meter, rule) = (Meter::default(), Rule { concurrency: Some(1), ..rate("100/s") });
    let slotless = Asker { ready: false, ..asker(false) };
    assert_eq!(meter.ask(&rule, slotless, 1_000.0), Turn::Soon(SLOT_MS));
    assert_eq!(meter, Meter::default());
    assert_eq!(meter.ask(&rule, asker(false), 1_000.0), Turn::Now);
    let mut meter = Meter::default();
    let first = std::iter::repeat_with(|| meter.ask(&rate("100/s"), asker(false), 1_000.0)).find_map(|turn| match turn {
        Turn::Later(wait) => Some(wait),
        _ => None,
    });
    let Turn::Later(second) = meter.ask(&rate("100/s"), slotless, 1_000.0) else { panic!("its turn is far") };
    assert!(second > first.unwrap(), "{second} is behind {first:?}");
}

/// Goal: a stall is caught up with, within the limit.
#[test]
fn a_stall_is_caught_up_with() {
    let mut meter = Meter::default();
    let rule = rate("50/s");
    let mut starts = Vec::new();
    (0..1_000).for_each(|_| drop(meter.ask(&rule, asker(false), 0.0)));
    for ms in 1_000..5_000 {
        let stalled = (2_000..2_150).contains(&ms);
        while !stalled && starts.last().is_none_or(|start| *start <= f64::from(ms)) {
            match meter.ask(&rule, asker(true), f64::from(ms)) {
                Turn::Now => starts.push(f64::from(ms)),
                Turn::At(at) => starts.push(at as f64),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(busiest(&starts) <= 50, "{}", busiest(&starts));
    let around = starts.iter().filter(|start| (2_000.0..3_000.0).contains(*start)).count();
    assert!(around >= 47, "{around} in the second of the stall");
}

/// Goal: a start that was booked and did not take place is made up for, and no second sees more for it.
#[test]
fn what_was_not_used_is_given_back() {
    let (mut meter, rule) = (Meter::default(), rate("100/s"));
    let mut starts: Vec<f64> = Vec::new();
    for ms in 0..5_000 {
        let start = match meter.ask(&rule, asker(true), f64::from(ms)) {
            Turn::Now => Millis::from(ms),
            Turn::At(at) => at,
            _ => continue,
        };
        if ms % 7 == 0 { meter.unused(rule.rate.unwrap(), start) } else { starts.push(start as f64) }
    }
    assert!(busiest(&starts) <= 100, "{}", busiest(&starts));
    assert!(starts.len() >= 5 * 97, "{} in five seconds", starts.len());
}

proptest! {
    /// Goal: whatever comes when, no second sees more than the rate, however late each start is within the margin.
    #[test]
    fn no_second_sees_more_than_the_rate(
        per_second in 10u32..300,
        gaps in proptest::collection::vec((0u32..40, any::<bool>(), 0u32..1_000, 0u32..20), 1..2_000),
    ) {
        let rule = rate(&format!("{per_second}/s"));
        let mut meter = Meter::default();
        let (mut now, mut starts) = (1e12, Vec::new());
        for (gap, waited, late, unused) in gaps {
            now += f64::from(gap) / 8.0;
            let start = match meter.ask(&rule, asker(waited), now) {
                Turn::Now => now as Millis,
                Turn::At(at) => at,
                _ => continue,
            };
            if unused == 0 {
                meter.unused(rule.rate.unwrap(), start);
            } else {
                starts.push(start as f64 + f64::from(late) / 1_000.0 * (MARGIN_MS - 0.1));
            }
        }
        starts.sort_by(f64::total_cmp);
        prop_assert!(busiest(&starts) <= per_second as usize);
    }
}

/// Goal: who comes first waits for nobody who came later, and who comes later for all that came before.
#[test]
fn turns_are_given_in_order() {
    let (mut meter, rule) = (Meter::default(), rate("1/s"));
    assert_eq!(meter.ask(&rule, asker(false), 9_000.0), Turn::Now);
    assert_eq!(meter.ask(&rule, asker(false), 9_000.0), Turn::Later(875.0), "a little before its turn");
    assert_eq!(meter.ask(&rule, asker(false), 9_000.0), Turn::Later(1_875.0));
    assert_eq!(meter.ask(&rule, asker(true), 9_700.0), Turn::Later(1_000.0), "back long before any turn");
    assert_eq!(meter.ask(&rule, asker(true), 9_875.0), Turn::At(10_000));
    assert_eq!(meter.ask(&rule, asker(true), 9_876.0), Turn::Later(1_000.0), "it is not sent to the end");
    assert_eq!(meter.ask(&rule, asker(false), 9_877.0), Turn::Later(1_998.0), "but a new one goes there");
}

#[test]
fn places_are_taken_and_come_free() {
    let rule = Rule { concurrency: Some(2), ..Rule::default() };
    let mut meter = Meter::default();
    let ask = |meter: &mut Meter, holder, now| meter.ask(&rule, Asker { holder, task: holder, waited: false, ready: true }, now);
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
    let ask = |meter: &mut Meter, task, now| meter.ask(&rule, Asker { holder: task, task, waited: false, ready: true }, now);
    assert_eq!(ask(&mut meter, "a", 0.0), Turn::Now);
    assert_eq!(ask(&mut meter, "b", 500.0), Turn::Duplicate("a".to_owned()));
    assert_eq!(ask(&mut meter, "a", 600.0), Turn::Now, "it is taken again, or retried");
    assert_eq!(ask(&mut meter, "b", 1_700.0), Turn::Now, "its time has passed");
    meter.done("a", Some("a"), 1_800.0);
    assert_eq!(ask(&mut meter, "c", 1_800.0), Turn::Duplicate("b".to_owned()), "only the one that is there can end it");
    meter.done("b", Some("b"), 1_900.0);
    assert_eq!(ask(&mut meter, "c", 1_900.0), Turn::Now);
}
