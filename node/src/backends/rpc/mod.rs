//! `rpc://`: results as messages to whoever has asked for them (wire contract §4.3, `celery/backends/rpc.py`).
//!
//! **What it owns.** The queue in which this process hears of results of what it has sent itself, and the last
//! [`hub::KEPT`] of them. **Who sends to it.** The ledger, with the delivery whose message says where its sender listens;
//! clients. **What bounds it.** The hub by number; the queue goes when nobody uses it.
//!
//! **When it dies.** What was heard is gone: a result is a message to one process, and nobody else can read it. So there are no
//! chords and no saved groups; [`Backend::chord_steps`] says what to set instead.

mod hub;

use std::sync::Arc;

use async_trait::async_trait;
use umbel_proto::{GroupId, Map, ResultRecord, ResultTuple, TaskId, Value, codec::json};
use umbel_scheduler::ReadyChord;

use super::{Backend, BackendError, ChordProgress, ChordStep, Watch};
use crate::brokers::{
    Held,
    amqp::{AmqpBroker, Reply, Shared},
};

const KIND: &str = "rpc";

/// A result backend of reply queues.
#[derive(Debug)]
pub struct RpcBackend {
    broker: Arc<Shared>,
    hub: Arc<hub::Hub>,
}

impl RpcBackend {
    /// The backend beside a broker, on its connection; must be called within a runtime.
    pub fn open(broker: &AmqpBroker) -> Self {
        let broker = Arc::clone(broker.shared());
        Self { hub: hub::Hub::open(&broker), broker }
    }
}

/// A result as `AsyncResult` reads it from its queue: five fields, and no date.
fn body(record: &ResultRecord) -> Vec<u8> {
    let children = record.children.as_ref().map(|children| Value::List(children.iter().map(ResultTuple::to_value).collect()));
    let map = Map::from_iter([
        ("task_id".to_owned(), Value::from(record.task_id.as_str())),
        ("status".to_owned(), record.status.as_str().into()),
        ("result".to_owned(), record.result.clone()),
        ("traceback".to_owned(), record.traceback.clone().into()),
        ("children".to_owned(), children.unwrap_or(Value::Null)),
    ]);
    json::write(&Value::Map(map)).to_vec()
}

#[async_trait]
impl Backend for RpcBackend {
    fn kind(&self) -> &'static str {
        KIND
    }

    /// Without the message of the task nobody is known who would listen.
    async fn store(&self, batch: Vec<ResultRecord>) -> Vec<Result<bool, BackendError>> {
        batch.iter().map(|_| Ok(true)).collect()
    }

    async fn store_of(&self, batch: Vec<(Option<Held>, ResultRecord)>) -> Vec<Result<bool, BackendError>> {
        let mut replies = Vec::with_capacity(batch.len());
        for (held, record) in &batch {
            let Some((queue, correlation)) = held.as_ref().and_then(|held| self.broker.reply_to_of(held)) else { continue };
            // The rest of a failed chain is told to the same client, each under its own id.
            let own = correlation.filter(|_| held.as_ref().is_some_and(|held| self.broker.is_of(held, &record.task_id)));
            let correlation = own.unwrap_or_else(|| record.task_id.as_str().to_owned());
            replies.push(Reply { queue, correlation, body: body(record), ready: record.status.is_ready() });
        }
        let sent = self.broker.reply(replies).await;
        batch.iter().map(|_| sent.clone().map(|()| true).map_err(Into::into)).collect()
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<ResultRecord>>, BackendError> {
        Ok(ids.iter().map(|id| self.hub.last(id)).collect())
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<(), BackendError> {
        self.hub.forget(ids);
        Ok(())
    }

    async fn watch(&self, ids: &[TaskId]) -> Result<Box<dyn Watch>, BackendError> {
        Ok(Box::new(self.hub.watch(ids)))
    }

    async fn save_group(&self, _group: &GroupId, _tree: &ResultTuple) -> Result<(), BackendError> {
        Ok(())
    }

    async fn group(&self, _group: &GroupId) -> Result<Option<ResultTuple>, BackendError> {
        Ok(None)
    }

    async fn chord_steps(&self, steps: Vec<ChordStep>) -> Result<Vec<ReadyChord>, BackendError> {
        super::without_a_store(KIND, &steps)
    }

    fn no_chords(&self) -> BackendError {
        super::chords_need_a_store(KIND)
    }

    async fn unconcluded(&self, _limit: usize) -> Result<Vec<ReadyChord>, BackendError> {
        Ok(Vec::new())
    }

    async fn chord(&self, _group: &GroupId) -> Result<Option<ChordProgress>, BackendError> {
        Ok(None)
    }
}
