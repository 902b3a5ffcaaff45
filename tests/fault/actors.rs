//! Every part of the pipeline panics under load, several times: no task is lost, none ends twice, all credits come back.

use std::time::Duration;

use umbel::{AsyncResult, Signature};
use umbel_scheduler::DeadReason;
use umbel_tests::wait::{BOUND, until_async};

use super::rig::{Held, Rig, double, doubled_early, sum};

const PLAIN: i64 = 1_000;
const CHORDS: i64 = 100;
const MEMBERS: i64 = 9;
const TASKS: usize = (PLAIN + CHORDS * (MEMBERS + 1)) as usize;

/// 2,000 tasks: a group of 900, 100 that are acknowledged early, and 100 chords of 9 and a body.
struct Load {
    plain: AsyncResult,
    early: AsyncResult,
    chords: Vec<AsyncResult>,
}

impl Load {
    async fn submit(rig: &Rig) -> Self {
        let client = &rig.client;
        let plain = Signature::group((0..PLAIN - 100).map(double::s));
        let early = Signature::group((0..100).map(doubled_early::s));
        let (plain, early) = (client.submit(plain).await.unwrap(), client.submit(early).await.unwrap());
        let mut chords = Vec::new();
        for chord in 0..CHORDS {
            let header = (0..MEMBERS).map(|member| double::s(chord + member));
            chords.push(client.submit(Signature::chord(header, sum::partial())).await.unwrap());
        }
        Self { plain, early, chords }
    }

    /// Waits for every result and checks it. A task that was acknowledged early may have been lost with its slot or pool;
    /// then that is recorded, and how many is what this returns.
    async fn check(&self) -> usize {
        let plain: Vec<i64> = self.plain.get(BOUND * 4).await.unwrap();
        assert_eq!(plain, (0..PLAIN - 100).map(|n| 2 * n).collect::<Vec<_>>());
        for (chord, result) in (0..).zip(&self.chords) {
            let total: i64 = result.get(BOUND).await.unwrap();
            assert_eq!(total, (0..MEMBERS).map(|member| 2 * (chord + member)).sum::<i64>(), "chord {chord}");
        }
        let mut lost = 0;
        for record in self.early.wait(BOUND).await.unwrap() {
            match record.error() {
                None => assert!(record.result.as_i64().is_some_and(|n| n % 2 == 0), "{record:?}"),
                Some(error) => {
                    assert_eq!(error.exc_type, "WorkerLostError");
                    lost += 1;
                }
            }
        }
        lost
    }
}

/// Goal: whatever the armed points make panic, every task of the load ends once, and the parts named are restarted.
async fn survives(points: &[(&'static str, &[u64])], restarted: &[&str]) {
    let rig = Rig::start(|builder| builder).await;
    for (point, passings) in points {
        passings.iter().for_each(|nth| rig.faults.arm(point, *nth));
    }
    let load = Load::submit(&rig).await;
    let lost = load.check().await;
    rig.idle().await;

    assert_eq!(rig.faults.waiting(), 0, "every fault has struck");
    let endings = rig.endings();
    assert_eq!(endings.len(), TASKS, "every task has ended");
    let twice: Vec<_> = endings.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "ended more than once: {twice:?}");
    assert!(lost <= 3 * 16, "{lost} early acknowledged tasks were lost, more than were in the hands of what died");
    assert!(rig.client.dead(10).await.unwrap().is_empty());
    let report = rig.node.report().await.unwrap();
    assert_eq!(report.credits.in_use, 0);
    for part in restarted {
        assert!(report.restarts[part] >= 1, "{part} was restarted: {:?}", report.restarts);
    }
    assert_eq!(report.facts["succeeded"] as usize + lost, TASKS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_consumer_loses_nothing() {
    survives(&[("consumer.fetched", &[3, 20]), ("consumer.fetch", &[10, 40])], &["consumer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_gate_loses_nothing() {
    survives(&[("gate.arrived", &[2, 15, 60])], &["gate", "consumer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_pool_loses_nothing() {
    survives(&[("pool.run", &[5, 40]), ("pool.finished", &[300])], &["pool", "gate", "consumer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_aggregator_loses_nothing() {
    survives(&[("aggregator.ended", &[50, 700]), ("aggregator.flushed", &[5])], &["aggregator", "pool", "gate", "consumer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_slot_loses_nothing() {
    survives(&[("slot.run", &[20, 600]), ("slot.finished", &[100, 900])], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_decisions_harm_only_their_message() {
    survives(&[("gate.admit", &[30, 500]), ("settle", &[40, 800]), ("conclude", &[7])], &[]).await;
}

/// Goal: a message whose ending cannot be decided, whatever is tried, becomes a dead letter, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_message_becomes_a_dead_letter() {
    let rig = Rig::start(|builder| builder).await;
    (1..=3).for_each(|nth| rig.faults.arm("settle", nth));
    rig.client.submit(double::s(1)).await.unwrap();
    let dead = until_async("there is a dead letter", || async { rig.client.dead(10).await.unwrap().pop() }).await;
    assert_eq!(dead.reason, DeadReason::Crashed);
    assert!(dead.detail.contains("fault point settle"), "{}", dead.detail);
    let fine: i64 = rig.client.submit(double::s(2)).await.unwrap().get(BOUND).await.unwrap();
    assert_eq!(fine, 4);
    rig.idle().await;
    let report = rig.node.report().await.unwrap();
    assert_eq!((report.facts["dead_lettered"], report.aggregator.unwrap().panics), (1, 3));
    assert!(report.restarts.values().all(|restarts| *restarts == 0), "{:?}", report.restarts);
}

/// Goal: a part that dies again and again stops the node with an error that says which and why, rather than spin.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_always_dies_stops_the_node() {
    let rig = Rig::start(|builder| builder).await;
    (1..=100).for_each(|nth| rig.faults.arm("consumer.fetch", nth));
    // The fetch that is under way has passed the point.
    rig.client.submit(double::s(1)).await.unwrap();
    let error = tokio::time::timeout(BOUND * 3, rig.node.wait()).await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("consumer") && text.contains("fault point consumer.fetch"), "{text}");
}

/// Goal: an early acknowledged task whose pool dies is not run again; its loss is recorded as its failure.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_acknowledged_task_is_lost_visibly() {
    let held = Held::new("fault.held", |spec| spec.acknowledge = umbel_scheduler::Acknowledge::Early);
    let rig = Rig::start(|builder| builder.task(held.clone())).await;
    let result = rig.client.submit(held.call()).await.unwrap();
    held.begun(1).await;
    rig.faults.arm("pool.run", 1);
    let fine: i64 = rig.client.submit(double::s(2)).await.unwrap().get(BOUND).await.unwrap();
    assert_eq!(fine, 4);
    let records = result.wait(BOUND).await.unwrap();
    assert_eq!(records[0].error().unwrap().exc_type, "WorkerLostError");
    assert_eq!(held.runs(), 1);
    rig.idle().await;
}

/// Goal: the hard limit ends a task that does not end, says so, and the slot goes on with the next.
#[tokio::test(flavor = "multi_thread")]
async fn the_hard_limit_ends_a_run() {
    let held = Held::new("fault.held", |spec| spec.time_limit.hard_secs = Some(0.2));
    let rig = Rig::start(|builder| builder.concurrency(1).task(held.clone())).await;
    let result = rig.client.submit(held.call()).await.unwrap();
    let next = rig.client.submit(double::s(2)).await.unwrap();
    assert_eq!(result.wait(BOUND).await.unwrap()[0].error().unwrap().exc_type, "TimeLimitExceeded");
    assert_eq!(next.get::<i64>(Duration::from_secs(60)).await.unwrap(), 4);
    rig.idle().await;
}

/// Goal: a revoke ends what runs and keeps what waits from running.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoke_reaches_running_and_waiting_tasks() {
    let held = Held::new("fault.held", |_| {});
    let rig = Rig::start(|builder| builder.concurrency(1).task(held.clone())).await;
    let running = rig.client.submit(held.call()).await.unwrap();
    held.begun(1).await;
    let waiting = rig.client.submit(held.call()).await.unwrap();
    until_async("the second task waits in the pool", || async {
        let report = rig.node.report().await?;
        (report.pools[0].as_ref()?.waiting == 1).then_some(())
    })
    .await;
    waiting.revoke().await.unwrap();
    running.revoke().await.unwrap();
    for result in [&running, &waiting] {
        assert_eq!(result.wait(BOUND).await.unwrap()[0].status, umbel_proto::State::Revoked);
    }
    rig.idle().await;
    assert_eq!(held.runs(), 1);
}
