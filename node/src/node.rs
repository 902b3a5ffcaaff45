//! The node: builds a pipeline, starts it, and is the handle to it.

mod errors;
mod learning;
mod short;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use ractor::{Actor, ActorRef, rpc::CallResult};
use tokio::sync::{Mutex, broadcast, watch};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{NodeId, QueueName, TaskName};
use umbel_scheduler::{Settings, autoscale::Bounds, devices::Devices};

use crate::{
    actors::{
        Credits, Registry, Shared,
        beat::{BeatOptions, BeatSeat},
        chance::Backoff,
        consumer::{Seat, Seated},
        gauges::Gauges,
        link::{Link, Links},
        report::NodeReport,
        supervisor::{Supervisor, SupervisorArgs, SupervisorMsg},
    },
    backends::Backend,
    brokers::{About, Backbone, Broker},
    client::{Client, KnownTasks},
    cluster::ClusterView,
    executors::{
        Executor,
        native::{self, IntoTask},
    },
    facts::Facts,
    fault::Faults,
    gossip::{GossipOptions, Port},
    ledgers::Ledger,
    limits::{LimitRule, Limiting, LimitsError, LocalLimits, Rules},
    telling::{Allow, Description, Telling},
};

pub use errors::{NodeError, StartError};

/// The most messages a node holds, whatever its concurrency.
pub const CREDITS_MAX: u32 = 16_384;

/// How long a node that takes work already waits until it hears commands, before it says that it is ready.
const LISTENS_WITHIN: Duration = Duration::from_secs(2);

/// A running node. Cheap to clone; when the last clone is dropped without [`Node::shutdown`], the node is ended at once and
/// what it held goes back to its queues.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    client: Client,
    supervisor: ActorRef<SupervisorMsg>,
    ended: watch::Receiver<Option<Result<(), NodeError>>>,
    _learning: AbortOnDropHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.supervisor.get_cell().kill();
    }
}

/// How to end a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Take nothing more, give back what has not started, and let what runs finish within `grace`; then as [`Shutdown::Cold`].
    Warm {
        /// How long what runs may take.
        grace: Duration,
    },
    /// Hand back what runs as well: a task that is acknowledged late runs again elsewhere, one that was acknowledged early
    /// is recorded as a failure.
    Cold,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.inner.shared.node).finish()
    }
}

impl Node {
    /// A node to be.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Its name.
    pub fn name(&self) -> &NodeId {
        &self.inner.shared.node
    }

    /// Where its messages come from.
    pub fn broker(&self) -> Arc<dyn Broker> {
        self.inner.shared.broker.clone()
    }

    /// Where its results go.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.inner.shared.backend.clone()
    }

    /// What makes its endings durable.
    pub fn ledger(&self) -> Arc<dyn Ledger> {
        self.inner.shared.ledger.clone()
    }

    /// Submits tasks to where it takes them from, and reads their results.
    pub fn client(&self) -> Client {
        self.inner.client.clone()
    }

    /// What its decisions depend on.
    pub fn settings(&self) -> &Settings {
        &self.inner.shared.settings
    }

    /// The tasks it had at its start, by name.
    pub fn task_names(&self) -> Vec<TaskName> {
        let mut names: Vec<TaskName> = self.inner.shared.registry.names().cloned().collect();
        names.sort_unstable();
        names
    }

    /// What it knows of tasks.
    pub fn specs(&self) -> &dyn umbel_scheduler::canvas::Specs {
        &self.inner.shared.registry
    }

    /// What it tells of tasks: counters and events.
    pub fn facts(&self) -> &Facts {
        &self.inner.shared.facts
    }

    /// Who is there, as this node sees it, now and from now on.
    pub fn cluster(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.inner.shared.cluster.subscribe()
    }

    /// How tasks are limited, now and from now on: as configured, and over it what was set while nodes ran.
    pub fn limits(&self) -> watch::Receiver<Arc<Rules>> {
        self.inner.shared.limits.in_force.subscribe()
    }

    /// Limits a task otherwise than configured, for all nodes and durably; `None` takes that back. All nodes know within
    /// [`crate::limits::HEARD_WITHIN`].
    ///
    /// # Errors
    /// When whoever keeps the limits does not answer.
    pub async fn set_limit(&self, task: &TaskName, rule: Option<&LimitRule>) -> Result<(), LimitsError> {
        let limits = &self.inner.shared.limits;
        limits.keeper.set_rule(task, rule).await?;
        limits.refresh().await;
        Ok(())
    }

    /// What other workers and clients tell of themselves and of tasks, from now on: Celery's, and other nodes.
    pub fn heard(&self) -> broadcast::Receiver<Arc<umbel_proto::Event>> {
        self.inner.shared.telling.heard.subscribe()
    }

    /// Whether its broker answers, now and from now on.
    pub fn broker_link(&self) -> watch::Receiver<Link> {
        self.inner.shared.links.broker.watch()
    }

    /// Whether its ledger answers, now and from now on.
    pub fn ledger_link(&self) -> watch::Receiver<Link> {
        self.inner.shared.links.ledger.watch()
    }

    /// What all of its parts say of themselves, within a second; a part that is being restarted is `None`. `None` when the
    /// node has ended.
    pub async fn report(&self) -> Option<NodeReport> {
        match self.inner.supervisor.call(SupervisorMsg::Report, Some(Duration::from_secs(2))).await {
            Ok(CallResult::Success(report)) => Some(report),
            _ => None,
        }
    }

    /// Begins to end it; [`Node::wait`] returns when it has ended. A second order can only make it sooner.
    pub fn shutdown(&self, how: Shutdown) {
        let grace = match how {
            Shutdown::Warm { grace } => grace,
            Shutdown::Cold => Duration::ZERO,
        };
        // An error means that it has ended already.
        let _ = self.inner.supervisor.cast(SupervisorMsg::Shutdown { grace });
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it ended by itself.
    pub async fn wait(&self) -> Result<(), NodeError> {
        let mut ended = self.inner.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_) => Err(NodeError::Supervisor),
        }
    }
}

/// What a node is made of.
#[derive(Debug)]
pub struct NodeBuilder {
    name: Option<NodeId>,
    queues: Option<Vec<QueueName>>,
    beat: Option<BeatOptions>,
    concurrency: usize,
    autoscale: Option<Bounds>,
    prefetch_multiplier: u32,
    devices: Devices,
    lease: Duration,
    about: About,
    gossip: Option<GossipOptions>,
    limits: BTreeMap<TaskName, LimitRule>,
    description: Description,
    settings: Settings,
    backbone: Option<Backbone>,
    native: Option<native::Builder>,
    executors: Vec<(Arc<dyn Executor>, Option<usize>)>,
    faults: Faults,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            name: None,
            queues: None,
            beat: None,
            concurrency: std::thread::available_parallelism().map_or(1, usize::from),
            autoscale: None,
            prefetch_multiplier: 4,
            devices: Devices::default(),
            lease: Duration::from_millis(2500),
            about: About::this_process(),
            gossip: None,
            limits: BTreeMap::new(),
            description: Description::default(),
            settings: Settings::default(),
            backbone: None,
            native: None,
            executors: Vec::new(),
            faults: Faults::default(),
        }
    }
}

impl NodeBuilder {
    /// Its name; `umbel@<host>` by default. Two nodes with one name on one broker share a lease: give each its own.
    #[must_use]
    pub fn name(mut self, name: impl Into<NodeId>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The queues it takes from; the settings' default queue by default, and with none of them nothing.
    #[must_use]
    pub fn queues<Q: Into<QueueName>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Sends scheduled tasks, whenever it leads. Where the broker keeps no schedules, a warning says so and nothing is sent.
    #[must_use]
    pub fn beat(mut self, options: BeatOptions) -> Self {
        self.beat = Some(options);
        self
    }

    /// How many tasks each executor runs at a time (at least 1); the number of cores by default, as for Celery.
    #[must_use]
    pub fn concurrency(mut self, slots: usize) -> Self {
        self.concurrency = slots.max(1);
        self
    }

    /// Lets executors without slots of their own number have more of them while there is work, and fewer when there is none, in the
    /// place of [`NodeBuilder::concurrency`] (`celery worker --autoscale`).
    #[must_use]
    pub fn autoscale(mut self, bounds: Bounds) -> Self {
        self.autoscale = Some(bounds);
        self
    }

    /// How many messages it holds for each slot, those that run included (Celery's `worker_prefetch_multiplier`, 4 by
    /// default); 0 is as many as there is room for.
    #[must_use]
    pub fn prefetch_multiplier(mut self, multiplier: u32) -> Self {
        self.prefetch_multiplier = multiplier;
        self
    }

    /// The devices of which each slot of an executor gets one: its own while there are enough, else in turn. None by default.
    #[must_use]
    pub fn devices(mut self, devices: Devices) -> Self {
        self.devices = devices;
        self
    }

    /// How long it keeps what it holds when it falls silent; 2.5 s by default, so that the work of a dead node runs
    /// elsewhere within three.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// What it says of itself to others on the same broker (where its HTTP API listens, say); this process by default.
    #[must_use]
    pub fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// Gossip with other nodes on the same broker. Without it, others are known by their leases alone.
    #[must_use]
    pub fn gossip(mut self, options: GossipOptions) -> Self {
        self.gossip = Some(options);
        self
    }

    /// How tasks are limited, unless somebody sets other limits while nodes run.
    #[must_use]
    pub fn limits(mut self, limits: impl IntoIterator<Item = (TaskName, LimitRule)>) -> Self {
        self.limits = limits.into_iter().collect();
        self
    }

    /// What remote control tells of it and may do with it, and whether it sends events of tasks.
    #[must_use]
    pub fn describe(mut self, description: Description) -> Self {
        self.description = description;
        self
    }

    /// What decisions depend on.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Where messages come from, where results go, and what makes endings durable.
    #[must_use]
    pub fn backbone(mut self, broker: Arc<dyn Broker>, backend: Arc<dyn Backend>, ledger: Arc<dyn Ledger>) -> Self {
        self.backbone = Some(Backbone { broker, backend, ledger });
        self
    }

    /// A task written in Rust. The tasks given this way share one native executor, the first of the node's.
    #[must_use]
    pub fn task<Kind>(mut self, task: impl IntoTask<Kind>) -> Self {
        self.native = Some(self.native.unwrap_or_default().task(task));
        self
    }

    /// One more executor, with [`NodeBuilder::concurrency`] slots. Where two know a task, the first runs it.
    #[must_use]
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executors.push((executor, None));
        self
    }

    /// One more executor, with slots of its own number (at least 1).
    #[must_use]
    pub fn executor_with(mut self, executor: Arc<dyn Executor>, slots: usize) -> Self {
        self.executors.push((executor, Some(slots.max(1))));
        self
    }

    /// Fault points, for tests.
    #[cfg(feature = "fault-points")]
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Starts it, and returns when it takes messages. A broker that does not answer is asked until it does; drop the future
    /// to stop waiting.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self) -> Result<Node, StartError> {
        let Backbone { broker, backend, ledger } = self.backbone.ok_or(StartError::NoBackbone)?;
        let native = self.native.map(|tasks| (Arc::new(tasks.build()) as Arc<dyn Executor>, None));
        let executors: Vec<_> = native.into_iter().chain(self.executors).collect();
        if executors.is_empty() {
            return Err(StartError::NoExecutor);
        }
        let queues = match self.queues {
            None => vec![self.settings.default_queue.clone()],
            Some(queues) => queues,
        };
        let (executors, own): (Vec<_>, Vec<Option<usize>>) = executors.into_iter().unzip();
        let or = |other: usize| own.iter().map(|own| own.unwrap_or(other)).collect::<Vec<usize>>();
        let (slots, most) = match self.autoscale {
            None => (or(self.concurrency), or(self.concurrency)),
            Some(bounds) => (or(bounds.min), or(bounds.max)),
        };
        let all_slots = u32::try_from(most.iter().sum::<usize>()).unwrap_or(u32::MAX);
        let follow = own.iter().map(|own| self.autoscale.is_some() && own.is_none()).collect();
        let settings = Arc::new(self.settings);
        let known = KnownTasks::new(executors.iter().flat_map(|executor| executor.tasks()));
        let client = Client::new(broker.clone(), backend.clone(), ledger.clone(), settings.clone(), known);
        executors.iter().for_each(|executor| executor.attach(client.clone()));
        let registry = Registry::new(executors);
        let node = self.name.unwrap_or_else(learning::default_name);
        let gossip = match self.gossip {
            Some(options) => Some(Port::open(options).await?),
            None => None,
        };
        let about = About { gossip: gossip.as_ref().map(|port| port.advertised), ..self.about };
        let cluster = watch::Sender::new(Arc::new(ClusterView::alone(node.clone())));
        let by_broker = broker.limits();
        let shared_by_broker = by_broker.is_some();
        let keeper = by_broker.or_else(|| backend.limits()).unwrap_or_else(|| Arc::new(LocalLimits::shared(cluster.subscribe())));
        let beat = self.beat.and_then(|options| BeatSeat::new(&*broker, options));
        let shared = Arc::new(Shared {
            beat,
            limits: Limiting::new(keeper, shared_by_broker, self.limits),
            cluster,
            node,
            settings,
            queues: watch::Sender::new(queues),
            devices: self.devices,
            lease: self.lease,
            about,
            gossip,
            gauges: Gauges::new(&slots),
            telling: Telling::new(self.description),
            client: client.clone(),
            facts: Facts::new(registry.names().cloned()),
            registry,
            credits: Credits::new(all_slots, self.prefetch_multiplier, CREDITS_MAX),
            autoscale: watch::Sender::new(self.autoscale),
            links: Links::new(broker.kind(), ledger.kind()),
            faults: self.faults,
            broker,
            backend,
            ledger,
        });
        let seat = subscribe(&shared).await?;
        // Before it takes work.
        shared.limits.learn().await;
        let learning = learning::begin(&shared);
        let (ended, when_ended) = watch::channel(None);
        let args = SupervisorArgs { shared: shared.clone(), seat, slots, follow, ended };
        let (supervisor, _) =
            Supervisor::spawn(None, Supervisor, args).await.map_err(|error| StartError::Pipeline { reason: error.to_string() })?;
        if shared.broker.fanout().is_some() && shared.telling.description.allow != Allow::Nothing {
            // Whoever hears that it is ready may command it at once, as a worker of Celery's.
            let _ = tokio::time::timeout(LISTENS_WITHIN, shared.telling.control_open()).await;
        }
        tracing::info!("{} ready.", shared.node);
        Ok(Node { inner: Arc::new(Inner { shared, client, supervisor, ended: when_ended, _learning: learning }) })
    }
}

/// Subscribes before there is a pipeline, so that a broker's refusal is the caller's to see.
async fn subscribe(shared: &Shared) -> Result<Seat, StartError> {
    let mut backoff = Backoff::new();
    loop {
        match shared.subscribe().await {
            Ok(subscription) => {
                shared.links.broker.up();
                let queues = shared.queues.borrow().clone();
                return Ok(Arc::new(Mutex::new(Some(Seated { subscription, queues }))));
            }
            Err(error) if error.is_transient() => {
                shared.links.broker.down(&error.to_string());
                tokio::time::sleep(backoff.next()).await;
            }
            Err(source) => return Err(StartError::Subscribe { queues: shared.queues.borrow().clone(), source }),
        }
    }
}
