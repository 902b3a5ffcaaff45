//! How a node ends: what has not started goes back at once, what runs gets its grace, what is left is handed back.

use std::time::Duration;

use umbel::{Shutdown, Signature, actors::report::Phase};
use umbel_proto::State;
use umbel_scheduler::Acknowledge;
use umbel_tests::wait::{BOUND, soon, until_async};

use super::rig::{Held, Rig, doubled_early, store};

/// Goal: a warm shutdown gives back at once what waits, lets what runs finish, and leaves nothing held.
#[tokio::test(flavor = "multi_thread")]
async fn warm_gives_back_and_finishes() {
    let held = Held::new("fault.held", |_| {});
    let backbone = store();
    let rig = Rig::start_on(backbone.clone(), |builder| builder.concurrency(2).task(held.clone())).await;
    let mut results = Vec::new();
    for _ in 0..20 {
        results.push(rig.client.submit(held.call()).await.unwrap());
    }
    held.begun(2).await;
    until_async("all credits are in use", || async { (rig.node.report().await?.credits.in_use == 8).then_some(()) }).await;

    rig.node.shutdown(Shutdown::Warm { grace: BOUND * 4 });
    until_async("what has not started is back in its queue", || async {
        let queue = rig.queue().await?;
        (queue.ready == 18 && queue.held == 2).then_some(())
    })
    .await;
    let report = rig.node.report().await.unwrap();
    assert_eq!(report.phase, Phase::Draining);
    assert_eq!((report.running().count(), report.credits.in_use), (2, 2));

    held.open();
    soon("the node ends", rig.node.wait()).await.unwrap();
    let queue = rig.queue().await.unwrap();
    assert_eq!((queue.ready, queue.held), (18, 0));
    assert!(rig.node.report().await.is_none());

    let next = Rig::start_on(backbone, |builder| builder.task(held.clone())).await;
    for result in &results {
        assert_eq!(result.get::<i64>(BOUND).await.unwrap(), 1);
    }
    next.idle().await;
    assert_eq!(held.runs(), 20);
}

/// Goal: at the end of the grace what still runs is handed back, or, where it was acknowledged early, recorded as lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_grace_hands_back() {
    let late = Held::new("fault.late", |_| {});
    let early = Held::new("fault.early-held", |spec| spec.acknowledge = Acknowledge::Early);
    let backbone = store();
    let rig = Rig::start_on(backbone.clone(), |builder| builder.task(late.clone()).task(early.clone())).await;
    let results = (rig.client.submit(late.call()).await.unwrap(), rig.client.submit(early.call()).await.unwrap());
    late.begun(1).await;
    early.begun(1).await;

    rig.node.shutdown(Shutdown::Warm { grace: Duration::from_millis(100) });
    soon("the node ends", rig.node.wait()).await.unwrap();
    let queue = rig.queue().await.unwrap();
    assert_eq!((queue.ready, queue.held), (1, 0));
    let lost = results.1.record().await.unwrap().unwrap();
    assert_eq!((lost.status.clone(), lost.error().unwrap().exc_type.as_str()), (State::Failure, "WorkerLostError"));

    late.open();
    let next = Rig::start_on(backbone, |builder| builder.task(late.clone()).task(early.clone())).await;
    assert_eq!(results.0.get::<i64>(BOUND).await.unwrap(), 1);
    next.idle().await;
    assert_eq!((late.runs(), early.runs()), (2, 1));
}

/// Goal: what was acknowledged ahead of its start, and does not start soon after all, is nobody's loss.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_ahead_goes_back() {
    let early = Held::new("fault.early-held", |spec| spec.acknowledge = Acknowledge::Early);
    let backbone = store();
    let rig = Rig::start_on(backbone.clone(), |builder| builder.task(early.clone())).await;
    // Tasks are short here, as far as the node knows.
    let short = rig.client.submit(Signature::group((0..60).map(doubled_early::s))).await.unwrap();
    assert_eq!(short.get::<Vec<i64>>(BOUND).await.unwrap().len(), 60);
    let mut results = Vec::new();
    for _ in 0..12 {
        results.push(rig.client.submit(early.call()).await.unwrap());
    }
    early.begun(4).await;

    rig.node.shutdown(Shutdown::Warm { grace: Duration::from_secs(1) });
    soon("the node ends", rig.node.wait()).await.unwrap();
    let queue = rig.queue().await.unwrap();
    assert_eq!((queue.ready + queue.scheduled, queue.held), (8, 0));

    early.open();
    let next = Rig::start_on(backbone, |builder| builder.task(early.clone())).await;
    let mut lost = 0;
    for result in results {
        let record = result.wait(BOUND).await.unwrap().remove(0);
        lost += u32::from(record.error().is_some_and(|error| error.exc_type == "WorkerLostError"));
    }
    next.idle().await;
    assert_eq!((lost, early.runs()), (4, 12));
}

/// Goal: a second order may shorten the grace, so that a person who asks twice need not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_order_is_cold() {
    let held = Held::new("fault.held", |_| {});
    let rig = Rig::start(|builder| builder.task(held.clone())).await;
    rig.client.submit(held.call()).await.unwrap();
    held.begun(1).await;
    rig.node.shutdown(Shutdown::Warm { grace: BOUND * 10 });
    rig.node.shutdown(Shutdown::Cold);
    rig.node.shutdown(Shutdown::Warm { grace: BOUND * 10 });
    soon("the node ends", rig.node.wait()).await.unwrap();
    assert_eq!(rig.queue().await.unwrap().ready, 1);
}

/// Goal: a node that is dropped without a word, as by a crash of its program, gives everything back; what was acknowledged
/// early is recorded as lost by the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_node_gives_everything_back() {
    let late = Held::new("fault.late", |_| {});
    let early = Held::new("fault.early-held", |spec| spec.acknowledge = Acknowledge::Early);
    let backbone = store();
    let rig = Rig::start_on(backbone.clone(), |builder| builder.task(late.clone()).task(early.clone())).await;
    let results = (rig.client.submit(late.call()).await.unwrap(), rig.client.submit(early.call()).await.unwrap());
    late.begun(1).await;
    early.begun(1).await;
    drop(rig);

    late.open();
    let next = Rig::start_on(backbone, |builder| builder.task(late.clone()).task(early.clone())).await;
    assert_eq!(results.0.get::<i64>(BOUND).await.unwrap(), 1);
    assert_eq!(results.1.wait(BOUND).await.unwrap()[0].error().unwrap().exc_type, "WorkerLostError");
    next.idle().await;
    assert_eq!(early.runs(), 1);
}
