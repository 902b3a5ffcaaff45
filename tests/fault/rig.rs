//! A node on an embedded store of its own, with tasks that count and wait, fault points, and switches that take the store away.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{broadcast, watch};
use tokio_util::task::AbortOnDropHandle;
use umbel::{
    Client, Node, NodeBuilder, Signature, TaskResult,
    brokers::{Backbone, QueueStatus},
    embedded::{Store, StoreOptions},
    executors::native::{Call, Run, Task},
    facts::{Event, Fact, Kind},
    fault::Faults,
    telemetry::{self, LogFormat, LogOptions},
};
use umbel_proto::TaskId;
use umbel_scheduler::TaskSpec;
use umbel_tests::wait::{soon, until_async};

/// Twice its argument.
#[umbel::task(name = "fault.double")]
pub(super) async fn double(n: i64) -> TaskResult<i64> {
    Ok(2 * n)
}

/// The sum of its argument.
#[umbel::task(name = "fault.sum")]
pub(super) async fn sum(numbers: Vec<i64>) -> TaskResult<i64> {
    Ok(numbers.iter().sum())
}

/// Twice its argument, told beforehand and acknowledged early.
#[umbel::task(name = "fault.early", acks = "early", track_started)]
pub(super) async fn doubled_early(n: i64) -> TaskResult<i64> {
    Ok(2 * n)
}

/// A task that says when it has begun, reports that it is at one of three, and goes on when it is let.
#[derive(Clone)]
pub(super) struct Held {
    spec: TaskSpec,
    begun: Arc<watch::Sender<u32>>,
    open: Arc<watch::Sender<bool>>,
}

impl Held {
    /// `change` sets its options.
    pub(super) fn new(name: &str, change: impl FnOnce(&mut TaskSpec)) -> Self {
        let mut spec = TaskSpec::new(name);
        change(&mut spec);
        Self { spec, begun: Arc::new(watch::Sender::new(0)), open: Arc::new(watch::Sender::new(false)) }
    }

    pub(super) fn call(&self) -> Signature {
        Signature::new(self.spec.name.clone())
    }

    /// Waits until it has begun `times` times.
    pub(super) async fn begun(&self, times: u32) {
        let mut begun = self.begun.subscribe();
        soon("the task begins", begun.wait_for(|count| *count >= times)).await.unwrap();
    }

    pub(super) fn runs(&self) -> u32 {
        *self.begun.borrow()
    }

    /// Lets all runs go on.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Task for Held {
    fn spec(&self) -> TaskSpec {
        self.spec.clone()
    }

    fn start(&self, call: Call) -> Run {
        call.context.percent(1, 3);
        let (begun, mut open) = (self.begun.clone(), self.open.subscribe());
        Run::future(async move {
            begun.send_modify(|count| *count += 1);
            // An error means that the test is over.
            let _ = open.wait_for(|open| *open).await;
            Ok(1.into())
        })
    }
}

/// A node and everything around it.
pub(super) struct Rig {
    pub(super) backbone: Backbone,
    pub(super) faults: Faults,
    pub(super) node: Node,
    pub(super) client: Client,
    told: Arc<Mutex<Vec<Arc<Event>>>>,
    _listening: AbortOnDropHandle<()>,
}

/// A store that no other test knows.
pub(super) fn store() -> Backbone {
    // Chords that were left behind are found again soon.
    let options = StoreOptions { chord_grace: Duration::from_millis(200), ..StoreOptions::default() };
    Backbone::embedded(Store::temporary(options).unwrap()).unwrap()
}

impl Rig {
    /// A node with the tasks of this file, four slots and four messages for each; `change` has the last word.
    pub(super) async fn start(change: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Self {
        Self::start_on(store(), change).await
    }

    pub(super) async fn start_on(backbone: Backbone, change: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Self {
        if let Ok(level) = std::env::var("UMBEL_TEST_LOG") {
            let options = LogOptions { format: LogFormat::Text, level: level.parse().unwrap(), node: "umbel@rig".into() };
            // An error means that another node of this test has set it up.
            let _ = telemetry::init(&options);
        }
        let faults = Faults::default();
        let Backbone { broker, backend, ledger } = backbone.clone();
        let builder = Node::builder().name("umbel@rig").concurrency(4).backbone(broker, backend, ledger).faults(faults.clone());
        let builder = builder.task(double).task(sum).task(doubled_early);
        let node = soon("the node starts", change(builder).start()).await.unwrap();
        let client = node.client();
        let (mut events, told) = (node.facts().subscribe(), Arc::<Mutex<Vec<_>>>::default());
        let list = told.clone();
        let listening = tokio::spawn(async move {
            loop {
                match events.recv().await {
                    Ok(event) => list.lock().unwrap().push(event),
                    Err(broadcast::error::RecvError::Closed) => return,
                    Err(broadcast::error::RecvError::Lagged(missed)) => panic!("the test missed {missed} events"),
                }
            }
        });
        Self { backbone, faults, node, client, told, _listening: AbortOnDropHandle::new(listening) }
    }

    /// The default queue.
    pub(super) async fn queue(&self) -> Option<QueueStatus> {
        let queues = self.backbone.broker.queues().await.unwrap();
        queues.into_iter().find(|queue| queue.name.as_str() == "celery")
    }

    /// What was told of `kind`, so far.
    pub(super) fn told(&self, kind: Kind) -> Vec<Arc<Event>> {
        self.told.lock().unwrap().iter().filter(|event| event.fact.kind() == kind).cloned().collect()
    }

    /// Waits until nothing is left: no message anywhere, all credits back.
    pub(super) async fn idle(&self) {
        until_async("the queue is empty and all credits are back", || async {
            let report = self.node.report().await?;
            let queue = self.queue().await?;
            let left = queue.ready + queue.held + queue.scheduled + u64::from(report.credits.in_use);
            (left == 0).then_some(())
        })
        .await;
    }

    /// How often each task has been told to have ended, so far.
    pub(super) fn endings(&self) -> HashMap<TaskId, u32> {
        let mut endings = HashMap::new();
        for event in self.told.lock().unwrap().iter() {
            let ended = matches!(event.fact, Fact::Succeeded { .. } | Fact::Failed { .. } | Fact::Revoked { .. });
            if let Some(invocation) = event.invocation.as_ref().filter(|_| ended) {
                *endings.entry(invocation.headers.id.clone()).or_default() += 1;
            }
        }
        endings
    }
}
