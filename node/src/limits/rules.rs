//! Which tasks are limited, and how.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use umbel_proto::{Invocation, Millis, TaskName};
use umbel_scheduler::{limits::Rule, rate_limit::Rate};

use super::{HEARD_WITHIN, InForce, Key, Limits};

/// How a task is limited, as people write it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitRule {
    /// How often it may start, such as `100/m`; `None` and `0` are no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Whether the rate is counted on each node by itself, as Celery counts it.
    pub per_node: bool,
    /// Counts calls with different keys apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// How many run at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// For how long one call keeps others of its key away, unless it ends before; in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<Millis>,
}

impl LimitRule {
    /// The rate; `None` for no limit, and for what is no rate.
    pub fn parsed_rate(&self) -> Option<Rate> {
        Rate::parse(self.rate.as_deref()?).ok().flatten()
    }

    /// What is counted for the whole cluster.
    pub fn shared(&self) -> Rule {
        let rate = if self.per_node { None } else { self.parsed_rate() };
        Rule { rate, concurrency: self.concurrency, unique: self.unique }
    }

    /// The name of the limit that a call comes under.
    pub fn limit(&self, invocation: &Invocation) -> String {
        let task = &invocation.headers.task;
        match &self.key {
            Some(key) => format!("{task}:{}", key.of(invocation)),
            None => task.to_string(),
        }
    }
}

/// All rules in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    by_task: BTreeMap<TaskName, LimitRule>,
}

impl Rules {
    /// What is `configured`, and over it what was `set`.
    pub fn new(configured: &BTreeMap<TaskName, LimitRule>, set: BTreeMap<TaskName, LimitRule>) -> Self {
        let mut by_task = configured.clone();
        by_task.extend(set);
        Self { by_task }
    }

    /// How a task is limited.
    pub fn get(&self, task: &TaskName) -> Option<&LimitRule> {
        self.by_task.get(task)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&TaskName, &LimitRule)> {
        self.by_task.iter()
    }
}

/// Learns the rules that are set, until the task is dropped. While nobody answers, those that were known hold.
pub(crate) async fn keep_rules(limits: Arc<dyn Limits>, configured: BTreeMap<TaskName, LimitRule>, in_force: InForce) {
    let mut news = limits.news();
    loop {
        let asked = timeout(Duration::from_secs(5), limits.rules()).await;
        let answered = matches!(asked, Ok(Ok(_)));
        if let Ok(Ok(set)) = asked {
            let rules = Rules::new(&configured, set);
            in_force.send_if_modified(|known| {
                let differs = **known != rules;
                if differs {
                    *known = Arc::new(rules);
                }
                differs
            });
        }
        let told = match &mut news {
            // An error is the end of whoever tells, and then of this node.
            Some(news) if answered => news.changed().await.is_ok(),
            _ => false,
        };
        if !told {
            sleep(HEARD_WITHIN).await;
        }
    }
}
