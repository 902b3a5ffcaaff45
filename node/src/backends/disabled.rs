//! No result backend, as Celery's `DisabledBackend`: results go nowhere, and who asks for one is told what to set.
//!
//! **What it owns.** Nothing. **Who sends to it.** Ledgers and clients of a broker that keeps no results, RabbitMQ. **What
//! bounds it.** It holds nothing. **When it dies.** It cannot.

use async_trait::async_trait;
use umbel_proto::{GroupId, ResultRecord, ResultTuple, TaskId};
use umbel_scheduler::ReadyChord;

use super::{Backend, BackendError, ChordProgress, ChordStep, Watch};

const KIND: &str = "disabled";

/// Results that nobody keeps.
#[derive(Debug, Clone, Copy, Default)]
pub struct DisabledBackend;

fn no_backend() -> BackendError {
    let reason = "no result backend is configured; set CELERY_RESULT_BACKEND, to redis://host:6379/1 or rpc://".to_owned();
    BackendError::Refused { kind: KIND, reason }
}

#[async_trait]
impl Backend for DisabledBackend {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn store(&self, batch: Vec<ResultRecord>) -> Vec<Result<bool, BackendError>> {
        batch.iter().map(|_| Ok(true)).collect()
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<ResultRecord>>, BackendError> {
        Ok(vec![None; ids.len()])
    }

    async fn forget(&self, _ids: &[TaskId]) -> Result<(), BackendError> {
        Ok(())
    }

    async fn watch(&self, _ids: &[TaskId]) -> Result<Box<dyn Watch>, BackendError> {
        Err(no_backend())
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
