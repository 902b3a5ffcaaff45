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

/// Goal: what keeps a task from starting does not end what runs, and stamps match by any of their values.
#[test]
fn some_orders_only_keep_from_starting() {
    let mut message = messages(&Signature::new("a")).remove(0);
    let start = revoked(Revocation::Start(message.headers.id.clone()));
    assert_eq!((start.covers(&message), start.ends(&message)), (true, false));
    let task = revoked(Revocation::Task(message.headers.id.clone()));
    assert_eq!((task.covers(&message), task.ends(&message)), (true, true));

    let stamp = revoked(Revocation::Stamp { name: "customer".to_owned(), value: "acme".to_owned() });
    assert!(!stamp.covers(&message));
    for (value, covered) in [
        (Value::from("acme"), true),
        (Value::List(vec!["other".into(), "acme".into()]), true),
        (Value::List(vec!["other".into()]), false),
        (Value::Null, false),
    ] {
        message.headers.stamps.insert("customer".to_owned(), value);
        assert_eq!((stamp.covers(&message), stamp.ends(&message)), (covered, false));
    }
    let number = revoked(Revocation::Stamp { name: "tenant".to_owned(), value: "7".to_owned() });
    message.headers.stamps.insert("tenant".to_owned(), Value::Int(7));
    assert!(number.covers(&message));
    assert!([task, start, stamp].iter().flat_map(|revoked| revoked.iter()).filter(|(order, _)| order.ends()).count() == 1);
}
