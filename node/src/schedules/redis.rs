//! Schedules in Redis: hashes of entries and marks beside the queues, a key that expires for the lease, and a script for each step.
//!
//! The lease ends by the server's clock, and so does every tick's time: nodes whose own clocks are wrong agree all the same. The
//! script of a tick looks whether its leader still leads and whether the mark stands where it should, moves it, and pushes the
//! message, so that there is no moment at which one has happened and the other has not.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use redis::Value;
use umbel_scheduler::{
    beat::{Entry, Mark},
    lease::{Standing, Token},
};

use super::{Answer, Book, Candidate, ENTRIES_MAX, Kept, Poll, Schedules, Step, node_of, read_mark, write_mark};
use crate::{
    brokers::{
        BrokerError,
        redis::{Posting, Shared},
    },
    redis::{
        answer,
        error::{KIND, RedisError},
        script::Script,
    },
};

static CAMPAIGN: Script = Script::new("campaign", include_str!("../redis/scripts/campaign.lua"));
static TICK: Script = Script::new("tick", include_str!("../redis/scripts/tick.lua"));
static ENTRIES: Script = Script::new("entries", include_str!("../redis/scripts/entries.lua"));
static RESIGN: Script =
    Script::new("resign", "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0");

/// How many entries go into one call.
const SLICE: usize = 500;

/// Schedules in the broker's database.
pub(crate) struct RedisSchedules {
    shared: Arc<Shared>,
}

impl RedisSchedules {
    /// Those beside the queues of a broker.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn change(&self, order: &str, words: Vec<&str>) -> Result<i64, RedisError> {
        let keys = &self.shared.keys;
        let mut call = ENTRIES.call(4);
        call.arg(keys.beat("entries")).arg(keys.beat("marks")).arg(keys.beat("paused")).arg(keys.beat("revision"));
        call.arg(order).arg(ENTRIES_MAX).arg(words);
        answer::int(Some(&self.shared.link.script(&ENTRIES, &call).await?)).ok_or_else(|| RedisError::strange("a change of entries"))
    }
}

#[async_trait]
impl Schedules for RedisSchedules {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn campaign(&self, candidate: &Candidate) -> Result<Poll, BrokerError> {
        let keys = &self.shared.keys;
        let mut call = CAMPAIGN.call(3);
        call.arg(keys.beat("leader")).arg(keys.beat("token")).arg(keys.beat("revision"));
        call.arg(candidate.name()).arg(candidate.lease_ms());
        let answers = answer::list(self.shared.link.script(&CAMPAIGN, &call).await?, "a campaign")?;
        let strange = || RedisError::strange("a campaign");
        let number = |at: usize| answer::int(answers.get(at)).ok_or_else(strange);
        let leader = answers.get(3).cloned().and_then(answer::text).ok_or_else(strange)?;
        let standing = match number(0)? {
            1 => Standing::Leads(Token(number(1)?.unsigned_abs())),
            _ => Standing::Follows { ends_in_ms: number(2)? },
        };
        Ok(Poll { standing, leader: node_of(&leader), now: number(4)?, revision: number(5)?.unsigned_abs() })
    }

    async fn resign(&self, candidate: &Candidate) -> Result<(), BrokerError> {
        let mut call = RESIGN.call(1);
        call.arg(self.shared.keys.beat("leader")).arg(candidate.name());
        self.shared.link.script(&RESIGN, &call).await?;
        Ok(())
    }

    async fn book(&self) -> Result<Book, BrokerError> {
        let keys = &self.shared.keys;
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HGETALL").arg(keys.beat("entries"));
        pipeline.cmd("HGETALL").arg(keys.beat("marks"));
        pipeline.cmd("SMEMBERS").arg(keys.beat("paused"));
        pipeline.cmd("GET").arg(keys.beat("leader"));
        pipeline.cmd("GET").arg(keys.beat("revision"));
        pipeline.cmd("TIME");
        type Answers = (HashMap<String, Vec<u8>>, HashMap<String, String>, Vec<String>, Option<String>, Option<u64>, (i64, i64));
        let (entries, marks, paused, leader, revision, (secs, micros)): Answers = self.shared.link.pipeline(&pipeline).await?;
        let now = secs * 1000 + micros / 1000;
        let mut book = Book { leader: leader.as_deref().map(node_of), now, revision: revision.unwrap_or(0), ..Book::default() };
        for (name, record) in entries {
            match serde_json::from_slice::<Entry>(&record) {
                Ok(entry) => {
                    let mark = marks.get(&name).and_then(|mark| read_mark(mark)).unwrap_or_else(|| Mark::new(now));
                    let mark = Mark { paused: paused.contains(&name), ..mark };
                    book.entries.push(Kept { entry, mark });
                }
                Err(error) => book.unreadable.push((name, error.to_string())),
            }
        }
        book.entries.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        book.unreadable.sort();
        Ok(book)
    }

    async fn tick(&self, candidate: &Candidate, token: Token, ticks: Vec<Step>) -> Result<Vec<Answer>, BrokerError> {
        let mut postings: Vec<Option<Posting>> = Vec::with_capacity(ticks.len());
        for tick in &ticks {
            postings.push(match &tick.message {
                Some(publish) => Some(self.shared.posting(publish).await?),
                None => None,
            });
        }
        self.shared.declare(postings.iter().flatten().map(Posting::queue)).await?;
        let keys = &self.shared.keys;
        let mut call = TICK.call(6);
        call.arg(keys.beat("leader")).arg(keys.beat("token")).arg(keys.beat("entries")).arg(keys.beat("marks"));
        call.arg(keys.beat("paused")).arg(keys.schedules());
        call.arg(keys.prefix()).arg(candidate.name()).arg(token.0).arg(ticks.len());
        for (tick, posting) in ticks.iter().zip(&postings) {
            call.arg(&tick.name).arg(tick.from).arg(write_mark(&tick.mark));
            match posting {
                Some(posting) => posting.words(&mut call),
                None => {
                    call.arg("-");
                }
            }
        }
        let answers = answer::list(self.shared.link.script(&TICK, &call).await?, "a tick")?;
        if answers.len() != ticks.len() {
            return Err(RedisError::strange("a tick").into());
        }
        answers.into_iter().map(|answer| read_answer(answer).map_err(BrokerError::from)).collect()
    }

    async fn put(&self, entries: Vec<Entry>) -> Result<(), BrokerError> {
        for slice in entries.chunks(SLICE) {
            let refused = |error: serde_json::Error| RedisError::Refused(format!("an entry cannot be written: {error}"));
            let records: Vec<String> = slice.iter().map(serde_json::to_string).collect::<Result<_, _>>().map_err(refused)?;
            let words = slice.iter().zip(&records).flat_map(|(entry, record)| [entry.name.as_str(), record]).collect();
            if self.change("put", words).await? < 0 {
                return Err(RedisError::Refused(format!("there are more than {ENTRIES_MAX} entries")).into());
            }
        }
        Ok(())
    }

    async fn remove(&self, names: &[String]) -> Result<usize, BrokerError> {
        let mut removed = 0;
        for slice in names.chunks(SLICE) {
            removed += self.change("remove", slice.iter().map(String::as_str).collect()).await?;
        }
        Ok(usize::try_from(removed).unwrap_or(0))
    }

    async fn pause(&self, name: &str, paused: bool) -> Result<bool, BrokerError> {
        Ok(self.change(if paused { "pause" } else { "resume" }, vec![name]).await? > 0)
    }
}

fn read_answer(answer: Value) -> Result<Answer, RedisError> {
    match answer {
        Value::Int(0) => Ok(Answer::Deposed),
        Value::Int(1) => Ok(Answer::Done),
        Value::Int(2) => Ok(Answer::Gone),
        other => {
            let mark = answer::text(other).and_then(|text| read_mark(&text));
            mark.map(Answer::Moved).ok_or_else(|| RedisError::strange("a tick"))
        }
    }
}

impl fmt::Debug for RedisSchedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisSchedules").field(&self.shared.link).finish()
    }
}
