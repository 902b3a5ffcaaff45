//! Hearing of results: SUBSCRIBE first, then read, so that nothing falls between the two.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use umbel_proto::{ResultRecord, TaskId};

use super::{
    super::{BackendError, Watch},
    decode,
};
use crate::redis::{
    Link, Target, answer,
    error::RedisError,
    keys::Results,
    link::{Habits, Hearer},
};

/// How many records a watch keeps that nobody has asked for yet; beyond it, it reads again what is stored.
pub(super) const HEARD: usize = 1024;

/// How many ids one read asks for.
const SLICE: usize = 500;

/// Who listens to what.
pub(super) struct Hub {
    link: Link,
    keys: Results,
    listeners: Arc<Listeners>,
    /// Held while channels are subscribed or given up, so that one does not undo the other.
    changing: AsyncMutex<()>,
}

#[derive(Default)]
struct Listeners {
    channels: Mutex<HashMap<String, Vec<Arc<Ear>>>>,
    numbers: AtomicU64,
}

/// What a watch has heard.
struct Ear {
    number: u64,
    heard: Mutex<VecDeque<Vec<u8>>>,
    /// Whether something may have been missed.
    missed: AtomicBool,
    wake: Notify,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn miss(&self) {
        self.missed.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Listeners {
    fn channels(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Ear>>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, push: PushInfo) {
        let channels = self.channels();
        match push.kind {
            PushKind::Message => {
                let [Value::BulkString(channel), Value::BulkString(record)] = &push.data[..] else { return };
                let Ok(channel) = std::str::from_utf8(channel) else { return };
                for ear in channels.get(channel).into_iter().flatten() {
                    let mut heard = ear.heard();
                    if heard.len() < HEARD {
                        heard.push_back(record.clone());
                        drop(heard);
                        ear.wake.notify_one();
                    } else {
                        drop(heard);
                        ear.miss();
                    }
                }
            }
            PushKind::Disconnection => channels.values().flatten().for_each(|ear| ear.miss()),
            _ => {}
        }
    }
}

impl Hub {
    pub(super) fn open(target: Target, keys: Results) -> Arc<Self> {
        let listeners = Arc::new(Listeners::default());
        let hearing = Arc::clone(&listeners);
        let pushes: Hearer = Arc::new(move |push| hearing.hear(push));
        let link = Link::with_habits(target, Habits { greeting: Vec::new(), pushes: Some(pushes) });
        Arc::new(Self { link, keys, listeners, changing: AsyncMutex::new(()) })
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("link", &self.link).finish_non_exhaustive()
    }
}

/// A stream of the records of some tasks.
pub(super) struct RedisWatch {
    hub: Arc<Hub>,
    channels: Vec<String>,
    ear: Arc<Ear>,
    /// Read, not heard; older than whatever is heard.
    read: VecDeque<ResultRecord>,
}

impl RedisWatch {
    pub(super) async fn begin(hub: &Arc<Hub>, ids: &[TaskId]) -> Result<Self, RedisError> {
        let mut channels: Vec<String> = ids.iter().map(|id| hub.keys.celery.task(id)).collect();
        channels.sort();
        channels.dedup();
        let number = hub.listeners.numbers.fetch_add(1, Ordering::Relaxed);
        let ear = Arc::new(Ear { number, heard: Mutex::default(), missed: AtomicBool::new(false), wake: Notify::new() });
        {
            let mut listeners = hub.listeners.channels();
            for channel in &channels {
                listeners.entry(channel.clone()).or_default().push(Arc::clone(&ear));
            }
        }
        let mut watch = Self { hub: Arc::clone(hub), channels, ear, read: VecDeque::new() };
        watch.look().await?;
        Ok(watch)
    }

    /// Subscribes and reads, over one connection: what was published before the read has been heard before its answer. What was
    /// published after it may have been heard as well by the time this task runs again, and is news.
    async fn look(&mut self) -> Result<(), RedisError> {
        self.ear.missed.store(false, Ordering::Release);
        if self.channels.is_empty() {
            return Ok(());
        }
        let looked = self.read_all().await;
        if looked.is_err() {
            self.ear.missed.store(true, Ordering::Release);
        }
        self.read = looked?;
        Ok(())
    }

    async fn read_all(&self) -> Result<VecDeque<ResultRecord>, RedisError> {
        let mut read = VecDeque::new();
        let changing = self.hub.changing.lock().await;
        for slice in self.channels.chunks(SLICE) {
            self.hub.link.subscribe(slice).await?;
        }
        drop(changing);
        for slice in self.channels.chunks(SLICE) {
            let mut command = redis::cmd("MGET");
            command.arg(slice);
            let values = answer::list(self.hub.link.run(&command).await?, "a look at results")?;
            let values: Vec<Vec<u8>> = values.into_iter().filter_map(answer::bytes).collect();
            forget_older(&mut self.ear.heard(), &values);
            for value in values {
                read.push_back(decode(&value)?);
            }
        }
        Ok(read)
    }
}

/// Takes out of `heard` what is no newer than what was `read`. A record is stored and published in one step, so the last one
/// that was published before the read is the very one that was read; all that is heard of its task after it is newer.
fn forget_older(heard: &mut VecDeque<Vec<u8>>, read: &[Vec<u8>]) {
    let mut cuts: HashMap<TaskId, usize> = HashMap::new();
    for (at, record) in heard.iter().enumerate() {
        if read.contains(record)
            && let Ok(record) = decode(record)
        {
            cuts.insert(record.task_id, at);
        }
    }
    if cuts.is_empty() {
        return;
    }
    let mut at = 0;
    heard.retain(|record| {
        let older = decode(record).is_ok_and(|record| cuts.get(&record.task_id).is_some_and(|cut| at <= *cut));
        at += 1;
        !older
    });
}

#[async_trait]
impl Watch for RedisWatch {
    async fn next(&mut self) -> Result<ResultRecord, BackendError> {
        loop {
            if self.ear.missed.load(Ordering::Acquire) {
                self.look().await?;
            }
            if let Some(record) = self.read.pop_front() {
                return Ok(record);
            }
            let heard = self.ear.heard().pop_front();
            match heard {
                Some(record) => return Ok(decode(&record)?),
                None => self.ear.wake.notified().await,
            }
        }
    }
}

impl Drop for RedisWatch {
    fn drop(&mut self) {
        let mut silent = Vec::new();
        {
            let mut listeners = self.hub.listeners.channels();
            for channel in self.channels.drain(..) {
                let Some(ears) = listeners.get_mut(&channel) else { continue };
                ears.retain(|ear| ear.number != self.ear.number);
                if ears.is_empty() {
                    listeners.remove(&channel);
                    silent.push(channel);
                }
            }
        }
        if silent.is_empty() {
            return;
        }
        // A runtime that is shutting down closes the connection anyway.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let hub = Arc::clone(&self.hub);
            runtime.spawn(async move {
                let _changing = hub.changing.lock().await;
                // Somebody may have begun to listen again meanwhile.
                silent.retain(|channel| !hub.listeners.channels().contains_key(channel));
                if !silent.is_empty() {
                    let _ = hub.link.unsubscribe(&silent).await;
                }
            });
        }
    }
}

impl fmt::Debug for RedisWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWatch").field("tasks", &self.channels.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use umbel_proto::{State, codec::Serializer};

    use super::*;

    fn record(id: &str, state: State) -> Vec<u8> {
        let record = ResultRecord {
            task_id: TaskId::from(id),
            status: state,
            result: umbel_proto::Value::Null,
            traceback: None,
            children: None,
            date_done: None,
            group_id: None,
            parent_id: None,
            extra: umbel_proto::Map::new(),
        };
        record.to_stored(Serializer::Json, None).unwrap()
    }

    /// Goal: what is published between the server's read and the moment this process looks at the answer is kept: it is the end of
    /// the task, and nothing comes after it. What was published before the read is not told after what was read.
    #[test]
    fn what_was_heard_after_the_read_is_news() {
        let [started, success, other] = [record("a", State::Started), record("a", State::Success), record("b", State::Success)];
        let after = |heard: &[&Vec<u8>], read: &[&Vec<u8>]| {
            let mut heard: VecDeque<Vec<u8>> = heard.iter().map(|record| (*record).clone()).collect();
            forget_older(&mut heard, &read.iter().map(|record| (*record).clone()).collect::<Vec<_>>());
            Vec::from(heard)
        };
        assert_eq!(after(&[&success], &[]), std::slice::from_ref(&success), "nothing was stored when it was read");
        assert_eq!(after(&[&started, &success], &[&started]), std::slice::from_ref(&success));
        assert_eq!(after(&[&success, &other], &[&started]), [success.clone(), other.clone()], "published before anybody subscribed");
        assert_eq!(after(&[&started, &other, &success], &[&success]), [other], "others' records are still wanted");
    }
}
