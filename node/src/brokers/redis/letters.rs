//! Dead letters: what nobody will run.

use umbel_proto::{Envelope, Limits};

use super::{super::DeadLetter, Shared};
use crate::{
    clock,
    redis::{commit::Letter, entry::Passage, error::RedisError, script::Script},
};

/// How many letters are read at a time. They may be large, and other requests go over the same connection.
const SLICE: usize = 50;

/// Takes a letter away and, when there is an envelope, sends it again; only one of two at the same time does.
static TAKE_AWAY: Script = Script::new(
    "letter",
    "if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
     redis.call('ZREM', KEYS[1], ARGV[1])
     if ARGV[3] ~= '' then redis.call('LPUSH', ARGV[2], ARGV[3]) end
     return 1",
);

impl Shared {
    pub(super) async fn dead(&self, limit: usize) -> Result<Vec<DeadLetter>, RedisError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("ZREVRANGE");
        command.arg(self.keys.dead()).arg(0).arg(limit - 1).arg("WITHSCORES");
        let found: Vec<(String, f64)> = self.link.query(&command).await?;
        let mut records: Vec<Option<Vec<u8>>> = Vec::with_capacity(found.len());
        for slice in found.chunks(SLICE) {
            let mut command = redis::cmd("HMGET");
            command.arg(self.keys.letters());
            for (id, _) in slice {
                command.arg(id);
            }
            records.extend(self.link.query::<Vec<Option<Vec<u8>>>>(&command).await?);
        }
        let letters = found.into_iter().zip(records).filter_map(|((id, at), record)| {
            let letter = Letter::read(&record?)?;
            let envelope = Envelope::from_kombu(&letter.envelope, Limits::default()).map(|mut envelope| {
                Passage::take(&mut envelope.properties);
                envelope
            });
            let Letter { queue, reason, detail, attempts, .. } = letter;
            Some(DeadLetter { id, queue, reason, detail, at: at as i64, attempts, envelope })
        });
        Ok(letters.collect())
    }

    pub(super) async fn dead_retry(&self, id: &str) -> Result<bool, RedisError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.letters()).arg(id);
        let record: Option<Vec<u8>> = self.link.query(&command).await?;
        let Some(letter) = record.and_then(|record| Letter::read(&record)) else { return Ok(false) };
        let envelope = match Envelope::from_kombu(&letter.envelope, Limits::default()) {
            Ok(mut envelope) => {
                Passage { at: Some(clock::now()), ..Passage::default() }.put(&mut envelope.properties);
                envelope.to_kombu()
            }
            // What cannot be read is sent as it is: perhaps somebody newer can.
            Err(_) => letter.envelope,
        };
        self.take_away(id, &self.keys.list(&letter.queue, letter.priority), &envelope).await
    }

    pub(super) async fn dead_drop(&self, id: &str) -> Result<bool, RedisError> {
        self.take_away(id, "", b"").await
    }

    async fn take_away(&self, id: &str, list: &str, envelope: &[u8]) -> Result<bool, RedisError> {
        let mut call = TAKE_AWAY.call(2);
        call.arg(self.keys.dead()).arg(self.keys.letters()).arg(id).arg(list).arg(envelope);
        Ok(self.link.script(&TAKE_AWAY, &call).await? == redis::Value::Int(1))
    }
}
