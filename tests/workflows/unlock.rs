//! `celery.chord_unlock`, sent by clients whose own result backend cannot count.

use umbel::{AsyncResult, Signature, Value};
use umbel_tests::wait;

use super::{
    LONG, World, ended,
    tasks::{echo, fail, gate, open_gate, sum},
    text,
};

/// What such a client sends along with the header.
fn unlock(header: &AsyncResult, body: Signature) -> Signature {
    let members: Vec<Value> = header.members().unwrap().iter().map(|member| member.tuple().to_value()).collect();
    Signature::new("celery.chord_unlock")
        .arg(header.id())
        .arg(body.to_value())
        .kwarg("interval", 0.1)
        .kwarg("max_retries", Value::Null)
        .kwarg("result", members)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_is_sent_once_all_members_are_done() {
    let world = World::new().await;
    let key = "unlocked";
    let header = world.submit(Signature::group([gate::s(key.into(), 1), echo::s(41.into())])).await;
    world.submit(unlock(&header, sum::partial().set("task_id", "unlocked-body"))).await;
    // It stores nothing of itself; that it will ask again is seen in the schedule.
    wait::until_async("it has asked in vain", || async {
        let queues = world.client.queues().await.unwrap();
        queues.iter().any(|queue| queue.scheduled > 0).then_some(())
    })
    .await;
    open_gate(key);
    assert_eq!(world.client.result("unlocked-body").get::<i64>(LONG).await.unwrap(), 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_member_fails_the_body() {
    let world = World::new().await;
    let header = world.submit(Signature::group([fail::s("bad".into()), echo::s(1.into())])).await;
    world.submit(unlock(&header, sum::partial().set("task_id", "locked-body"))).await;
    let error = ended(&world.client.result("locked-body")).await.error().unwrap();
    assert_eq!(error.exc_type, "ChordError");
    assert!(text(&error).ends_with("raised ValueError('bad')"), "{error:?}");
}
