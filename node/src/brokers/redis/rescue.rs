//! Bringing messages back: what dead nodes held, what nodes give back, what Celery's dead workers left, what is due.

use std::time::{Duration, Instant};

use redis::Value;
use umbel_proto::QueueName;

use super::Shared;
use crate::redis::{answer, entry, error::RedisError, instance, script::Script};

static COLLECT: Script =
    Script::new("collect", concat!(include_str!("../../redis/scripts/pulse.lua"), include_str!("../../redis/scripts/collect.lua")));
/// How many leases have ended.
static ENDED: Script = Script::new(
    "ended",
    concat!(include_str!("../../redis/scripts/pulse.lua"), "return redis.call('ZCOUNT', KEYS[1], '-inf', (pulse(KEYS[1], KEYS[2])))"),
);
static BACK: Script =
    Script::new("back", concat!(include_str!("../../redis/scripts/takes.lua"), include_str!("../../redis/scripts/back.lua")));
static PROMOTE: Script =
    Script::new("promote", concat!(include_str!("../../redis/scripts/takes.lua"), include_str!("../../redis/scripts/promote.lua")));
static UNLOCK: Script =
    Script::new("unlock", "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0");

/// How many messages go back in one step.
const SLICE: usize = 500;

/// How many scheduled messages become ready in one step.
const DUE: usize = 1000;

/// How much later what is due is tried again whose list is a key of another type, in milliseconds.
const REFUSED_MS: u64 = 60_000;

/// How long one rescuer keeps others off. They would do no harm, but the order would suffer.
const RESCUE_MS: u64 = 3000;

/// How long one sweeper keeps others off: kombu's `unacked_mutex_expire`.
const MUTEX_MS: u64 = 300_000;

/// A held message on its way back.
struct Return {
    field: String,
    entry: Vec<u8>,
    begun: bool,
}

impl Shared {
    /// Brings back what sessions held whose leases have ended, `within` a time; `false` when somebody else is at it, or there is more.
    pub(super) async fn rescue(&self, within: Option<Duration>) -> Result<bool, RedisError> {
        let mut call = ENDED.call(2);
        call.arg(self.keys.leases()).arg(self.keys.pulse());
        if self.link.script(&ENDED, &call).await? == Value::Int(0) {
            return Ok(true);
        }
        let token = instance();
        if !self.lock(&self.keys.rescue(), &token, RESCUE_MS).await? {
            return Ok(false);
        }
        let done = self.collect("", within.map(|within| Instant::now() + within)).await;
        self.unlock(&self.keys.rescue(), &token).await?;
        let (count, all) = done?;
        if count > 0 {
            tracing::warn!(count, "the lease of a node has ended, its messages are back in their queues");
        }
        Ok(all)
    }

    /// Ends a session and gives everything back that it holds.
    pub(super) async fn give_up(&self, session: &str) -> Result<(), RedisError> {
        let known = self.held_by(session);
        self.collect(session, None).await?;
        self.let_go(known.iter().map(String::as_str));
        Ok(())
    }

    /// How many it brought back, and whether that was all.
    async fn collect(&self, session: &str, until: Option<Instant>) -> Result<(usize, bool), RedisError> {
        let (mut count, mut refused) = (0, 0);
        loop {
            let mut call = COLLECT.call(6);
            call.arg(self.keys.leases()).arg(self.keys.kombu.unacked()).arg(self.keys.begun());
            call.arg(self.keys.takers()).arg(self.keys.sessions()).arg(self.keys.pulse()).arg(SLICE).arg(session).arg(refused);
            let mut answer = answer::list(self.link.script(&COLLECT, &call).await?, "a rescue")?.into_iter();
            // The first part says which sessions are empty now.
            answer.next();
            let mut returns = Vec::new();
            while let (Some(field), Some(entry), Some(begun)) = (answer.next(), answer.next(), answer.next()) {
                let (Some(field), Some(entry)) = (answer::text(field), answer::bytes(entry)) else {
                    return Err(RedisError::strange("a rescue"));
                };
                returns.push(Return { field, entry, begun: begun == Value::Int(1) });
            }
            if returns.is_empty() {
                if refused > 0 {
                    tracing::warn!(
                        refused,
                        "messages cannot go back to queues whose lists are keys of another type; the next look tries again"
                    );
                }
                return Ok((count, true));
            }
            let (held, brought) = (returns.len(), self.bring_back(returns).await?);
            count += brought;
            refused += held.saturating_sub(brought);
            // What cannot go back is passed over to the end, or what is behind it would never be reached.
            if brought > 0 && until.is_some_and(|until| until <= Instant::now()) {
                return Ok((count, false));
            }
        }
    }

    /// Gives deliveries of this process back.
    pub(super) async fn give_back(&self, tags: &[String]) -> Result<(), RedisError> {
        let mut tags = tags.to_vec();
        // The last one taken is pushed first, so that the first one leaves first.
        tags.sort_by_key(|tag| std::cmp::Reverse(tag.rsplit(':').next().and_then(|number| number.parse::<u64>().ok())));
        for slice in tags.chunks(SLICE) {
            let entries = self.entries(slice.iter().map(String::as_str)).await?;
            let begun = self.begun(slice).await?;
            let returns = slice
                .iter()
                .zip(entries)
                .zip(begun)
                .filter_map(|((field, entry), begun)| entry.map(|entry| Return { field: field.clone(), entry: entry.to_vec(), begun }));
            self.bring_back(returns.collect()).await?;
            self.let_go(slice.iter().map(String::as_str));
        }
        Ok(())
    }

    /// Which of these have begun.
    pub(super) async fn begun(&self, fields: &[String]) -> Result<Vec<bool>, RedisError> {
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("SMISMEMBER");
        command.arg(self.keys.begun()).arg(fields);
        self.link.query(&command).await
    }

    async fn bring_back(&self, returns: Vec<Return>) -> Result<usize, RedisError> {
        if returns.is_empty() {
            return Ok(0);
        }
        let mut call = BACK.call(3);
        call.arg(self.keys.kombu.unacked()).arg(self.keys.kombu.unacked_index()).arg(self.keys.begun());
        for Return { field, entry, begun } in returns {
            let back = entry::restore(&entry, |passage| {
                passage.attempts += 1;
                passage.lost |= begun;
            });
            let queue = self.home(&back).await?;
            call.arg(field).arg(self.list_of(&back, &queue)).arg(back.envelope);
        }
        let count = answer::int(Some(&self.link.script(&BACK, &call).await?));
        count.and_then(|count| usize::try_from(count).ok()).ok_or_else(|| RedisError::strange("a rescue"))
    }

    /// Moves what is due, `within` a time; says when the next is.
    pub(super) async fn promote(&self, within: Option<Duration>) -> Result<Option<Duration>, RedisError> {
        let until = within.map(|within| Instant::now() + within);
        loop {
            let mut call = PROMOTE.call(1);
            call.arg(self.keys.schedules()).arg(self.keys.prefix()).arg(DUE).arg(REFUSED_MS);
            let mut answer = answer::list(self.link.script(&PROMOTE, &call).await?, "a look at the schedule")?;
            let refused = answer.pop().and_then(answer::text).ok_or_else(|| RedisError::strange("a look at the schedule"))?;
            let [Value::Int(moved), Value::Int(now), Value::Int(next)] = answer[..] else {
                return Err(RedisError::strange("a look at the schedule"));
            };
            if !refused.is_empty() {
                let pause = Duration::from_millis(REFUSED_MS);
                tracing::error!(list = %refused, "messages are due and their list cannot be written to; trying again in {pause:?}");
            }
            if next < 0 {
                return Ok(None);
            }
            if next > now || moved == 0 || until.is_some_and(|until| until <= Instant::now()) {
                return Ok(Some(Duration::from_millis(u64::try_from(next - now).unwrap_or(0))));
            }
        }
    }

    /// Restores what Celery's workers took and have neither acknowledged nor restored within the visibility timeout, under
    /// kombu's own lock and by its own rule (`kombu/transport/redis.py`), `within` a time; `false` when there is more.
    pub(super) async fn sweep(&self, within: Duration) -> Result<bool, RedisError> {
        let token = instance();
        let mutex = self.keys.kombu.unacked_mutex();
        if !self.lock(&mutex, &token, MUTEX_MS).await? {
            return Ok(true);
        }
        let swept = self.restore_stale(Instant::now() + within).await;
        self.unlock(&mutex, &token).await?;
        let (count, all) = swept?;
        if count > 0 {
            tracing::warn!(count, "messages that nobody acknowledged within the visibility timeout are back in their queues");
        }
        Ok(all)
    }

    async fn restore_stale(&self, until: Instant) -> Result<(usize, bool), RedisError> {
        let (mut count, mut refused) = (0, 0);
        loop {
            let (seconds, _): (i64, i64) = self.link.query(&redis::cmd("TIME")).await?;
            let ceiling = seconds - i64::try_from(self.options.visibility_timeout.as_secs()).unwrap_or(i64::MAX);
            let mut command = redis::cmd("ZRANGE");
            command.arg(self.keys.kombu.unacked_index()).arg(ceiling).arg("-inf").arg("BYSCORE").arg("REV");
            command.arg("LIMIT").arg(refused).arg(SLICE);
            let tags: Vec<String> = self.link.query(&command).await?;
            let mut returns = Vec::new();
            let mut orphans = Vec::new();
            for (field, entry) in tags.iter().zip(self.entries(tags.iter().map(String::as_str)).await?) {
                match entry {
                    Some(entry) => returns.push(Return { field: field.clone(), entry: entry.to_vec(), begun: false }),
                    None => orphans.push(field.clone()),
                }
            }
            let found = tags.len();
            let (held, brought) = (returns.len(), self.bring_back(returns).await?);
            count += brought;
            // What cannot go back stays where it is, and is not looked at again in this sweep.
            refused += held.saturating_sub(brought);
            if !orphans.is_empty() {
                let mut command = redis::cmd("ZREM");
                command.arg(self.keys.kombu.unacked_index()).arg(orphans);
                self.link.run(&command).await?;
            }
            if found < SLICE || (brought > 0 && until <= Instant::now()) {
                return Ok((count, found < SLICE));
            }
        }
    }

    async fn lock(&self, key: &str, token: &str, ms: u64) -> Result<bool, RedisError> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(token).arg("NX").arg("PX").arg(ms);
        Ok(self.link.run(&command).await? == Value::Okay)
    }

    async fn unlock(&self, key: &str, token: &str) -> Result<(), RedisError> {
        let mut call = UNLOCK.call(1);
        call.arg(key).arg(token);
        self.link.script(&UNLOCK, &call).await.map(drop)
    }

    /// The queue that an entry belongs to, wherever it was written.
    pub(super) fn queue_of_entry(entry: &[u8]) -> QueueName {
        let quoted = entry.strip_suffix(b"]").unwrap_or(entry);
        let name = quoted.strip_suffix(b"\"").and_then(|rest| rest.iter().rposition(|byte| *byte == b'"').map(|at| &rest[at + 1..]));
        QueueName::from(String::from_utf8_lossy(name.unwrap_or_default()).as_ref())
    }
}
