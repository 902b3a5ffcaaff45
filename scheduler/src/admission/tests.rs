//! Which messages run, wait or are refused, and which reason comes first.

use umbel_proto::{Signature, Timestamp};

use super::*;
use crate::{Effect, model::Model, revocation::Revocation, settlement::later};

fn message() -> Invocation {
    let mut model = Model::default();
    model.submit(&Signature::new("t")).unwrap();
    model.queue.remove(0).invocation
}

fn first() -> Arrival {
    Arrival { attempt: 1, crashes: 0, lost: false, max_deliveries: 20 }
}

fn verdict(invocation: &Invocation, arrival: Arrival, now: Millis) -> Verdict {
    admit(invocation, Some(&TaskSpec::new("t")), arrival, &Revoked::default(), now)
}

#[test]
fn a_message_in_order_runs() {
    assert_eq!(verdict(&message(), first(), 0), Verdict::Run);
}

#[test]
fn eta_holds_back_and_expires_refuses() {
    let mut invocation = message();
    invocation.headers.eta = Some(Timestamp::from_millis(100));
    assert_eq!(verdict(&invocation, first(), 99), Verdict::Hold { until: 100 });
    assert_eq!(verdict(&invocation, first(), 100), Verdict::Run);
    invocation.headers.expires = Some(Timestamp::from_millis(100));
    assert_eq!(verdict(&invocation, first(), 100), Verdict::Run);
    assert_eq!(verdict(&invocation, first(), 101), Verdict::Refuse(Refusal::Expired));
}

/// Goal: a node whose clock is slow does not put a message back for ever that the schedule has let go.
#[test]
fn what_the_schedule_has_let_go_is_not_early_by_any_clock() {
    let mut early = message();
    early.headers.eta = Some(Timestamp::from_millis(100));
    let effects = later(&early, 100, 0, &"q".into());
    let [Effect::Publish(again), Effect::Release(crate::Release::Ack)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((again.due, again.route.queue.as_str()), (Some(100), "q"));
    assert_eq!(verdict(&again.invocation, first(), 0), Verdict::Run);
    let mut copied = again.invocation.clone();
    copied.headers.eta = Some(Timestamp::from_millis(200));
    assert_eq!(verdict(&copied, first(), 0), Verdict::Hold { until: 200 }, "another ETA has been waited for by nobody");
}

/// Goal: putting back what has killed an executor keeps the count, and what waits for another reason than its ETA stays itself.
#[test]
fn a_message_that_waits_for_no_eta_is_put_back() {
    let mut early = message();
    for (eta, crashes) in [(None, 0), (Some(200), 0), (Some(100), 2)] {
        early.headers.eta = eta.map(Timestamp::from_millis);
        let put_back = Effect::Release(crate::Release::Requeue { due: Some(100), crashes });
        assert_eq!(later(&early, 100, crashes, &"q".into()), [put_back]);
    }
    assert_eq!(verdict(&early, Arrival { crashes: 2, ..first() }, 0), Verdict::Run, "it has run before, so it is not early");
}

#[test]
fn poison_is_refused_with_its_count() {
    for (arrival, word) in [(Arrival { crashes: 3, ..first() }, "3 executors"), (Arrival { attempt: 21, ..first() }, "20 times")] {
        let Verdict::Refuse(Refusal::Crashed { detail }) = verdict(&message(), arrival, 0) else { panic!("poison") };
        assert!(detail.contains(word), "{detail}");
    }
    assert_eq!(verdict(&message(), Arrival { attempt: 20, crashes: 2, ..first() }, 0), Verdict::Run);
}

#[test]
fn lost_comes_before_revoked_before_expired_before_unknown() {
    let mut invocation = message();
    invocation.headers.expires = Some(Timestamp::from_millis(0));
    let mut revoked = Revoked::default();
    let refusal = |arrival, revoked: &Revoked, now, invocation: &Invocation| match admit(invocation, None, arrival, revoked, now) {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(first(), &revoked, 0, &invocation), Refusal::UnknownTask);
    assert_eq!(refusal(first(), &revoked, 1, &invocation), Refusal::Expired);
    revoked.insert(Revocation::Task(invocation.headers.id.clone()), 0);
    assert_eq!(refusal(first(), &revoked, 1, &invocation), Refusal::Revoked);
    assert_eq!(refusal(Arrival { lost: true, ..first() }, &revoked, 1, &invocation), Refusal::Lost);
}
