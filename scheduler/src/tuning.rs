//! What was changed of tasks at run time: `control rate_limit` and `control time_limit`.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use umbel_proto::{TaskName, TimeLimit};

use crate::{TaskSpec, rate_limit::Rate};

/// What was changed of one task. What is not mentioned stays as the task has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Tuning {
    /// A rate as [`Rate::parse`] reads it; `0` and an empty text lift the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<String>,
    /// The time limits, both of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<Limits>,
}

/// Time limits in seconds; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// After which the task is told.
    pub soft: Option<f64>,
    /// After which it is ended by force.
    pub hard: Option<f64>,
}

impl Tuning {
    /// This and, where it says nothing, what was changed before.
    #[must_use]
    pub fn over(self, before: Self) -> Self {
        Self { rate_limit: self.rate_limit.or(before.rate_limit), time_limit: self.time_limit.or(before.time_limit) }
    }

    /// The options of a task with these changes. A rate that cannot be read changes nothing.
    pub fn apply(&self, spec: &TaskSpec) -> TaskSpec {
        let mut tuned = spec.clone();
        if let Some(Ok(rate)) = self.rate_limit.as_deref().map(Rate::parse) {
            tuned.rate_limit = rate;
        }
        if let Some(limits) = self.time_limit {
            tuned.time_limit = TimeLimit { hard_secs: limits.hard, soft_secs: limits.soft };
        }
        tuned
    }
}

/// What was changed of all tasks. Bounded: a task has one entry, and names of tasks that nobody knows are not taken.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tunings(BTreeMap<TaskName, Tuning>);

impl Tunings {
    /// How many tasks can be changed.
    pub const MAX: usize = 10_000;

    /// Puts a change in place of the one there was.
    pub fn set(&mut self, task: TaskName, tuning: Tuning) {
        if self.0.len() < Self::MAX || self.0.contains_key(&task) {
            self.0.insert(task, tuning);
        }
    }

    /// What was changed of `task`.
    pub fn get(&self, task: &TaskName) -> Option<&Tuning> {
        self.0.get(task)
    }

    /// Every change, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&TaskName, &Tuning)> {
        self.0.iter()
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The options of a task as they are now.
    pub fn tuned(&self, spec: Arc<TaskSpec>) -> Arc<TaskSpec> {
        match self.get(&spec.name) {
            Some(tuning) => Arc::new(tuning.apply(&spec)),
            None => spec,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only what is mentioned changes, and a lifted limit is no limit.
    #[test]
    fn changes_leave_the_rest_alone() {
        let mut spec = TaskSpec::new("a");
        spec.rate_limit = Rate::parse("1/s").unwrap();
        spec.time_limit = TimeLimit { hard_secs: Some(9.0), soft_secs: None };
        let rate = |text: &str| Tuning { rate_limit: Some(text.to_owned()), time_limit: None };
        assert_eq!(rate("10/m").apply(&spec).rate_limit, Rate::parse("10/m").unwrap());
        assert_eq!(rate("10/m").apply(&spec).time_limit, spec.time_limit);
        assert_eq!(rate("0").apply(&spec).rate_limit, None);
        assert_eq!(rate("nonsense").apply(&spec), spec);
        let limits = Tuning { rate_limit: None, time_limit: Some(Limits { soft: Some(1.0), hard: None }) };
        let both = limits.clone().over(rate("5/h"));
        assert_eq!(both.apply(&spec).rate_limit, Rate::parse("5/h").unwrap());
        assert_eq!(both.apply(&spec).time_limit, TimeLimit { hard_secs: None, soft_secs: Some(1.0) });
        let mut tunings = Tunings::default();
        tunings.set("a".into(), limits);
        assert_eq!(tunings.tuned(Arc::new(spec)).time_limit.soft_secs, Some(1.0));
        assert_eq!(*tunings.tuned(Arc::new(TaskSpec::new("b"))), TaskSpec::new("b"));
    }
}
