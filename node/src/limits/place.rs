//! What a node holds of its limits: the rules in force, who counts, and the places of its tasks.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Millis, TaskName};

use super::{Ask, Done, LimitRule, Limits, Rules, Unused, keep_rules};

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
        let giving_back = crate::task::spawn(give_back(Arc::clone(&keeper), receiver));
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
        let _ = self.keeping.set(AbortOnDropHandle::new(crate::task::spawn(learning)));
    }
}

/// A permission to start, which does not keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permit {
    /// The time of the start, by the clock of whoever gives turns.
    pub(crate) at: Millis,
    /// Until when it may be used. Used later, it would come on top of those that were given after it.
    pub(crate) until: Instant,
    /// When one that has missed it comes back, by the clock of the schedule.
    pub(crate) again: Millis,
}

/// A task's place under its limits; given back by being dropped. Unbounded in type, bounded by the credits of the tasks.
#[derive(Debug)]
pub(crate) struct Place {
    back: mpsc::UnboundedSender<Done>,
    ask: Ask,
    ended: bool,
    /// Its start under a rate, until it takes place.
    permit: Option<Permit>,
    /// Another has taken over from it.
    over: bool,
}

impl Place {
    pub(crate) fn new(limiting: &Limiting, ask: Ask, permit: Option<Permit>) -> Self {
        Self { back: limiting.done.clone(), ask, ended: false, permit, over: false }
    }

    /// The task starts now. If it is too late for that, it has to come back at the time that is the error.
    pub(crate) fn start(&mut self) -> Result<(), Millis> {
        match self.permit {
            Some(permit) if permit.until < Instant::now() => Err(permit.again),
            _ => {
                self.permit = None;
                Ok(())
            }
        }
    }

    /// Whether its start has been missed.
    pub(crate) fn is_late(&self) -> bool {
        self.permit.is_some_and(|permit| permit.until < Instant::now())
    }

    /// Its start has been missed and goes back, while its task keeps what else it has and asks for another.
    pub(crate) fn miss(mut self) {
        self.over = true;
        let done = Done { limit: self.ask.limit.clone(), holder: String::new(), ended: None, unused: self.unused() };
        let _ = self.back.send(done);
    }

    fn unused(&self) -> Option<Unused> {
        self.permit.zip(self.ask.rule.rate).map(|(permit, rate)| Unused { at: permit.at, rate })
    }

    /// There is nothing to run any more: others of its key may come.
    pub(crate) fn end(mut self) {
        self.ended();
    }

    /// The task has ended for good: others of its key may come.
    pub(crate) fn ended(&mut self) {
        self.ended = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ask { limit, holder, task, rule, .. } = &self.ask;
        let unused = self.unused();
        if self.over {
            return;
        }
        if unused.is_none() && rule.concurrency.is_none() && rule.unique.is_none() {
            // Nobody counts those that run.
            return;
        }
        let done = Done { limit: limit.clone(), holder: holder.clone(), ended: self.ended.then(|| task.clone()), unused };
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
