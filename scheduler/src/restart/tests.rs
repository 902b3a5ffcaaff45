//! How delays grow and when a supervisor gives up.

use super::*;

#[test]
fn restarts_grow_slower_and_then_end() {
    let mut meter = RestartMeter::new(4, 10_000);
    let answers: Vec<Restart> = (0..5).map(|n| meter.died(n * 100)).collect();
    let after = Restart::After;
    assert_eq!(answers, [after(0), after(100), after(200), after(400), Restart::GiveUp]);
}

#[test]
fn old_restarts_are_forgotten() {
    let mut meter = RestartMeter::new(1, 1_000);
    assert_eq!(meter.died(0), Restart::After(0));
    assert_eq!(meter.died(999), Restart::GiveUp);
    assert_eq!(meter.died(1_000), Restart::After(0));
}

#[test]
fn none_allowed_is_given_up_at_once_and_delays_are_bounded() {
    assert_eq!(RestartMeter::new(0, 1_000).died(0), Restart::GiveUp);
    let mut meter = RestartMeter::new(100, 1_000);
    let last = (0..100).map(|_| meter.died(0)).last();
    assert_eq!(last, Some(Restart::After(5_000)));
}
