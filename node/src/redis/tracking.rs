//! News of keys, without polling: the server's client-side caching (`CLIENT TRACKING`, Redis 6 and later).
//!
//! A key that has been read over the tracked connection is remembered by the server; when anybody changes it, the server says
//! so, once. Reading "is there a message?" and being told of the next one are therefore one step, any number of queues needs
//! one connection, and no message is taken by the waiting itself: a node that dies while it waits takes nothing with it.
//!
//! **What bounds it.** One number per kind of key: news that nobody has looked at yet are one piece of news. **When it dies.** A
//! lost connection is news of everything: whoever waits reads again.

use std::sync::Arc;

use redis::{Cmd, PushInfo, PushKind, Value};
use tokio::sync::watch;

use super::{
    error::RedisError,
    keys::Keys,
    link::{Habits, Hearer, Link},
    url::Target,
};

/// The tracked connection to a broker's database.
#[derive(Debug, Clone)]
pub(crate) struct Tracking {
    link: Link,
    news: Arc<News>,
}

/// How often something has been heard of each kind of key.
#[derive(Debug)]
struct News {
    queues: watch::Sender<u64>,
    schedule: watch::Sender<u64>,
    revoked: watch::Sender<u64>,
    tunings: watch::Sender<u64>,
    limits: watch::Sender<u64>,
}

impl News {
    fn all(&self) {
        [&self.queues, &self.schedule, &self.revoked, &self.tunings, &self.limits].into_iter().for_each(ring);
    }
}

fn ring(bell: &watch::Sender<u64>) {
    bell.send_modify(|count| *count += 1);
}

impl Tracking {
    /// Opens the connection.
    pub(crate) fn open(target: Target, keys: &Keys) -> Self {
        let words = ["CLIENT", "TRACKING", "ON"].map(str::to_owned).to_vec();
        let news = Arc::new(News {
            queues: watch::Sender::new(0),
            schedule: watch::Sender::new(0),
            revoked: watch::Sender::new(0),
            tunings: watch::Sender::new(0),
            limits: watch::Sender::new(0),
        });
        let heard = Arc::clone(&news);
        let names = Names { schedules: keys.schedules(), revoked: keys.revoked(), tunings: keys.tunings(), limits: keys.limits() };
        let pushes: Hearer = Arc::new(move |push| hear(&push, &heard, &names));
        let link = Link::with_habits(target, Habits { greeting: vec![words], pushes: Some(pushes) });
        Self { link, news }
    }

    /// News of queues, and of which are paused.
    pub(crate) fn queues(&self) -> watch::Receiver<u64> {
        self.news.queues.subscribe()
    }

    /// News of when the schedule is due next.
    pub(crate) fn schedule(&self) -> watch::Receiver<u64> {
        self.news.schedule.subscribe()
    }

    /// News of orders not to run something.
    pub(crate) fn revoked(&self) -> watch::Receiver<u64> {
        self.news.revoked.subscribe()
    }

    /// News of changes to tasks at run time.
    pub(crate) fn tunings(&self) -> watch::Receiver<u64> {
        self.news.tunings.subscribe()
    }

    /// News of limits that were set at run time.
    pub(crate) fn limits(&self) -> watch::Receiver<u64> {
        self.news.limits.subscribe()
    }

    /// Reads keys and has the server tell of their next change.
    pub(crate) async fn read<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.link.query(command).await
    }

    /// As [`Tracking::read`], for several commands.
    pub(crate) async fn read_all<T: redis::FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, RedisError> {
        self.link.pipeline(pipeline).await
    }
}

/// The keys that are not queues.
struct Names {
    schedules: String,
    revoked: String,
    tunings: String,
    limits: String,
}

/// Sorts what the server says by what it is about.
fn hear(push: &PushInfo, news: &News, names: &Names) {
    match push.kind {
        PushKind::Invalidate => match push.data.first() {
            Some(Value::Array(keys)) => {
                for key in keys {
                    match key {
                        Value::BulkString(key) if *key == names.schedules.as_bytes() => ring(&news.schedule),
                        Value::BulkString(key) if *key == names.revoked.as_bytes() => ring(&news.revoked),
                        Value::BulkString(key) if *key == names.tunings.as_bytes() => ring(&news.tunings),
                        Value::BulkString(key) if *key == names.limits.as_bytes() => ring(&news.limits),
                        _ => ring(&news.queues),
                    }
                }
            }
            // The server forgets everything at once (FLUSHALL, or its table was full).
            _ => news.all(),
        },
        PushKind::Disconnection => news.all(),
        _ => {}
    }
}
