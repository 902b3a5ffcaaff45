//! Limits that one node keeps by itself: exact on a broker that one node has to itself, and a share of the whole where several
//! nodes have nothing in common that could count for them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use tokio::sync::watch;
use umbel_proto::{Millis, TaskName};
use umbel_scheduler::limits::{Asker, Meter, Rule, Turn};

use super::{Ask, Done, LimitRule, Limits, LimitsError};
use crate::{clock, cluster::ClusterView};

/// From how many meters on those that nobody needs are forgotten.
const METERS_TIDY: usize = 10_000;

/// The state. A lock rather than an actor: each call is short and waits for nothing.
pub struct LocalLimits {
    begun: Instant,
    /// What the clock showed then, in milliseconds since 1970. From there on the time of this machine's counter is added.
    begun_at: Millis,
    state: Mutex<State>,
    /// Among how many nodes a limit is divided; `None` where there is only this one.
    cluster: Option<watch::Receiver<Arc<ClusterView>>>,
}

#[derive(Default)]
struct State {
    meters: HashMap<String, Meter>,
    set: BTreeMap<TaskName, LimitRule>,
}

impl LocalLimits {
    /// Of the only node there is.
    pub fn alone() -> Self {
        Self { begun: Instant::now(), begun_at: clock::now(), state: Mutex::default(), cluster: None }
    }

    /// A share of what all nodes of `cluster` have.
    pub fn shared(cluster: watch::Receiver<Arc<ClusterView>>) -> Self {
        Self { cluster: Some(cluster), ..Self::alone() }
    }

    fn share(&self, rule: Rule) -> Rule {
        let nodes = self.cluster.as_ref().map_or(1, |cluster| cluster.borrow().size());
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX).max(1);
        Rule {
            rate: rule.rate.map(|rate| rate.divided(nodes)),
            concurrency: rule.concurrency.map(|places| (places / nodes).max(1)),
            unique: rule.unique,
        }
    }

    fn now(&self) -> f64 {
        self.begun_at as f64 + self.begun.elapsed().as_secs_f64() * 1_000.0
    }
}

#[async_trait]
impl Limits for LocalLimits {
    async fn turns(&self, asks: &[Ask]) -> Result<(Millis, Vec<Turn>), LimitsError> {
        let now = self.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.meters.len() >= METERS_TIDY {
            state.meters.retain(|_, meter| !meter.is_idle(now));
        }
        let turns = asks.iter().map(|ask| {
            let asker = Asker { holder: &ask.holder, task: &ask.task, waited: ask.waited, ready: ask.ready };
            let rule = self.share(ask.rule);
            state.meters.entry(ask.limit.clone()).or_default().ask(&rule, asker, now)
        });
        Ok((now as Millis, turns.collect()))
    }

    async fn done(&self, done: &[Done]) -> Result<(), LimitsError> {
        let now = self.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for done in done {
            if let Some(meter) = state.meters.get_mut(&done.limit) {
                meter.done(&done.holder, done.ended.as_deref(), now);
                if let Some(unused) = done.unused
                    && let Some(rate) = self.share(Rule { rate: Some(unused.rate), ..Rule::default() }).rate
                {
                    meter.unused(rate, unused.at);
                }
            }
        }
        Ok(())
    }

    async fn rules(&self) -> Result<BTreeMap<TaskName, LimitRule>, LimitsError> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).set.clone())
    }

    async fn set_rule(&self, task: &TaskName, rule: Option<&LimitRule>) -> Result<(), LimitsError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match rule {
            Some(rule) => state.set.insert(task.clone(), rule.clone()),
            None => state.set.remove(task),
        };
        Ok(())
    }
}

impl fmt::Debug for LocalLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLimits").field("shared", &self.cluster.is_some()).finish()
    }
}
