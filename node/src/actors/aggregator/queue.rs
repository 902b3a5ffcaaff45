//! What waits for the next flush, in order.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;
use umbel_proto::{GroupId, Invocation, Map, ResultRecord, State, TaskId};
use umbel_scheduler::{Commit, Effect, Fence, TaskSpec};

use super::Begun;
use crate::{claim::Claim, executors::Progress, facts::Fact};

/// A commit, and what to do when it is durable.
pub(super) struct Pending {
    pub(super) commit: Commit,
    pub(super) then: Then,
}

/// What to do when a commit is durable.
pub(super) enum Then {
    /// Let the claim go, and tell people.
    Settled(Box<Settled>),
    /// Let the task start.
    Begun(Begun),
    /// Let the run go on: whoever is called there will find that stored.
    Told(oneshot::Sender<bool>),
    /// Nothing.
    Noted,
    /// A chord has its body or errbacks.
    Concluded(GroupId),
}

/// The end of a claim.
pub(super) struct Settled {
    pub(super) claim: Claim,
    pub(super) spec: Option<Arc<TaskSpec>>,
    pub(super) facts: Vec<Fact>,
    /// Which attempt at an ending this is: the ledger may refuse one.
    pub(super) resort: Resort,
}

/// The attempts at an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resort {
    /// The ending itself.
    Ending,
    /// A failure that says that the ending could not be stored.
    Failure,
    /// The dead letters.
    DeadLetter,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    pending: VecDeque<Pending>,
    /// How many have been taken.
    taken: u64,
    /// The progress that waits, by task: its number, counted from the first that was ever pushed.
    notes: HashMap<TaskId, u64>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.pending.push_back(pending);
    }

    /// Keeps a state of a running task's own, in the place of an older one that still waits.
    pub(super) fn note(&mut self, invocation: &Invocation, fence: Fence, progress: Progress) {
        let headers = &invocation.headers;
        let record = ResultRecord {
            task_id: headers.id.clone(),
            status: State::by_name(&progress.state),
            result: progress.meta,
            traceback: None,
            children: Some(Vec::new()),
            date_done: None,
            group_id: headers.group.clone(),
            parent_id: headers.parent_id.clone(),
            extra: Map::new(),
        };
        let commit = Commit { fence, effects: vec![Effect::Store(Box::new(record))] };
        let older = self.notes.get(&headers.id).and_then(|number| usize::try_from(number.checked_sub(self.taken)?).ok());
        match older.and_then(|index| self.pending.get_mut(index)) {
            Some(pending) if pending.commit.fence == commit.fence => pending.commit = commit,
            _ => {
                self.notes.insert(headers.id.clone(), self.taken + self.pending.len() as u64);
                self.push(Pending { commit, then: Then::Noted });
            }
        }
    }

    /// The first `max`.
    pub(super) fn take(&mut self, max: usize) -> Vec<Pending> {
        let count = max.min(self.pending.len());
        self.taken += count as u64;
        self.notes.retain(|_, number| *number >= self.taken);
        self.pending.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests;
