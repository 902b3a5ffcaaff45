//! Revocations: what must not run any more.

use std::collections::{BTreeMap, BTreeSet};

use umbel_proto::{GroupId, Invocation, Millis, TaskId, Value};

/// One order not to run something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Revocation {
    /// One task.
    Task(TaskId),
    /// Every task whose root is this one: a whole workflow ([`crate::canvas::Launched::root`]).
    Workflow(TaskId),
    /// Every member of a group.
    Group(GroupId),
    /// One task, unless it runs already: Celery's `revoke` without `terminate`.
    Start(TaskId),
    /// Every task with this stamp, unless it runs already (`revoke_by_stamped_headers`).
    Stamp {
        /// The name of the stamp.
        name: String,
        /// One of its values.
        value: String,
    },
}

impl Revocation {
    /// Whether it ends what runs already; the others only keep tasks from starting.
    pub fn ends(&self) -> bool {
        matches!(self, Self::Task(_) | Self::Workflow(_) | Self::Group(_))
    }
}

/// Everything that is revoked. Bounded: beyond [`Revoked::MAX`] the oldest are forgotten (`celery/worker/state.py`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Revoked {
    orders: BTreeMap<Revocation, Millis>,
    /// The same orders, oldest first.
    ages: BTreeSet<(Millis, Revocation)>,
}

impl Revoked {
    /// Celery's `REVOKES_MAX`.
    pub const MAX: usize = 50_000;

    /// Adds an order given at `at`. One that is there already keeps the later of the two times.
    pub fn insert(&mut self, order: Revocation, at: Millis) {
        match self.orders.get(&order) {
            Some(&known) if known >= at => return,
            Some(&known) => {
                self.ages.remove(&(known, order.clone()));
            }
            None => {}
        }
        self.ages.insert((at, order.clone()));
        self.orders.insert(order, at);
        while self.orders.len() > Self::MAX {
            self.forget_oldest();
        }
    }

    /// Whether this message may not start any more.
    pub fn covers(&self, invocation: &Invocation) -> bool {
        if self.orders.is_empty() {
            return false;
        }
        let headers = &invocation.headers;
        let stamped = |(name, value): (&String, &Value)| texts(value).into_iter().any(|value| self.has_stamp(name, value));
        self.ends(invocation) || self.has(&Revocation::Start(headers.id.clone())) || headers.stamps.iter().any(stamped)
    }

    /// Whether this message may not even go on running.
    ///
    /// A message with a group id but no position in it (a chord's body, an errback) is no member of that group.
    pub fn ends(&self, invocation: &Invocation) -> bool {
        if self.orders.is_empty() {
            return false;
        }
        let headers = &invocation.headers;
        let root = headers.root_id.as_ref().unwrap_or(&headers.id);
        if self.has(&Revocation::Task(headers.id.clone())) || self.has(&Revocation::Workflow(root.clone())) {
            return true;
        }
        let own = headers.group_index.and(headers.group.clone());
        // The first step of a chain is not marked as a member; the chain's last one is (wire contract §5.2).
        let last = invocation.embed().chain.first();
        let chain = last.and_then(|step| step.options.group_index().and(step.options.group_id()));
        own.into_iter().chain(chain).any(|group| self.has(&Revocation::Group(group)))
    }

    /// Forgets orders given before `before` (Celery's `REVOKE_EXPIRES` is 3 hours).
    pub fn expire(&mut self, before: Millis) {
        while self.ages.first().is_some_and(|(at, _)| *at < before) {
            self.forget_oldest();
        }
    }

    /// The orders and when they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Revocation, Millis)> {
        self.orders.iter().map(|(order, at)| (order, *at))
    }

    /// Whether this very order is among them.
    pub fn has(&self, order: &Revocation) -> bool {
        self.orders.contains_key(order)
    }

    fn has_stamp(&self, name: &str, value: String) -> bool {
        self.has(&Revocation::Stamp { name: name.to_owned(), value })
    }

    fn forget_oldest(&mut self) {
        if let Some((_, order)) = self.ages.pop_first() {
            self.orders.remove(&order);
        }
    }
}

/// The values of a stamp, or of a header that shall match one: a list or a single one. Celery compares them as they are; what
/// is no text is compared by what it looks like in Python.
pub fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Str(text) => text.clone(),
        other => umbel_proto::repr::repr(other),
    };
    match value {
        Value::Null => Vec::new(),
        Value::List(values) => values.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

#[cfg(test)]
mod tests;
