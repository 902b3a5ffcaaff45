//! What an order covers, and how many are kept.

use umbel_proto::Signature;

use super::*;
use crate::model::Model;

fn messages(signature: &Signature) -> Vec<Invocation> {
    let mut model = Model::default();
    model.submit(signature).unwrap();
    model.queue.into_iter().map(|message| message.invocation).collect()
}

fn revoked(order: Revocation) -> Revoked {
    let mut revoked = Revoked::default();
    revoked.insert(order, 0);
    revoked
}

#[test]
fn orders_cover_a_task_a_workflow_or_a_group() {
    let members = messages(&Signature::group([Signature::new("a"), Signature::chain([Signature::new("b"), Signature::new("c")])]));
    let [a, b] = &members[..] else { panic!("two messages") };
    assert!(!Revoked::default().covers(a));
    let one = revoked(Revocation::Task(a.headers.id.clone()));
    assert_eq!((one.covers(a), one.covers(b)), (true, false));
    let all = revoked(Revocation::Workflow(a.headers.root_id.clone().unwrap()));
    assert_eq!((all.covers(a), all.covers(b)), (true, true));
    let group = revoked(Revocation::Group(a.headers.group.clone().unwrap()));
    assert_eq!((group.covers(a), group.covers(b)), (true, true), "the first step of a member chain as well");
}

#[test]
fn a_body_is_no_member_of_the_group_it_is_marked_with() {
    let mut model = Model::default();
    model.submit(&Signature::chord([Signature::new("a")], Signature::new("b"))).unwrap();
    let group = model.queue[0].invocation.headers.group.clone().unwrap();
    let done = |_: &Invocation| umbel_proto::Outcome::Success { value: umbel_proto::Value::Null, children: Vec::new() };
    assert!(model.step(&mut { done }, &mut |_| 0) && model.step(&mut { done }, &mut |_| 0));
    let body = &model.queue[0].invocation;
    assert_eq!(body.headers.group.as_ref(), Some(&group));
    assert!(!revoked(Revocation::Group(group)).covers(body));
}

#[test]
fn the_oldest_are_forgotten_beyond_the_bound_and_when_they_expire() {
    let id = |n: usize| Revocation::Task(n.to_string().into());
    let mut revoked = Revoked::default();
    for n in 0..=Revoked::MAX {
        revoked.insert(id(n), n as Millis);
    }
    assert_eq!(revoked.iter().count(), Revoked::MAX);
    assert!(revoked.iter().all(|(order, _)| *order != id(0)));
    revoked.expire(Revoked::MAX as Millis);
    assert_eq!(revoked.iter().collect::<Vec<_>>(), [(&id(Revoked::MAX), Revoked::MAX as Millis)]);
}

#[test]
fn an_order_given_again_keeps_the_later_time() {
    let mut revoked = revoked(Revocation::Task("x".into()));
    revoked.insert(Revocation::Task("x".into()), 10);
    revoked.insert(Revocation::Task("x".into()), 5);
    revoked.expire(10);
    assert_eq!(revoked.iter().map(|(_, at)| at).collect::<Vec<_>>(), [10]);
}
