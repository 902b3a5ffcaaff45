//! What a node holds of its limits: the rules in force, who counts, and the places of its tasks.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::TaskName;

use super::{Ask, Done, LimitRule, Limits, Rules, keep_rules};

/// The most places given back at a time.
const DONE_MAX: usize = 256;

/// A node's limits.
#[derive(Debug)]
pub(crate) struct Limiting {
    pub(crate) keeper: Arc<dyn Limits>,
    /// Whether the broker itself counts, so that turns are given by the clock of its schedule.
    pub(crate) by_broker: bool,
    pub(crate) in_force: watch::Sender<Arc<Rules>>,
    configured: BTreeMap<TaskName, LimitRule>,
    done: mpsc::UnboundedSender<Done>,
    _giving_back: AbortOnDropHandle<()>,
    keeping: std::sync::OnceLock<AbortOnDropHandle<()>>,
}

impl Limiting {
    pub(crate) fn new(keeper: Arc<dyn Limits>, by_broker: bool, configured: BTreeMap<TaskName, LimitRule>) -> Self {
        let (done, receiver) = mpsc::unbounded_channel();
        let giving_back = tokio::spawn(give_back(Arc::clone(&keeper), receiver));
        let in_force = watch::Sender::new(Arc::new(Rules::new(&configured, BTreeMap::new())));
        let giving_back = AbortOnDropHandle::new(giving_back);
        Self { keeper, by_broker, in_force, configured, done, _giving_back: giving_back, keeping: std::sync::OnceLock::new() }
    }

    /// Looks once.
    pub(crate) async fn refresh(&self) {
        if let Ok(Ok(set)) = tokio::time::timeout(std::time::Duration::from_secs(5), self.keeper.rules()).await {
            self.in_force.send_replace(Arc::new(Rules::new(&self.configured, set)));
        }
    }

    /// Learns what was set while other nodes ran, and goes on learning. Returns when it is known, or nobody answers for long.
    pub(crate) async fn learn(&self) {
        self.refresh().await;
        let learning = keep_rules(Arc::clone(&self.keeper), self.configured.clone(), self.in_force.clone());
        let _ = self.keeping.set(AbortOnDropHandle::new(tokio::spawn(learning)));
    }
}

/// A task's place under its limits; given back by being dropped. Unbounded in type, bounded by the credits of the tasks.
#[derive(Debug)]
pub(crate) struct Place {
    back: mpsc::UnboundedSender<Done>,
    ask: Ask,
    ended: bool,
}

impl Place {
    pub(crate) fn new(limiting: &Limiting, ask: Ask) -> Self {
        Self { back: limiting.done.clone(), ask, ended: false }
    }

    /// The task has ended for good: others of its key may come.
    pub(crate) fn ended(&mut self) {
        self.ended = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ask { limit, holder, task, .. } = &self.ask;
        let done = Done { limit: limit.clone(), holder: holder.clone(), ended: self.ended.then(|| task.clone()) };
        // When the node is over, its places come free with its deliveries.
        let _ = self.back.send(done);
    }
}

/// Gives places back, in batches. What cannot be given back comes free by itself, later.
async fn give_back(keeper: Arc<dyn Limits>, mut done: mpsc::UnboundedReceiver<Done>) {
    let mut batch = Vec::new();
    while done.recv_many(&mut batch, DONE_MAX).await > 0 {
        if let Err(error) = keeper.done(&batch).await {
            tracing::debug!(count = batch.len(), "places are not given back now: {error}");
        }
        batch.clear();
    }
}
