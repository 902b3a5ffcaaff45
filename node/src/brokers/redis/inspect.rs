//! What operators see of queues, and what they do to them.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;
use umbel_proto::{Envelope, Limits, Millis, NodeId, QueueName};

use super::{
    super::{Peeked, QueueStatus},
    Shared,
};
use crate::{
    clock,
    redis::{answer, entry::Passage, error::RedisError, script::Script},
};

/// How many keys a look for queues that only Celery knows of goes through; beyond it they are not found.
const SCANNED_KEYS: usize = 200_000;

/// How many entries of `unacked` are looked into to tell whose queue they are of.
const ENTRIES: usize = 20_000;

/// Remembers since when a message has been seen at the head of its queue: Celery's messages do not say when they were sent.
static HEAD: Script = Script::new(
    "head",
    "local seen = redis.call('HGET', KEYS[1], ARGV[1])
     if seen then
       local cut = string.find(seen, ' ', 1, true)
       if string.sub(seen, cut + 1) == ARGV[2] then return tonumber(string.sub(seen, 1, cut - 1)) end
     end
     redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[2])
     return tonumber(ARGV[3])",
);

impl Shared {
    /// Every queue that has messages, is consumed or is paused.
    pub(super) async fn queues(&self) -> Result<Vec<QueueStatus>, RedisError> {
        self.rescue(None).await?;
        self.promote(None).await?;
        let paused: BTreeSet<String> = self.members(&self.keys.paused()).await?;
        let consumers = self.consumers().await?;
        let held = self.held_counts().await?;
        let mut names = self.members(&self.keys.queues()).await?;
        names.extend(self.declared_by_celery().await?);
        names.extend(paused.iter().cloned());
        names.extend(consumers.keys().cloned());
        names.extend(held.keys().map(|queue| queue.as_str().to_owned()));
        let mut statuses = Vec::with_capacity(names.len());
        for name in names {
            let queue = QueueName::from(name.as_str());
            let (ready, scheduled) = self.counts(&queue).await?;
            let status = QueueStatus {
                ready,
                scheduled,
                held: held.get(&queue).copied().unwrap_or(0),
                oldest: if ready > 0 { self.oldest(&queue).await? } else { None },
                consumers: consumers.get(&name).map_or(0, |nodes| u32::try_from(nodes.len()).unwrap_or(u32::MAX)),
                paused: paused.contains(&name),
                name: queue,
            };
            if status.ready + status.held + status.scheduled > 0 || status.consumers > 0 || status.paused {
                statuses.push(status);
            }
        }
        Ok(statuses)
    }

    /// Whether a message waits in one of the queues that is not paused. One command when nothing waits.
    pub(super) async fn waits(&self, queues: &[QueueName]) -> Result<bool, RedisError> {
        let mut command = redis::cmd("EXISTS");
        for queue in queues {
            command.arg(self.every_list(queue));
        }
        if queues.is_empty() || self.link.query::<u64>(&command).await? == 0 {
            return Ok(false);
        }
        let paused = self.members(&self.keys.paused()).await?;
        let mut command = redis::cmd("EXISTS");
        let open: Vec<&QueueName> = queues.iter().filter(|queue| !paused.contains(queue.as_str())).collect();
        for queue in &open {
            command.arg(self.every_list(queue));
        }
        Ok(!open.is_empty() && self.link.query::<u64>(&command).await? > 0)
    }

    async fn members(&self, key: &str) -> Result<BTreeSet<String>, RedisError> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(key);
        self.link.query(&command).await
    }

    /// Nodes by the queues they take from.
    async fn consumers(&self) -> Result<BTreeMap<String, BTreeSet<NodeId>>, RedisError> {
        let mut consumers: BTreeMap<String, BTreeSet<NodeId>> = BTreeMap::new();
        for node in self.nodes().await? {
            for queue in node.queues {
                consumers.entry(queue.as_str().to_owned()).or_default().insert(node.node.clone());
            }
        }
        Ok(consumers)
    }

    /// How many messages of each queue are held, by nodes and by Celery's workers.
    async fn held_counts(&self) -> Result<BTreeMap<QueueName, u64>, RedisError> {
        let mut command = redis::cmd("HKEYS");
        command.arg(self.keys.kombu.unacked());
        let fields: Vec<String> = self.link.query(&command).await?;
        let mut counts = BTreeMap::new();
        for entry in self.entries(fields.iter().take(ENTRIES).map(String::as_str)).await?.into_iter().flatten() {
            *counts.entry(Self::queue_of_entry(&entry)).or_default() += 1;
        }
        Ok(counts)
    }

    /// Queues that Celery's clients and workers have declared.
    async fn declared_by_celery(&self) -> Result<BTreeSet<String>, RedisError> {
        let pattern = self.keys.kombu.binding("*");
        let (mut cursor, mut looked_at) = (0u64, 0);
        let mut sets: BTreeSet<String> = BTreeSet::new();
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(5000).arg("TYPE").arg("set");
            let (next, found): (u64, Vec<String>) = self.link.query(&command).await?;
            sets.extend(found);
            looked_at += 5000;
            cursor = next;
            if cursor == 0 || looked_at >= SCANNED_KEYS {
                break;
            }
        }
        let mut queues = BTreeSet::new();
        for set in sets {
            queues.extend(
                self.members(&set).await?.iter().filter_map(|member| self.keys.kombu.bound(member)).map(|(_, _, queue)| queue.to_string()),
            );
        }
        // Mailboxes of remote control and events are no queues of tasks.
        queues.retain(|queue| !queue.ends_with(".pidbox") && !queue.starts_with("celeryev"));
        Ok(queues)
    }

    async fn counts(&self, queue: &QueueName) -> Result<(u64, u64), RedisError> {
        let mut pipeline = redis::pipe();
        for list in self.every_list(queue) {
            pipeline.cmd("LLEN").arg(list);
        }
        pipeline.cmd("ZCARD").arg(self.keys.due(queue));
        let mut counts: Vec<u64> = self.link.pipeline(&pipeline).await?;
        let scheduled = counts.pop().unwrap_or(0);
        Ok((counts.iter().sum(), scheduled))
    }

    fn every_list(&self, queue: &QueueName) -> Vec<String> {
        let mut lists = vec![self.keys.lost(queue)];
        lists.extend(self.keys.kombu.queue_lists(queue));
        lists
    }

    /// When the oldest waiting message came. Nodes write it on their messages; of others it is known since when they have been
    /// seen next in line.
    async fn oldest(&self, queue: &QueueName) -> Result<Option<Millis>, RedisError> {
        let mut pipeline = redis::pipe();
        let lists = self.every_list(queue);
        for list in &lists {
            pipeline.cmd("LINDEX").arg(list).arg(-1);
        }
        let heads: Vec<Option<Vec<u8>>> = self.link.pipeline(&pipeline).await?;
        let mut oldest: Option<Millis> = None;
        for (list, head) in lists.iter().zip(heads) {
            let Some(head) = head else { continue };
            let Ok(mut envelope) = Envelope::from_kombu(&head, Limits::default()) else { continue };
            let at = match Passage::take(&mut envelope.properties).at {
                Some(at) => at,
                None => {
                    let tag = envelope.properties.get("delivery_tag").and_then(umbel_proto::Value::as_str).unwrap_or_default();
                    let mut call = HEAD.call(1);
                    call.arg(self.keys.heads()).arg(list).arg(tag).arg(clock::now());
                    answer::int(Some(&self.link.script(&HEAD, &call).await?)).ok_or_else(|| RedisError::strange("a look at a queue"))?
                }
            };
            oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
        }
        Ok(oldest)
    }

    /// Removes what waits and what is scheduled.
    pub(super) async fn purge(&self, queue: &QueueName) -> Result<u64, RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        let lists = self.every_list(queue);
        for list in &lists {
            pipeline.cmd("LLEN").arg(list);
        }
        pipeline.cmd("ZCARD").arg(self.keys.due(queue));
        pipeline.cmd("UNLINK").arg(&lists).arg(self.keys.due(queue)).arg(self.keys.scheduled(queue)).ignore();
        pipeline.cmd("ZREM").arg(self.keys.schedules()).arg(queue.as_str()).ignore();
        let counts: Vec<u64> = self.link.pipeline(&pipeline).await?;
        Ok(counts.iter().sum())
    }

    /// The next messages, as they would leave, then the scheduled ones by their time.
    pub(super) async fn peek(&self, queue: &QueueName, limit: usize) -> Result<Vec<Peeked>, RedisError> {
        let mut peeked = Vec::new();
        for list in self.every_list(queue) {
            let left = limit - peeked.len();
            if left == 0 {
                return Ok(peeked);
            }
            let mut command = redis::cmd("LRANGE");
            command.arg(list).arg(-i64::try_from(left).unwrap_or(i64::MAX)).arg(-1);
            let envelopes: Vec<Vec<u8>> = self.link.query(&command).await?;
            peeked.extend(envelopes.iter().rev().map(|envelope| look(envelope, None)));
        }
        if peeked.len() < limit {
            let mut command = redis::cmd("ZRANGE");
            command.arg(self.keys.due(queue)).arg(0).arg(limit - peeked.len() - 1).arg("WITHSCORES");
            let due: Vec<(String, f64)> = self.link.query(&command).await?;
            if !due.is_empty() {
                let mut command = redis::cmd("HMGET");
                command.arg(self.keys.scheduled(queue));
                for (id, _) in &due {
                    command.arg(id);
                }
                let rows: Vec<Option<Vec<u8>>> = self.link.query(&command).await?;
                for ((_, due), row) in due.iter().zip(rows) {
                    let Some(row) = row else { continue };
                    let line = row.iter().position(|byte| *byte == b'\n').map_or(0, |line| line + 1);
                    peeked.push(look(&row[line..], Some(*due as Millis)));
                }
            }
        }
        Ok(peeked)
    }

    pub(super) async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), RedisError> {
        let mut command = redis::cmd(if paused { "SADD" } else { "SREM" });
        command.arg(self.keys.paused()).arg(queue.as_str());
        self.link.run(&command).await.map(|_: Value| ())
    }
}

fn look(envelope: &[u8], due: Option<Millis>) -> Peeked {
    match Envelope::from_kombu(envelope, Limits::default()) {
        Ok(mut envelope) => {
            let attempts = Passage::take(&mut envelope.properties).attempts;
            Peeked { envelope: Ok(envelope), due, attempts }
        }
        Err(error) => Peeked { envelope: Err(error), due, attempts: 0 },
    }
}
