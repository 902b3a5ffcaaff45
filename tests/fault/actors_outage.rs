//! A store that goes away: an outage is a state, not an incident.

use std::sync::Arc;

use async_trait::async_trait;
use umbel::{
    Signature,
    actors::report::Link,
    brokers::Backbone,
    ledgers::{Ledger, LedgerError},
};
use umbel_scheduler::{Acknowledge, Answer, Commit, Effect, ReadyChord};
use umbel_tests::wait::{BOUND, until_async};

use super::{
    faulty::{Faulty, Outage},
    rig::{Held, Rig, double, store, sum},
};

#[derive(Debug)]
struct FlakyLedger {
    inner: Arc<dyn Ledger>,
    outage: Outage,
    /// Refuses for good every commit that stores this value.
    forbidden: Option<i64>,
}

impl FlakyLedger {
    fn away() -> LedgerError {
        LedgerError::Unavailable { kind: "flaky", reason: "the test has switched it off".to_owned() }
    }
}

#[async_trait]
impl Ledger for FlakyLedger {
    fn kind(&self) -> &'static str {
        "flaky"
    }

    async fn commit(&self, batch: Vec<Commit>) -> Result<Vec<Answer>, LedgerError> {
        if self.outage.strikes() {
            return Err(Self::away());
        }
        let stores = |effect: &Effect| matches!(effect, Effect::Store(record) if record.result.as_i64() == self.forbidden);
        if self.forbidden.is_some() && batch.iter().any(|commit| commit.effects.iter().any(stores)) {
            return Err(LedgerError::Refused { kind: "flaky", reason: "such a value is not stored here".to_owned() });
        }
        let answers = self.inner.commit(batch).await;
        // What was switched off meanwhile has done its work and cannot say so.
        if self.outage.strikes() { Err(Self::away()) } else { answers }
    }

    async fn unconcluded(&self, limit: usize) -> Result<Vec<ReadyChord>, LedgerError> {
        if self.outage.strikes() { Err(Self::away()) } else { self.inner.unconcluded(limit).await }
    }
}

fn work() -> Vec<Signature> {
    let chords = (0..20).map(|n| Signature::chord((0..5).map(|m| double::s(n + m)), sum::partial()));
    chords.chain([Signature::group((0..300).map(double::s))]).collect()
}

/// Goal: while the ledger is away nothing is lost and the report says so; when it is back everything ends, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_ledger_loses_nothing() {
    let backbone = store();
    let outage = Outage::default();
    let ledger = Arc::new(FlakyLedger { inner: backbone.ledger.clone(), outage: outage.clone(), forbidden: None });
    let (broker, backend) = (backbone.broker.clone(), backbone.backend.clone());
    // The client's own way to the store stays open.
    let client = Rig::start_on(backbone.clone(), |builder| builder.name("umbel@client").queues(["nobody"])).await;
    let rig = Rig::start_on(backbone, |builder| builder.backbone(broker, backend, ledger)).await;
    let mut results = Vec::new();
    for (number, signature) in work().into_iter().enumerate() {
        if number == 10 {
            outage.set(true);
        }
        results.push(client.client.submit(signature).await.unwrap());
    }
    until_async("the outage is reported and has stopped the node", || async {
        let report = rig.node.report().await?;
        let stopped = report.credits.in_use == report.credits.total;
        (stopped && matches!(report.ledger, Link::Reconnecting { .. })).then_some(())
    })
    .await;
    let before = outage.struck();
    until_async("it asks again", || async { (outage.struck() > before + 2).then_some(()) }).await;
    outage.set(false);
    for result in &results {
        result.wait(BOUND).await.unwrap().iter().for_each(|record| assert!(record.error().is_none(), "{record:?}"));
    }
    rig.idle().await;
    assert!(rig.endings().values().all(|times| *times == 1));
    let report = rig.node.report().await.unwrap();
    assert!(matches!(report.ledger, Link::Live { .. }));
    assert!(report.restarts.values().all(|restarts| *restarts == 0), "an outage is no crash: {:?}", report.restarts);
}

/// Goal: a broker that is away is asked again for ever, and the report says since when.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_broker_is_a_state() {
    let backbone = store();
    let broker = Arc::new(Faulty::new(backbone.broker.clone()));
    let outage = broker.fetching.clone();
    let Backbone { backend, ledger, .. } = backbone.clone();
    let rig = Rig::start_on(backbone, |builder| builder.backbone(broker, backend, ledger)).await;
    outage.set(true);
    let result = rig.client.submit(Signature::group((0..300).map(double::s))).await.unwrap();
    let link = until_async("the outage is reported", || async {
        let link = rig.node.report().await?.broker;
        matches!(link, Link::Reconnecting { .. }).then_some(link)
    })
    .await;
    assert!(matches!(link, Link::Reconnecting { reason, .. } if reason.contains("switched it off")));
    outage.set(false);
    assert_eq!(result.get::<Vec<i64>>(BOUND).await.unwrap().len(), 300);
    rig.idle().await;
    assert!(matches!(rig.node.report().await.unwrap().broker, Link::Live { .. }));
}

/// Goal: an ending that the ledger refuses for good is recorded as a failure, and does not harm those it shares a batch with.
#[tokio::test(flavor = "multi_thread")]
async fn an_ending_the_ledger_refuses_harms_only_itself() {
    let backbone = store();
    let ledger = FlakyLedger { inner: backbone.ledger.clone(), outage: Outage::default(), forbidden: Some(84) };
    let Backbone { broker, backend, .. } = backbone.clone();
    let rig = Rig::start_on(backbone, |builder| builder.backbone(broker, backend, Arc::new(ledger))).await;
    let result = rig.client.submit(Signature::group((0..100).map(double::s))).await.unwrap();
    let records = result.wait(BOUND).await.unwrap();
    for (n, record) in (0..).zip(&records) {
        match record.error() {
            Some(error) => {
                assert_eq!((n, error.exc_type.as_str()), (42, "EndingRefused"));
            }
            None => assert_eq!(record.result.as_i64(), Some(2 * n)),
        }
    }
    assert!(records[42].error().is_some());
    rig.idle().await;
}

/// Goal: a task that is revoked while its early acknowledgement is being written does not run.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_revoked_while_it_begins_does_not_run() {
    let backbone = store();
    let outage = Outage::default();
    let ledger = Arc::new(FlakyLedger { inner: backbone.ledger.clone(), outage: outage.clone(), forbidden: None });
    let Backbone { broker, backend, .. } = backbone.clone();
    let client = Rig::start_on(backbone.clone(), |builder| builder.name("umbel@client").queues(["nobody"])).await;
    let held = Held::new("fault.early-held", |spec| spec.acknowledge = Acknowledge::Early);
    let rig = Rig::start_on(backbone, |builder| builder.backbone(broker, backend, ledger).task(held.clone())).await;
    outage.set(true);
    let result = client.client.submit(held.call()).await.unwrap();
    until_async("its acknowledgement is being written", || async {
        let report = rig.node.report().await?;
        let taken = report.credits.in_use == 1 && report.pools[0].as_ref()?.waiting == 0;
        (taken && matches!(report.ledger, Link::Reconnecting { .. })).then_some(())
    })
    .await;
    result.revoke().await.unwrap();
    until_async("the order is known", || async { (rig.node.report().await?.gate?.revoked == 1).then_some(()) }).await;
    outage.set(false);
    assert_eq!(result.wait(BOUND).await.unwrap()[0].status, umbel_proto::State::Revoked);
    rig.idle().await;
    assert_eq!(held.runs(), 0);
}
