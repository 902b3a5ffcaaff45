//! Limits that a Redis server keeps for all nodes: `turn.lua` gives turns by the server's clock, in one step.
//!
//! A place belongs to the delivery that holds it. Where the messages are on the same server, a delivery that is not held any
//! more has lost its place in the same instant, whatever became of its node; elsewhere a place that is not given back comes
//! free after [`HOLDER_TTL`].

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;
use umbel_proto::{Millis, TaskName};
use umbel_scheduler::limits::{
    AGAIN_MS, AHEAD_MS, AHEAD_STARTS, KEPT, LEAD, LOOK_MS, MARGIN_MS, SLACK_MS, SLOT_MS, SOON_MS, SPACING, TURN_STRETCH, Turn, WINDOW_FROM,
};

use super::{Ask, Done, LimitRule, Limits, LimitsError};
use crate::redis::{Link, RedisError, answer, keys::limits_under, script::Script, tracking::Tracking};

static TURN: Script = Script::new("turn", include_str!("../redis/scripts/turn.lua"));
static TURNED: Script = Script::new("turned", include_str!("../redis/scripts/turned.lua"));

/// How long a place is kept for a delivery that nobody can look up.
const HOLDER_TTL: Duration = Duration::from_secs(3600);

/// Limits on a server.
pub struct RedisLimits {
    link: Link,
    prefix: String,
    /// The hash that holds the deliveries, if it is in this database.
    unacked: Option<String>,
    /// Tells when rules are changed, if somebody does.
    tracking: Option<Tracking>,
}

impl RedisLimits {
    /// Limits under `prefix` in the database of `link`; `unacked` is the hash whose fields the deliveries are.
    pub(crate) fn new(link: Link, prefix: &str, unacked: Option<String>) -> Self {
        Self { link, prefix: prefix.to_owned(), unacked, tracking: None }
    }

    /// The same, told of changes by the tracked connection to that database.
    pub(crate) fn told_by(self, tracking: Tracking) -> Self {
        Self { tracking: Some(tracking), ..self }
    }

    fn key(&self, limit: &str) -> String {
        format!("{}umbel:limit:{limit}", self.prefix)
    }

    fn rules_key(&self) -> String {
        limits_under(&self.prefix)
    }
}

#[async_trait]
impl Limits for RedisLimits {
    async fn turns(&self, asks: &[Ask]) -> Result<(Millis, Vec<Turn>), LimitsError> {
        let mut call = TURN.call(1 + asks.len());
        call.arg(self.unacked.as_deref().unwrap_or_default());
        for ask in asks {
            call.arg(self.key(&ask.limit));
        }
        call.arg(MARGIN_MS).arg(SLACK_MS).arg(WINDOW_FROM).arg(TURN_STRETCH).arg(AHEAD_MS).arg(AHEAD_STARTS).arg(LEAD).arg(KEPT);
        call.arg(SOON_MS).arg(AGAIN_MS).arg(LOOK_MS.0).arg(LOOK_MS.1).arg(SLOT_MS).arg(SPACING);
        call.arg(u64::try_from(HOLDER_TTL.as_millis()).unwrap_or(u64::MAX));
        for Ask { rule, holder, task, waited, ready, .. } in asks {
            call.arg(rule.rate.map_or(0.0, |rate| rate.per_second())).arg(rule.concurrency.map_or(0, |places| places.max(1)));
            call.arg(rule.unique.unwrap_or(0)).arg(holder).arg(task);
            call.arg(u8::from(*waited)).arg(u8::from(*ready));
        }
        let strange = || RedisError::strange("a turn");
        let mut answers = answer::list(self.link.script(&TURN, &call).await?, "a turn")?.into_iter();
        let number = |value| answer::text(value).and_then(|text| text.parse::<f64>().ok()).ok_or_else(strange);
        let now = number(answers.next().ok_or_else(strange)?)?;
        let mut turns = Vec::with_capacity(asks.len());
        while let (Some(code), Some(what)) = (answers.next(), answers.next()) {
            turns.push(match answer::int(Some(&code)) {
                Some(0) => Turn::Now,
                Some(1) => Turn::Soon(number(what)?),
                Some(2) => Turn::Later(number(what)?),
                Some(3) => Turn::Duplicate(answer::text(what).ok_or_else(strange)?),
                Some(4) => Turn::At(number(what)? as Millis),
                _ => return Err(strange().into()),
            });
        }
        if turns.len() == asks.len() { Ok((now as Millis, turns)) } else { Err(strange().into()) }
    }

    async fn done(&self, done: &[Done]) -> Result<(), LimitsError> {
        let mut call = TURNED.call(done.len());
        for done in done {
            call.arg(self.key(&done.limit));
        }
        for Done { holder, ended, unused, .. } in done {
            call.arg(holder).arg(ended.as_deref().unwrap_or_default());
            match unused {
                Some(unused) => call.arg(unused.at).arg(1_000.0 / unused.rate.per_second()),
                None => call.arg("").arg(""),
            };
        }
        Ok(self.link.script(&TURNED, &call).await.map(drop)?)
    }

    async fn rules(&self) -> Result<BTreeMap<TaskName, LimitRule>, LimitsError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.rules_key());
        let set: BTreeMap<String, String> = match &self.tracking {
            Some(tracking) => tracking.read(&command).await?,
            None => self.link.query(&command).await?,
        };
        // What another version has written in another way is left out, and holds on the nodes that understand it.
        let read = |(task, rule): (String, String)| Some((TaskName::from(task), serde_json::from_str(&rule).ok()?));
        Ok(set.into_iter().filter_map(read).collect())
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        self.tracking.as_ref().map(Tracking::limits)
    }

    async fn set_rule(&self, task: &TaskName, rule: Option<&LimitRule>) -> Result<(), LimitsError> {
        let mut command = redis::cmd(if rule.is_some() { "HSET" } else { "HDEL" });
        command.arg(self.rules_key()).arg(task.as_str());
        if let Some(rule) = rule {
            let written = serde_json::to_string(rule).map_err(|error| LimitsError { reason: error.to_string() })?;
            command.arg(written);
        }
        Ok(self.link.run(&command).await.map(drop)?)
    }
}

impl From<RedisError> for LimitsError {
    fn from(error: RedisError) -> Self {
        Self { reason: error.to_string() }
    }
}

impl fmt::Debug for RedisLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimits").field("link", &self.link).finish_non_exhaustive()
    }
}
