//! Results in Redis, byte for byte as Celery's `AsyncResult` reads them (wire contract §4.1, §4.2).
//!
//! **What it owns.** A connection for commands, and one that hears of publications, opened when somebody first watches.
//! **Who sends to it.** Clients, the CLI, and the ledger, which shares its names. **What bounds it.** Results expire; a watch
//! keeps at most [`watch::HEARD`] records, and reads again when it was too slow. **When it dies.** Errors are answers; watches
//! find out for themselves what they missed while the server was away.

mod chords;
mod endings;
mod watch;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use umbel_proto::{
    GroupId, Limits, Map, ResultRecord, ResultTuple, State, TaskId, Value,
    codec::{Serializer, json},
    inflate,
};
use umbel_scheduler::ReadyChord;

use super::{Backend, BackendError, ChordProgress, ChordStep, Watch};
use crate::redis::{
    Link, RedisOptions, Target, answer,
    error::{KIND, RedisError},
    instance,
    keys::Results,
    script::Script,
};

static STORE: Script =
    Script::new("store", concat!(include_str!("../../redis/scripts/record.lua"), include_str!("../../redis/scripts/store.lua")));

/// How many records one call reads or writes.
const SLICE: usize = 500;

/// A result backend in a Redis database.
#[derive(Debug)]
pub struct RedisBackend {
    link: Link,
    options: RedisOptions,
    keys: Results,
    /// By which this process claims chords.
    token: String,
    known: chords::Known,
    hub: OnceLock<Arc<watch::Hub>>,
}

impl RedisBackend {
    /// A backend at `target`. It connects in the background; must be called within a runtime.
    pub fn open(target: Target, options: RedisOptions) -> Self {
        let keys = Results::new(&options.result_prefix);
        Self {
            link: Link::open(target),
            options,
            keys,
            token: format!("umbel-{}", instance()),
            known: chords::Known::default(),
            hub: OnceLock::new(),
        }
    }

    /// The connection for commands.
    pub fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn keys(&self) -> &Results {
        &self.keys
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// A record as it is stored, with the seconds it is kept.
    pub(crate) fn encode(record: &ResultRecord, options: &RedisOptions) -> Result<(Vec<u8>, u64), RedisError> {
        let bytes = record.to_stored(Serializer::Json, None).map_err(|error| RedisError::Refused(error.to_string()))?;
        Ok((bytes, options.result_ttl(record.status == State::Failure)))
    }

    async fn store_slice(&self, slice: &[ResultRecord]) -> Result<Vec<Result<bool, BackendError>>, RedisError> {
        let mut call = STORE.call(0);
        let mut refused = vec![None; slice.len()];
        for (record, refused) in slice.iter().zip(&mut refused) {
            match Self::encode(record, &self.options) {
                Ok((bytes, ttl)) => {
                    call.arg(self.keys.celery.task(&record.task_id)).arg(bytes).arg(ttl);
                }
                Err(error) => *refused = Some(error),
            }
        }
        let answers = answer::list(self.link.script(&STORE, &call).await?, "storing results")?;
        let mut answers = answers.into_iter();
        let answers = refused.into_iter().map(|refused| match refused {
            Some(error) => Err(error.into()),
            None => Ok(answers.next() == Some(redis::Value::Int(1))),
        });
        Ok(answers.collect())
    }
}

/// Reads a stored record.
pub(crate) fn decode(bytes: &[u8]) -> Result<ResultRecord, RedisError> {
    ResultRecord::from_stored(bytes, Serializer::Json, Limits::default())
        .map_err(|error| RedisError::Refused(format!("a stored result cannot be read: {error}")))
}

#[async_trait]
impl Backend for RedisBackend {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn limits(&self) -> Option<Arc<dyn crate::limits::Limits>> {
        Some(Arc::new(crate::limits::RedisLimits::new(self.link.clone(), &self.options.result_prefix, None)))
    }

    async fn store(&self, batch: Vec<ResultRecord>) -> Vec<Result<bool, BackendError>> {
        let mut answers = Vec::with_capacity(batch.len());
        for slice in batch.chunks(SLICE) {
            match self.store_slice(slice).await {
                Ok(stored) => answers.extend(stored),
                Err(error) => answers.extend(slice.iter().map(|_| Err(error.clone().into()))),
            }
        }
        answers
    }

    async fn get(&self, ids: &[TaskId]) -> Result<Vec<Option<ResultRecord>>, BackendError> {
        let mut records = Vec::with_capacity(ids.len());
        for slice in ids.chunks(SLICE) {
            let mut command = redis::cmd("MGET");
            for id in slice {
                command.arg(self.keys.celery.task(id));
            }
            let values: Vec<Option<Vec<u8>>> = self.link.query(&command).await?;
            for value in values {
                records.push(value.map(|bytes| decode(&bytes)).transpose()?);
            }
        }
        Ok(records)
    }

    async fn forget(&self, ids: &[TaskId]) -> Result<(), BackendError> {
        for slice in ids.chunks(SLICE) {
            let mut command = redis::cmd("UNLINK");
            for id in slice {
                command.arg(self.keys.celery.task(id));
            }
            self.link.run(&command).await?;
        }
        Ok(())
    }

    async fn watch(&self, ids: &[TaskId]) -> Result<Box<dyn Watch>, BackendError> {
        let hub = self.hub.get_or_init(|| watch::Hub::open(self.link.target().clone(), self.keys.clone()));
        Ok(Box::new(watch::RedisWatch::begin(hub, ids).await?))
    }

    async fn save_group(&self, group: &GroupId, tree: &ResultTuple) -> Result<(), BackendError> {
        let record = Value::Map(Map::from_iter([("result".to_owned(), tree.to_value())]));
        let (key, bytes) = (self.keys.celery.group(group), json::write(&record));
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        match self.options.result_ttl(false) {
            0 => pipeline.cmd("SET").arg(&key).arg(&bytes).ignore(),
            ttl => pipeline.cmd("SETEX").arg(&key).arg(ttl).arg(&bytes).ignore(),
        };
        pipeline.cmd("PUBLISH").arg(&key).arg(&bytes).ignore();
        Ok(self.link.pipeline::<()>(&pipeline).await?)
    }

    async fn group(&self, group: &GroupId) -> Result<Option<ResultTuple>, BackendError> {
        let mut command = redis::cmd("GET");
        command.arg(self.keys.celery.group(group));
        let bytes: Option<Vec<u8>> = self.link.query(&command).await?;
        Ok(bytes.map(|bytes| tree(&bytes)).transpose()?)
    }

    async fn chord(&self, group: &GroupId) -> Result<Option<ChordProgress>, BackendError> {
        let key = self.keys.celery.group(group);
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(format!("{key}.s")).cmd("GET").arg(format!("{key}.t")).cmd("ZCARD").arg(format!("{key}.j"));
        pipeline.cmd("GET").arg(&key);
        let (size, extra, done, saved): (Option<u32>, Option<u32>, u32, Option<Vec<u8>>) = self.link.pipeline(&pipeline).await?;
        let leaves = saved.and_then(|saved| tree(&saved).ok()).map_or(0, |tree| leaves(&tree));
        Ok(size.map(|size| ChordProgress { size: size.max(leaves).saturating_add(extra.unwrap_or(0)), done }))
    }

    async fn chord_steps(&self, steps: Vec<ChordStep>) -> Result<Vec<ReadyChord>, BackendError> {
        Ok(self.carry_out(steps).await?)
    }

    fn endings(&self) -> Option<&dyn super::Endings> {
        Some(self)
    }

    async fn claim_chord(&self, group: &GroupId) -> Result<bool, BackendError> {
        Ok(self.claim(group).await?)
    }

    async fn close_chord(&self, group: &GroupId, failed: bool) -> Result<bool, BackendError> {
        Ok(self.close(group, failed).await?)
    }

    async fn unconcluded(&self, limit: usize) -> Result<Vec<ReadyChord>, BackendError> {
        Ok(self.find_unconcluded(limit).await?)
    }
}

/// The tree of a saved group.
fn tree(bytes: &[u8]) -> Result<ResultTuple, RedisError> {
    let strange = |what: &str| RedisError::Refused(format!("a stored group cannot be read: {what}"));
    let inflated = inflate(bytes, Limits::default()).map_err(|error| strange(&error.to_string()))?;
    let value = json::parse(inflated.as_deref().unwrap_or(bytes), Limits::default()).map_err(|error| strange(&error.to_string()))?;
    let result = value.as_map().and_then(|map| map.get("result")).ok_or_else(|| strange("it has no result"))?;
    ResultTuple::from_value(result).map_err(|error| strange(&error.to_string()))
}

fn leaves(tree: &ResultTuple) -> u32 {
    match tree.children.as_deref() {
        None | Some([]) => 1,
        Some(children) => children.iter().map(leaves).sum(),
    }
}
