//! A watcher of results: a mailbox that the store's writer fills.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use umbel_proto::{ResultRecord, TaskId};

use crate::{
    backends::{BackendError, Watch},
    embedded::{ResultBox, Store},
};

pub(super) struct EmbeddedWatch {
    store: Arc<Store>,
    ids: Vec<TaskId>,
    mailbox: Arc<ResultBox>,
}

impl EmbeddedWatch {
    pub(super) fn new(store: Arc<Store>, ids: Vec<TaskId>) -> Self {
        let mailbox = store.hub().watch(&ids);
        Self { store, ids, mailbox }
    }

    pub(super) fn put_first(&self, record: ResultRecord) {
        self.mailbox.put_first(record);
    }
}

#[async_trait]
impl Watch for EmbeddedWatch {
    async fn next(&mut self) -> Result<ResultRecord, BackendError> {
        Ok(self.mailbox.next().await)
    }
}

impl Drop for EmbeddedWatch {
    fn drop(&mut self) {
        self.store.hub().unwatch(&self.ids, &self.mailbox);
    }
}

impl fmt::Debug for EmbeddedWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedWatch").field("ids", &self.ids.len()).finish_non_exhaustive()
    }
}
