//! How runs come to their outcomes and limits.

use super::*;

/// Goal: a run that was told to end has the outcome of that, whatever its executor made of it, unless it had succeeded.
#[test]
fn outcome_of_a_run_that_was_told_to_end() {
    let success = Outcome::Success { value: 5.into(), children: Vec::new() };
    let lost = Outcome::WorkerLost { detail: "signal 9".to_owned() };
    assert_eq!(EndedBy::Revoke { signal: None }.outcome(success.clone()), success);
    assert_eq!(EndedBy::Revoke { signal: None }.outcome(lost.clone()), Outcome::Revoked { terminated: true, signal: None });
    let revoked = Outcome::Revoked { terminated: false, signal: Some(15) };
    assert_eq!(EndedBy::Revoke { signal: None }.outcome(revoked), Outcome::Revoked { terminated: true, signal: Some(15) });
    assert_eq!(EndedBy::HardLimit { secs: 2.5 }.outcome(lost), Outcome::TimeLimitExceeded { limit_secs: 2.5 });
}

/// Goal: limits that are no durations do not panic.
#[test]
fn odd_limits() {
    let start = Instant::now();
    assert_eq!(after(start, None), None);
    assert_eq!(after(start, Some(f64::NAN)), None);
    assert_eq!(after(start, Some(-1.0)), None);
    assert_eq!(after(start, Some(1e300)), None);
    assert_eq!(after(start, Some(0.5)), Some(start + Duration::from_millis(500)));
}
