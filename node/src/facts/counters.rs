//! Counters: how often each kind of fact was told, and how long tasks ran.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;
use umbel_proto::TaskName;

/// The kinds of facts, as labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Taken from a queue.
    Received,
    /// Begun.
    Started,
    /// Returned.
    Succeeded,
    /// Failed for good.
    Failed,
    /// To be run again.
    Retried,
    /// Revoked or expired.
    Revoked,
    /// Refused by the task.
    Rejected,
    /// Given back to the queue.
    Requeued,
    /// Put among the dead letters.
    DeadLettered,
    /// Silent.
    Ignored,
    /// Replaced.
    Replaced,
    /// Discarded, because the message had gone to somebody else.
    Zombie,
}

impl Kind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 12] = [
        Self::Received,
        Self::Started,
        Self::Succeeded,
        Self::Failed,
        Self::Retried,
        Self::Revoked,
        Self::Rejected,
        Self::Requeued,
        Self::DeadLettered,
        Self::Ignored,
        Self::Replaced,
        Self::Zombie,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::Revoked => "revoked",
            Self::Rejected => "rejected",
            Self::Requeued => "requeued",
            Self::DeadLettered => "dead_lettered",
            Self::Ignored => "ignored",
            Self::Replaced => "replaced",
            Self::Zombie => "zombie",
        }
    }
}

/// Counters of every task that was known at the start, and of all others together.
#[derive(Debug, Default)]
pub struct Counters {
    tasks: HashMap<TaskName, TaskCounters>,
    others: TaskCounters,
}

/// Counters of one task.
#[derive(Debug, Default)]
pub struct TaskCounters {
    kinds: [AtomicU64; Kind::ALL.len()],
    runtime: Histogram,
}

/// How long runs took.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; Histogram::BOUNDS_SECS.len() + 1],
    sum_micros: AtomicU64,
}

impl Counters {
    pub(super) fn new(tasks: impl IntoIterator<Item = TaskName>) -> Self {
        Self { tasks: tasks.into_iter().map(|name| (name, TaskCounters::default())).collect(), others: TaskCounters::default() }
    }

    pub(super) fn count(&self, task: Option<&TaskName>, kind: Kind, runtime: Option<Duration>) {
        let counters = task.and_then(|task| self.tasks.get(task)).unwrap_or(&self.others);
        counters.kinds[kind as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(runtime) = runtime {
            counters.runtime.observe(runtime);
        }
    }

    /// How often `kind` was told, about all tasks together.
    pub fn total(&self, kind: Kind) -> u64 {
        self.tasks.values().chain([&self.others]).map(|counters| counters.get(kind)).sum()
    }

    /// The counters of each known task, by name, and last those of all others, without one.
    pub fn tasks(&self) -> impl Iterator<Item = (Option<&TaskName>, &TaskCounters)> {
        let mut known: Vec<_> = self.tasks.iter().map(|(name, counters)| (Some(name), counters)).collect();
        known.sort_by_key(|(name, _)| *name);
        known.into_iter().chain([(None, &self.others)])
    }
}

impl TaskCounters {
    /// How often `kind` was told.
    pub fn get(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize].load(Ordering::Relaxed)
    }

    /// How long its runs took.
    pub fn runtime(&self) -> &Histogram {
        &self.runtime
    }
}

impl Histogram {
    /// Upper bounds of the buckets, in seconds; the last bucket is without bound.
    pub const BOUNDS_SECS: [f64; 14] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0];

    fn observe(&self, took: Duration) {
        let secs = took.as_secs_f64();
        let bucket = Self::BOUNDS_SECS.partition_point(|bound| secs > *bound);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        // u64 holds half a million years of microseconds.
        self.sum_micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// How many there were up to each bound and, last, at all.
    pub fn cumulative(&self) -> Vec<u64> {
        let mut sum = 0;
        self.buckets
            .iter()
            .map(|bucket| {
                sum += bucket.load(Ordering::Relaxed);
                sum
            })
            .collect()
    }

    /// Seconds in all.
    pub fn sum_secs(&self) -> f64 {
        self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: known tasks are counted apart, unknown ones together, and runtimes fall into the bucket whose bound they reach.
    #[test]
    fn counts() {
        let counters = Counters::new([TaskName::from("add")]);
        counters.count(Some(&TaskName::from("add")), Kind::Succeeded, Some(Duration::from_millis(5)));
        counters.count(Some(&TaskName::from("add")), Kind::Succeeded, Some(Duration::from_secs(9_999)));
        counters.count(Some(&TaskName::from("who")), Kind::Received, None);
        counters.count(None, Kind::Received, None);
        assert_eq!(counters.total(Kind::Succeeded), 2);
        assert_eq!(counters.total(Kind::Received), 2);
        let all: Vec<_> = counters.tasks().collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].1.get(Kind::Received), 2);
        let runtime = all[0].1.runtime().cumulative();
        assert_eq!((runtime[0], runtime[1], runtime[13], runtime[14]), (0, 1, 1, 2));
        assert!((all[0].1.runtime().sum_secs() - 9_999.005).abs() < 1e-6);
        assert!(Kind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
    }
}
