//! Endings that are under way, for a ledger that has no broker on this server.

use async_trait::async_trait;
use umbel_scheduler::ReadyChord;

use super::{super::ChordStep, RedisBackend, SLICE};
use crate::{
    backends::{BackendError, Beginning, Ending, Endings, Sought},
    redis::{
        answer,
        commit::{Batch, Complete, Outcome},
        error::RedisError,
        keys::Keys,
        script::Script,
    },
};

static LOOK: Script = Script::new("look", include_str!("../../redis/scripts/look.lua"));

/// How long the dead leave behind what they had begun, in seconds. Longer than any outage that somebody would wait for.
const LEFT_SECS: u64 = 24 * 3600;

/// How long it is remembered which copy of a message was taken first, in seconds. A copy is sent when a message comes again
/// whose holder has died, and both wait in the same queue.
const COPY_SECS: u64 = 6 * 3600;

#[async_trait]
impl Endings for RedisBackend {
    async fn begin(&self, beginnings: &[Beginning]) -> Result<Vec<String>, BackendError> {
        let mut names = Vec::with_capacity(beginnings.len());
        for slice in beginnings.chunks(SLICE) {
            let mut pipeline = redis::pipe();
            for Beginning { what, name, first } in slice {
                let key = self.keys.ending(what);
                let set = pipeline.cmd("SET").arg(&key).arg(name).arg("EX").arg(LEFT_SECS);
                // What an older life of the same id has left behind is not this one's.
                if !first {
                    set.arg("NX");
                }
                set.ignore().cmd("GET").arg(&key);
            }
            let found: Vec<Option<String>> = self.link.pipeline(&pipeline).await?;
            names.extend(slice.iter().zip(found).map(|(beginning, found)| found.unwrap_or_else(|| beginning.name.clone())));
        }
        Ok(names)
    }

    async fn store(&self, endings: &[Ending]) -> Result<Vec<Option<Vec<ReadyChord>>>, BackendError> {
        let mut ready = Vec::with_capacity(endings.len());
        for slice in endings.chunks(SLICE) {
            for (ending, outcome) in slice.iter().zip(self.store_endings(slice).await?) {
                let complete = match outcome {
                    Outcome::Done(complete) => complete,
                    Outcome::Refused if ending.concludes.is_some() => {
                        ready.push(None);
                        continue;
                    }
                    Outcome::Refused => return Err(RedisError::strange("an ending").into()),
                };
                let mut chords = Vec::with_capacity(complete.len());
                for chord in complete {
                    let body = ending.steps.iter().find_map(|step| body_of(step, &chord));
                    chords.extend(self.ready_or_later(chord, body).await);
                }
                ready.push(Some(chords));
            }
        }
        Ok(ready)
    }

    async fn look(&self, sought: &[Sought]) -> Result<Vec<bool>, BackendError> {
        let mut over = Vec::with_capacity(sought.len());
        for slice in sought.chunks(SLICE) {
            let mut call = LOOK.call(0);
            call.arg(COPY_SECS);
            for Sought { run, again, stamp } in slice {
                call.arg(u8::from(*again)).arg(self.keys.ended(run.as_str()));
                match stamp {
                    Some(stamp) => call.arg(self.keys.copy(run.as_str())).arg(&stamp.ending).arg(&stamp.copy),
                    None => call.arg("").arg("").arg(""),
                };
            }
            let answers = answer::list(self.link.script(&LOOK, &call).await?, "a look for endings")?;
            over.extend(answers.iter().map(|answer| *answer == redis::Value::Int(1)));
        }
        Ok(over)
    }

    async fn forget(&self, names: &[String]) -> Result<(), BackendError> {
        for slice in names.chunks(SLICE) {
            let mut command = redis::cmd("UNLINK");
            for name in slice {
                command.arg(self.keys.ending(name)).arg(self.keys.ended(name));
            }
            self.link.run(&command).await?;
        }
        Ok(())
    }
}

impl RedisBackend {
    async fn store_endings(&self, endings: &[Ending]) -> Result<Vec<Outcome>, RedisError> {
        let results = self.results_at();
        let mut batch = Batch::new(&Keys::new(&self.options.layout, results.db), results.db, Some(&results), endings.len());
        for Ending { concludes, mark, records, steps } in endings {
            match concludes {
                Some((group, failed)) => batch.chord(&self.keys.celery.group(group), group, *failed),
                None => batch.open(),
            }
            if let Some(run) = mark {
                batch.mark(&self.keys.ended(run.as_str()), LEFT_SECS);
            }
            for record in records {
                let (bytes, ttl) = Self::encode(record, &self.options)?;
                batch.store(&self.keys.celery.task(&record.task_id), &bytes, ttl);
            }
            for step in steps {
                self.write_chord(step, &mut batch);
            }
            batch.end();
        }
        self.send(batch, &self.link).await
    }
}

/// The body of a chord that a step has completed.
fn body_of<'a>(step: &'a ChordStep, chord: &Complete) -> Option<&'a umbel_proto::Signature> {
    match step {
        ChordStep::Open(open) if open.group == chord.group => Some(&open.body),
        ChordStep::Part(part) if part.group == chord.group => Some(&part.body),
        _ => None,
    }
}
