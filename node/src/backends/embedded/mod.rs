//! The embedded result backend: results in the [`Store`] of this process.
//!
//! **What it owns.** A reference to the store. **Who sends to it.** Clients and commands that read and watch; results of tasks
//! come through the ledger, in one transaction with everything else that their endings mean.
//!
//! **What bounds it.** The expiry; a watcher keeps no more than the newest record of each id it asked for.
//!
//! **When it dies.** It cannot; errors of the disk are answers.
//!
//! Every record expires, STARTED and custom states included, counted from when it was last stored (Celery's `SETEX`).

mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use umbel_proto::{GroupId, ResultRecord, ResultTuple, TaskId};

use self::watch::EmbeddedWatch;
use super::{Backend, BackendError, ChordProgress, Watch};
use crate::embedded::{KIND, NewResult, Store, StoreError, decode_tuple, encode_tuple, read_chord, read_group, read_results};

/// Results in a file.
#[derive(Debug)]
pub struct EmbeddedBackend {
    store: Arc<Store>,
}

impl EmbeddedBackend {
    /// The backend of `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Backend for EmbeddedBackend {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn store(&self, batch: Vec<ResultRecord>) -> Vec<Result<bool, BackendError>> {
        let encoded: Vec<Result<NewResult, StoreError>> = batch.into_iter().map(NewResult::new).collect();
        let count = encoded.len();
        let bytes = encoded.iter().flatten().map(|new| new.row.len()).sum();
        let stored = self.store.write(bytes, move |tx| {
            let store = |new: Result<NewResult, StoreError>| match new.and_then(|new| tx.store(new)) {
                Err(error @ StoreError::Unavailable(_)) => Err(error),
                answer => Ok(answer),
            };
            encoded.into_iter().map(store).collect::<Result<Vec<_>, _>>()
        });
        match stored.await {
            Ok(answers) => answers.into_iter().map(|answer| answer.map_err(StoreError::backend)).collect(),
            Err(error) => vec![Err(error.backend()); count],
        }
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<ResultRecord>>, BackendError> {
        let (ids, options, now) = (ids.to_vec(), self.store.options().clone(), self.store.now());
        self.store.read(move |txn| read_results(txn, &ids, &options, now)).await.map_err(StoreError::backend)
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<(), BackendError> {
        let ids = ids.to_vec();
        let forgotten = self.store.write(0, move |tx| ids.iter().try_for_each(|id| tx.forget(id.as_str())));
        forgotten.await.map_err(StoreError::backend)
    }

    async fn watch(&self, ids: &[TaskId]) -> Result<Box<dyn Watch>, BackendError> {
        let watch = EmbeddedWatch::new(Arc::clone(&self.store), ids.to_vec());
        // Only now: what is stored from here on comes by itself, so nothing falls between.
        for record in self.get(ids).await?.into_iter().flatten() {
            watch.put_first(record);
        }
        Ok(Box::new(watch))
    }

    async fn save_group(&self, group: &GroupId, tree: &ResultTuple) -> Result<(), BackendError> {
        let record = encode_tuple(tree).map_err(|error| StoreError::from(error).backend())?;
        let group = group.clone();
        self.store.write(record.len(), move |tx| tx.save_group(&group, &record)).await.map_err(StoreError::backend)
    }

    async fn group(&self, group: &GroupId) -> Result<Option<ResultTuple>, BackendError> {
        let (group, options, now) = (group.clone(), self.store.options().clone(), self.store.now());
        let record = self.store.read(move |txn| read_group(txn, &group, &options, now)).await.map_err(StoreError::backend)?;
        record.map(|record| decode_tuple(&record)).transpose().map_err(|error| StoreError::from(error).backend())
    }

    async fn chord(&self, group: &GroupId) -> Result<Option<ChordProgress>, BackendError> {
        let group = group.clone();
        let row = self.store.read(move |txn| read_chord(txn, &group)).await.map_err(StoreError::backend)?;
        Ok(row.map(|row| ChordProgress { size: row.size, done: row.done }))
    }
}
