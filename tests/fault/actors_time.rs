//! What does not run at once: messages before their time, rate limits, runs that report, runs whose message is taken away.

use std::time::{SystemTime, UNIX_EPOCH};

use umbel::facts::Kind;
use umbel_proto::{Invocation, Map, Millis, State, TaskId, Timestamp};
use umbel_scheduler::{Publish, Release, Route, rate_limit::Rate};
use umbel_tests::wait::{BOUND, until_async};

use super::rig::{Held, Rig};

fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as Millis
}

/// A message that waits in its queue though its ETA has not come, as a Celery client sends it.
async fn publish_early(rig: &Rig, eta: Millis) -> TaskId {
    let id = TaskId::derive("early", &eta.to_string());
    let mut invocation = Invocation::new("fault.double".into(), id.clone(), &[21.into()], &Map::new()).unwrap();
    invocation.headers.eta = Some(Timestamp::from_millis(eta));
    let route = Route { queue: "celery".into(), exchange: String::new(), routing_key: "celery".to_owned() };
    let published = rig.backbone.broker.publish(vec![Publish { invocation, route, due: None }]).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    id
}

/// Goal: what is due soon is held, and starts when it is due; what is due late takes no room but goes into the schedule.
#[tokio::test(flavor = "multi_thread")]
async fn messages_before_their_time() {
    let rig = Rig::start(|builder| builder).await;
    let (soon, late) = (now() + 300, now() + 3_600_000);
    let id = publish_early(&rig, soon).await;
    publish_early(&rig, late).await;
    assert_eq!(rig.client.result(id).get::<i64>(BOUND).await.unwrap(), 42);
    until_async("the late one is in the schedule and takes no room", || async {
        let (queue, report) = (rig.queue().await?, rig.node.report().await?);
        ((queue.scheduled, queue.held, report.credits.in_use) == (1, 0, 0)).then_some(())
    })
    .await;
    let started = rig.told(Kind::Started);
    assert_eq!(started.len(), 1);
    assert!(started[0].at >= soon, "{} ms early", soon - started[0].at);
    let waiting = rig.client.peek(&"celery".into(), 10).await.unwrap();
    assert_eq!(waiting[0].due, Some(late));
}

/// Goal: what a rate limit keeps for long takes no room, is not lost, and does not keep others from running.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_rate_limit_takes_no_room() {
    let slow = Held::new("fault.slow", |spec| spec.rate_limit = Rate::parse("1/h").unwrap());
    slow.open();
    let other = Held::new("fault.other", |_| {});
    other.open();
    let rig = Rig::start(|builder| builder.task(slow.clone()).task(other.clone())).await;
    for _ in 0..40 {
        rig.client.submit(slow.call()).await.unwrap();
    }
    assert_eq!(rig.client.submit(other.call()).await.unwrap().get::<i64>(BOUND).await.unwrap(), 1);
    until_async("one has run, the others have times of their own", || async {
        let (queue, report) = (rig.queue().await?, rig.node.report().await?);
        (slow.runs() == 1 && (queue.scheduled, queue.held, report.credits.in_use) == (39, 0, 0)).then_some(())
    })
    .await;
    let mut dues: Vec<Millis> = rig.client.peek(&"celery".into(), 100).await.unwrap().iter().filter_map(|peeked| peeked.due).collect();
    dues.sort_unstable();
    assert_eq!(dues.len(), 39);
    assert!(dues.windows(2).all(|pair| pair[1] - pair[0] >= 3_599_000), "an hour apart: {dues:?}");
}

/// Goal: a run's own states can be read while it runs, and its ending comes after them.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_reports() {
    let held = Held::new("fault.held", |spec| spec.track_started = true);
    let rig = Rig::start(|builder| builder.task(held.clone())).await;
    let result = rig.client.submit(held.call()).await.unwrap();
    held.begun(1).await;
    let record = until_async("its progress can be read", || async {
        result.record().await.unwrap().filter(|record| record.status == State::Custom("PROGRESS".to_owned()))
    })
    .await;
    assert_eq!(record.result.as_map().unwrap()["total"].as_i64(), Some(3));
    held.open();
    assert_eq!(result.get::<i64>(BOUND).await.unwrap(), 1);
    rig.idle().await;
    assert_eq!(result.state().await.unwrap(), State::Success);
}

/// Goal: the ending of a run whose message has been given to somebody else meanwhile is discarded and counted; the newest
/// taking of the message ends the task.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_ending_is_discarded() {
    let held = Held::new("fault.held", |_| {});
    let rig = Rig::start(|builder| builder.task(held.clone())).await;
    let result = rig.client.submit(held.call()).await.unwrap();
    held.begun(1).await;
    let delivery = rig.told(Kind::Started)[0].held.clone();
    let released = rig.backbone.broker.release(vec![(delivery, Release::Requeue { due: None, crashes: 0 })]).await;
    assert!(matches!(released[..], [Ok(true)]), "{released:?}");
    held.begun(2).await;
    held.open();
    assert_eq!(result.get::<i64>(BOUND).await.unwrap(), 1);
    rig.idle().await;
    until_async("both endings have been told", || async {
        let facts = rig.node.report().await?.facts;
        ((facts["succeeded"], facts["zombie"]) == (1, 1)).then_some(())
    })
    .await;
    assert_eq!(rig.told(Kind::Succeeded)[0].held.attempt, 2);
}
