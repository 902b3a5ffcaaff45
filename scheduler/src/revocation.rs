//! Revocations: what must not run any more.

use std::collections::BTreeMap;

use umbel_proto::{GroupId, Invocation, Millis, TaskId};

/// One order not to run something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Revocation {
    /// One task.
    Task(TaskId),
    /// Every task whose root is this one: a whole workflow.
    Workflow(TaskId),
    /// Every member of a group.
    Group(GroupId),
}

/// Everything that is revoked. Bounded: beyond [`Revoked::MAX`] the oldest are forgotten (`celery/worker/state.py`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Revoked {
    orders: BTreeMap<Revocation, Millis>,
}

impl Revoked {
    /// Celery's `REVOKES_MAX`.
    pub const MAX: usize = 50_000;

    /// Adds an order given at `at`.
    pub fn insert(&mut self, _order: Revocation, _at: Millis) {
        todo!()
    }
    /// Whether this message is revoked.
    pub fn covers(&self, _invocation: &Invocation) -> bool {
        todo!()
    }
    /// Forgets orders given before `before` (Celery's `REVOKE_EXPIRES` is 3 hours).
    pub fn expire(&mut self, _before: Millis) {
        todo!()
    }
    /// The orders and when they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Revocation, Millis)> {
        self.orders.iter().map(|(order, at)| (order, *at))
    }
}
