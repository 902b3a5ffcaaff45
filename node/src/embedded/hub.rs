//! Who watches which results.
//!
//! **What it owns.** For every watched task id, the mailboxes of its watchers. **Who sends to it.** The writer, after each
//! commit. **What bounds it.** A mailbox keeps the newest record of each id it watches, so it holds at most as many as ids were
//! asked for. **When a watcher goes**, its mailbox is forgotten with the next record or the next watcher of its ids.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::Notify;
use umbel_proto::{ResultRecord, TaskId};

/// The watchers by task id.
#[derive(Default)]
pub(crate) struct Hub {
    watchers: Mutex<HashMap<TaskId, Vec<Weak<ResultBox>>>>,
}

/// What a watcher has not seen yet.
#[derive(Default)]
pub(crate) struct ResultBox {
    content: Mutex<Unseen>,
    arrived: Notify,
}

#[derive(Default)]
struct Unseen {
    order: VecDeque<TaskId>,
    newest: HashMap<TaskId, ResultRecord>,
}

impl Hub {
    /// Begins to gather records of `ids`.
    pub(crate) fn watch(&self, ids: &[TaskId]) -> Arc<ResultBox> {
        let watcher = Arc::new(ResultBox::default());
        let mut watchers = self.lock();
        for id in ids {
            let of_id = watchers.entry(id.clone()).or_default();
            of_id.retain(|watcher| watcher.strong_count() > 0);
            of_id.push(Arc::downgrade(&watcher));
        }
        watcher
    }

    /// Forgets a watcher.
    pub(crate) fn unwatch(&self, ids: &[TaskId], gone: &Arc<ResultBox>) {
        let mut watchers = self.lock();
        for id in ids {
            let Some(of_id) = watchers.get_mut(id) else { continue };
            of_id.retain(|watcher| watcher.strong_count() > 0 && watcher.as_ptr() != Arc::as_ptr(gone));
            if of_id.is_empty() {
                watchers.remove(id);
            }
        }
    }

    /// Tells the watchers of records that were stored, in order.
    pub(crate) fn publish(&self, records: Vec<ResultRecord>) {
        let watchers = self.lock();
        if watchers.is_empty() {
            return;
        }
        for record in records {
            for watcher in watchers.get(&record.task_id).into_iter().flatten().filter_map(Weak::upgrade) {
                watcher.put(record.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Vec<Weak<ResultBox>>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResultBox {
    /// A newer record than any before of its id.
    fn put(&self, record: ResultRecord) {
        let mut unseen = self.lock();
        if unseen.newest.insert(record.task_id.clone(), record.clone()).is_none() {
            unseen.order.push_back(record.task_id);
        }
        drop(unseen);
        self.arrived.notify_one();
    }

    /// A record that was there when watching began; one that has come since is newer and stays.
    pub(crate) fn put_first(&self, record: ResultRecord) {
        let mut unseen = self.lock();
        if !unseen.newest.contains_key(&record.task_id) {
            unseen.order.push_back(record.task_id.clone());
            unseen.newest.insert(record.task_id.clone(), record);
        }
        drop(unseen);
        self.arrived.notify_one();
    }

    /// The next record.
    pub(crate) async fn next(&self) -> ResultRecord {
        loop {
            if let Some(record) = self.take() {
                return record;
            }
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<ResultRecord> {
        let mut unseen = self.lock();
        let id = unseen.order.pop_front()?;
        unseen.newest.remove(&id)
    }

    fn lock(&self) -> MutexGuard<'_, Unseen> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
