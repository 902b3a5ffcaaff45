//! Where this process hears of results: one queue, one task that reads it, and everybody who watches.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use lapin::{
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{sync::watch, time::sleep};
use umbel_proto::{Limits, ResultRecord, TaskId, codec::Serializer};

use super::super::{BackendError, Watch};
use crate::{
    amqp::{error::AmqpError, link::answer, table::name},
    brokers::amqp::Shared,
    redis::link::jitter,
};

/// How many results are kept.
pub(super) const KEPT: usize = 20_000;

/// How long the queue is there when nobody reads it: `result_expires`.
const EXPIRES_MILLIS: i64 = 86_400_000;

/// What has been heard.
#[derive(Debug)]
pub(super) struct Hub {
    heard: Mutex<Heard>,
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Heard {
    count: u64,
    records: VecDeque<(u64, ResultRecord)>,
}

/// Somebody who watches results.
#[derive(Debug)]
pub(super) struct RpcWatch {
    hub: Arc<Hub>,
    ids: BTreeSet<TaskId>,
    news: watch::Receiver<u64>,
    seen: u64,
}

impl Hub {
    /// Begins to listen, in the background and for as long as anybody has the hub.
    pub(super) fn open(broker: &Arc<Shared>) -> Arc<Self> {
        let hub = Arc::new(Self { heard: Mutex::default(), news: watch::Sender::new(0) });
        let queue = uuid::Uuid::new_v4().to_string();
        let listening = broker.listen_for_results(&queue);
        crate::task::spawn(listen(Arc::downgrade(&hub), Arc::downgrade(broker), queue, listening));
        hub
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, record: ResultRecord) {
        let mut heard = self.lock();
        heard.count += 1;
        let count = heard.count;
        heard.records.push_back((count, record));
        while heard.records.len() > KEPT {
            heard.records.pop_front();
        }
        drop(heard);
        self.news.send_replace(count);
    }

    /// The last that was heard of a task.
    pub(super) fn last(&self, id: &TaskId) -> Option<ResultRecord> {
        self.lock().records.iter().rev().find(|(_, record)| record.task_id == *id).map(|(_, record)| record.clone())
    }

    pub(super) fn forget(&self, ids: &[TaskId]) {
        self.lock().records.retain(|(_, record)| !ids.contains(&record.task_id));
    }

    pub(super) fn watch(self: &Arc<Self>, ids: &[TaskId]) -> RpcWatch {
        RpcWatch { hub: Arc::clone(self), ids: ids.iter().cloned().collect(), news: self.news.subscribe(), seen: 0 }
    }
}

#[async_trait]
impl Watch for RpcWatch {
    async fn next(&mut self) -> Result<ResultRecord, BackendError> {
        loop {
            self.news.mark_unchanged();
            {
                let heard = self.hub.lock();
                let next = heard.records.iter().find(|(count, record)| *count > self.seen && self.ids.contains(&record.task_id));
                if let Some((count, record)) = next {
                    self.seen = *count;
                    return Ok(record.clone());
                }
                self.seen = heard.count;
            }
            if self.news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn listen(hub: Weak<Hub>, broker: Weak<Shared>, queue: String, listening: watch::Sender<bool>) {
    while let (Some(_), Some(shared)) = (hub.upgrade(), broker.upgrade()) {
        let link = shared.link.clone();
        drop(shared);
        if let Ok((_, channel)) = link.channel().await
            && let Err(error) = read(&hub, &channel, &queue, &listening).await
        {
            tracing::debug!(%error, "results are not heard for a moment");
        }
        listening.send_replace(false);
        sleep(Duration::from_millis(100).mul_f64(0.5 + jitter())).await;
    }
}

async fn read(hub: &Weak<Hub>, channel: &lapin::Channel, queue: &str, listening: &watch::Sender<bool>) -> Result<(), AmqpError> {
    // As Celery 5.7 declares it.
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(EXPIRES_MILLIS));
    answer("declaring a reply queue", channel.queue_declare(name(queue)?, options, arguments)).await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consume = channel.basic_consume(name(queue)?, "".into(), options, FieldTable::default());
    let mut consumer = answer("listening for results", consume).await?;
    listening.send_replace(true);
    loop {
        let next = tokio::select! {
            next = consumer.next() => next,
            () = sleep(Duration::from_secs(1)) => if hub.strong_count() == 0 { return Ok(()) } else { continue },
        };
        let Some(hub) = hub.upgrade() else { return Ok(()) };
        match next {
            Some(Ok(delivered)) => match ResultRecord::from_stored(&delivered.data, Serializer::Json, Limits::default()) {
                Ok(record) => hub.hear(record),
                Err(error) => tracing::warn!(%error, "a result cannot be read"),
            },
            Some(Err(error)) => return Err(AmqpError::Unavailable(error.to_string())),
            None => return Err(AmqpError::Unavailable("the consumer has ended".to_owned())),
        }
    }
}
