//! Limits as they are configured.

use std::collections::BTreeMap;

use umbel_proto::{Millis, TaskName};

use super::{exit::Exit, failure::Failure};
use crate::{
    config::Config,
    limits::{Key, LimitRule},
};

/// The rules under `[limits]`.
pub(super) fn rules(config: &Config) -> Result<BTreeMap<TaskName, LimitRule>, Failure> {
    let mut rules = BTreeMap::new();
    for limit in &config.limits {
        let key = match &limit.key {
            Some(key) => Some(Key::try_from(key.value.clone()).map_err(|error| {
                let failure = Failure::new(Exit::Usage, "cannot limit", error);
                failure.value_from(limit.task.clone(), key.origin.to_string()).hint("write it as {0}, {name}, or several of them")
            })?),
            None => None,
        };
        let rule = LimitRule {
            rate: limit.rate.as_ref().map(|rate| rate.value.clone()),
            per_node: limit.per_node,
            key,
            concurrency: limit.concurrency,
            unique: limit.unique.map(|unique| Millis::try_from(unique.as_millis()).unwrap_or(Millis::MAX)),
        };
        rules.insert(TaskName::from(limit.task.as_str()), rule);
    }
    Ok(rules)
}
