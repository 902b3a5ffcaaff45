//! Waiting for results: one watch over all ids, begun anew when the backend loses it.

use std::collections::HashMap;

use tokio::time::{Instant, timeout_at};
use umbel_proto::{ResultRecord, TaskId};

use super::{Client, ClientError};
use crate::{actors::chance::Backoff, backends::Watch};

/// The records of some ids as they come.
#[derive(Debug)]
pub(super) struct Records {
    client: Client,
    ids: Vec<TaskId>,
    watch: Option<Box<dyn Watch>>,
    seen: HashMap<TaskId, ResultRecord>,
    backoff: Backoff,
}

impl Records {
    pub(super) fn new(client: Client, ids: Vec<TaskId>) -> Self {
        Self { client, ids, watch: None, seen: HashMap::new(), backoff: Backoff::by_link() }
    }

    /// The last known record of `id`.
    pub(super) fn get(&self, id: &TaskId) -> Option<&ResultRecord> {
        self.seen.get(id)
    }

    /// Whether `id` has ended.
    pub(super) fn is_ready(&self, id: &TaskId) -> bool {
        self.get(id).is_some_and(|record| record.status.is_ready())
    }

    pub(super) fn ids(&self) -> &[TaskId] {
        &self.ids
    }

    /// The next record that says something new. Waits for ever while the backend does not answer: the caller has the clock.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the backend refuses.
    pub(super) async fn next(&mut self) -> Result<ResultRecord, ClientError> {
        loop {
            match self.receive().await {
                Ok(record) => {
                    self.backoff.reset();
                    if self.seen.get(&record.task_id) != Some(&record) {
                        self.seen.insert(record.task_id.clone(), record.clone());
                        return Ok(record);
                    }
                }
                Err(error) if error.is_transient() => {
                    self.watch = None;
                    tokio::time::sleep(self.backoff.next()).await;
                }
                Err(error) => return Err(error.during("wait for results")),
            }
        }
    }

    async fn receive(&mut self) -> Result<ResultRecord, ClientError> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            none => none.insert(self.client.0.backend.watch(&self.ids).await?),
        };
        Ok(watch.next().await?)
    }

    /// Receives until `done` says so, or the time is over (`false`).
    ///
    /// # Errors
    /// When the backend refuses.
    pub(super) async fn until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> Result<bool, ClientError> {
        while !done(self) {
            match timeout_at(end, self.next()).await {
                Ok(record) => drop(record?),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}
