//! Chords as Celery keeps them in Redis (wire contract §4.2; 5.7's scripts PART and CLOSE are part of `chords.lua`).
//!
//! A chord's last part claims it, for [`RedisOptions::chord_grace`]; whoever has the claim concludes. Chords that nodes know of
//! are listed in a set of their own, so that one whose claimant died is found again.
//!
//! [`RedisOptions::chord_grace`]: crate::redis::RedisOptions::chord_grace

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use redis::Value as Answered;
use umbel_proto::{GroupId, Limits, ResultRecord, ResultTuple, Signature, State, TaskError, TaskId, Value, codec::json, inflate};
use umbel_scheduler::{ChordPart, PartResult, ReadyChord, ReadyPart};

use super::{super::ChordStep, RedisBackend, tree};
use crate::{
    backends::{Backend, BackendError},
    redis::{
        answer,
        commit::{Batch, Complete, Members, Outcome, PartArguments, ResultsAt, complete},
        error::RedisError,
        keys::Keys,
        link::Link,
        script::Script,
    },
};

static UNCONCLUDED: Script =
    Script::new("unconcluded", concat!(include_str!("../../redis/scripts/need.lua"), include_str!("../../redis/scripts/unconcluded.lua")));

static CLAIM: Script = Script::new(
    "claim",
    "local holder = redis.call('GET', KEYS[1] .. '.c')
     if holder == ARGV[1] then return redis.call('PEXPIRE', KEYS[1] .. '.c', ARGV[2]) end
     if holder or redis.call('EXISTS', KEYS[1] .. '.s') == 0 then return 0 end
     local size, extra = redis.call('GET', KEYS[1] .. '.s'), redis.call('GET', KEYS[1] .. '.t')
     if redis.call('ZCARD', KEYS[1] .. '.j') < tonumber(size) + (tonumber(extra or '0') or 0) then return 0 end
     redis.call('SET', KEYS[1] .. '.c', ARGV[1], 'PX', ARGV[2])
     return 1",
);

static CLOSE: Script = Script::new(
    "close",
    "if redis.call('GET', KEYS[1] .. '.c') ~= ARGV[1] then return 0 end
     redis.call('DEL', KEYS[1] .. '.s')
     if ARGV[3] == '0' then redis.call('UNLINK', KEYS[1] .. '.j', KEYS[1] .. '.t', KEYS[1] .. '.d') end
     redis.call('SET', KEYS[1] .. '.c', 'done', 'EX', 300)
     redis.call('ZREM', KEYS[2], ARGV[2])
     redis.call('HDEL', KEYS[3], ARGV[2])
     redis.call('HDEL', KEYS[4], ARGV[2])
     return 1",
);

/// How many chords are remembered as known to the server.
const KNOWN: usize = 10_000;

/// How often, and how many times, the results of a nested header are asked for before the chord is left for later:
/// `result_chord_join_timeout` is three seconds.
const JOIN: (Duration, u32) = (Duration::from_millis(100), 30);

/// Chords whose body the server has been given from here; it need not be sent with every part.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<(HashSet<GroupId>, VecDeque<GroupId>)>);

impl Known {
    fn has(&self, group: &GroupId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.contains(group)
    }

    fn note(&self, group: GroupId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (set, order) = &mut *known;
        if !set.insert(group.clone()) {
            return;
        }
        order.push_back(group);
        if order.len() > KNOWN
            && let Some(oldest) = order.pop_front()
        {
            set.remove(&oldest);
        }
    }

    fn forget(&self, group: &GroupId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.remove(group);
    }

    fn forget_all(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = <(HashSet<GroupId>, VecDeque<GroupId>)>::default();
    }
}

impl RedisBackend {
    /// Writes what a ledger asks of a chord among the arguments of a commit.
    pub(crate) fn write_chord(&self, step: &ChordStep, batch: &mut Batch) {
        let keys = &self.keys.celery;
        match step {
            ChordStep::Open(open) => {
                // Whoever opens a chord may have parts of an older one of its name in mind.
                self.known.forget(&open.group);
                batch.open_chord(&keys.group(&open.group), &open.group, open.size, &json::write(&open.body.to_value()));
            }
            ChordStep::Grow { group, by } => batch.grow_chord(&keys.group(group), *by),
            ChordStep::Part(part) => {
                let is_known = self.known.has(&part.group) || batch.brings(&part.group);
                let body = if is_known { Vec::new() } else { json::write(&part.body.to_value()) };
                let arguments = PartArguments {
                    key: &keys.group(&part.group),
                    group: &part.group,
                    task: part.task_id.as_str(),
                    root: part.root_id.as_ref().map_or("", TaskId::as_str),
                    member: &member(part),
                    score: &part.index.map_or_else(|| "+inf".to_owned(), |index| index.to_string()),
                    body: &body,
                    meta_ttl: self.options.chord_ttl().max(self.options.result_ttl(false)),
                };
                batch.part(&arguments);
            }
        }
    }

    /// Sends commits with what [`Self::write_chord`] wrote. A body is known to the server once it has answered that it carried out what
    /// brought it. After an error it may have come back with less than it had, and all bodies are sent anew.
    ///
    /// # Errors
    /// As of [`Batch::send`].
    pub(crate) async fn send(&self, mut batch: Batch, link: &Link) -> Result<Vec<Outcome>, RedisError> {
        let bodies = batch.take_bodies();
        let sent = batch.send(link).await;
        match &sent {
            Ok(outcomes) => {
                let done = |commit| matches!(outcomes.get(commit), Some(Outcome::Done(_)));
                bodies.into_iter().filter(|(_, commit)| done(*commit)).for_each(|(group, _)| self.known.note(group));
            }
            Err(_) => self.known.forget_all(),
        }
        sent
    }

    /// Where a commit finds results and chords.
    pub(crate) fn results_at(&self) -> ResultsAt<'_> {
        ResultsAt {
            db: self.link.target().db(),
            keys: &self.keys,
            chord_ttl: self.options.chord_ttl(),
            claim_ms: self.claim_ms(),
            token: &self.token,
        }
    }

    fn claim_ms(&self) -> u64 {
        u64::try_from(self.options.chord_grace.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Carries out steps for a ledger that has no broker on this server.
    pub(super) async fn carry_out(&self, steps: Vec<ChordStep>) -> Result<Vec<ReadyChord>, RedisError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let results = self.results_at();
        let mut batch = Batch::new(&Keys::new(&self.options.layout, results.db), results.db, Some(&results), steps.len());
        for step in &steps {
            batch.open();
            self.write_chord(step, &mut batch);
            batch.end();
        }
        let mut chords = Vec::new();
        for (step, outcome) in steps.iter().zip(self.send(batch, &self.link).await?) {
            let Outcome::Done(complete) = outcome else { continue };
            for chord in complete {
                let body = match step {
                    ChordStep::Open(open) => Some(&open.body),
                    ChordStep::Part(part) => Some(&part.body),
                    ChordStep::Grow { .. } => None,
                };
                chords.extend(self.ready_or_later(chord, body).await);
            }
        }
        Ok(chords)
    }

    /// Everything that concluding a chord takes. A chord that cannot be read now stays complete, and is listed again.
    pub(crate) async fn ready_or_later(&self, chord: Complete, body: Option<&Signature>) -> Option<ReadyChord> {
        let group = chord.group.clone();
        match ready(self, chord, body).await {
            Ok(chord) => Some(chord),
            Err(error) => {
                tracing::error!(%group, "a chord is complete and cannot be read now, it will be tried again: {error}");
                None
            }
        }
    }

    /// Reads the members of a chord of many, which this process has claimed. Where their scores are their ranks, and there are as many
    /// as there were, they are read without.
    async fn members(&self, group: &GroupId, count: usize, ranked: bool) -> Result<Vec<Member>, RedisError> {
        let key = format!("{}.j", self.keys.celery.group(group));
        let range = |scores: &[&str]| redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).arg(scores).to_owned();
        if ranked {
            let list = answer::list(self.link.run(&range(&[])).await?, "a chord's parts")?;
            if list.len() == count {
                let bytes = |member| match member {
                    Answered::BulkString(bytes) => Ok(bytes),
                    _ => Err(RedisError::strange("a chord's parts")),
                };
                return (0..).zip(list).map(|(rank, member)| Ok((Some(rank), bytes(member)?))).collect();
            }
        }
        let members = with_scores(answer::list(self.link.run(&range(&["WITHSCORES"])).await?, "a chord's parts")?)?;
        if members.len() < count {
            // A Celery worker of 5.6 has concluded it meanwhile, or they have expired.
            return Err(RedisError::Unavailable(format!("of the {count} parts of chord {group} there are {}", members.len())));
        }
        Ok(members)
    }

    /// Makes sure that this process may conclude a chord, for some seconds more (5.7's EXTEND).
    pub(super) async fn claim(&self, group: &GroupId) -> Result<bool, RedisError> {
        let mut call = CLAIM.call(1);
        call.arg(self.keys.celery.group(group)).arg(&self.token).arg(self.claim_ms());
        Ok(self.link.script(&CLAIM, &call).await? == Answered::Int(1))
    }

    /// Concludes a chord that this process has claimed (5.7's CLEANUP, which leaves the parts of a chord that failed).
    pub(super) async fn close(&self, group: &GroupId, failed: bool) -> Result<bool, RedisError> {
        let mut call = CLOSE.call(4);
        call.arg(self.keys.celery.group(group)).arg(self.keys.chords()).arg(self.keys.bodies()).arg(self.keys.lasts());
        call.arg(&self.token).arg(group.as_str()).arg(u8::from(failed));
        Ok(self.link.script(&CLOSE, &call).await? == Answered::Int(1))
    }

    /// Chords that are complete and that nobody has concluded for as long as a claim lasts, claimed now.
    pub(crate) async fn find_unconcluded(&self, limit: usize) -> Result<Vec<ReadyChord>, RedisError> {
        let mut call = UNCONCLUDED.call(3);
        call.arg(self.keys.chords()).arg(self.keys.bodies()).arg(self.keys.lasts());
        call.arg(self.keys.groups()).arg(self.claim_ms()).arg(limit).arg(self.claim_ms()).arg(&self.token);
        let found = answer::list(self.link.script(&UNCONCLUDED, &call).await?, "a look for chords")?;
        let mut chords = Vec::with_capacity(found.len());
        for chord in found {
            let Some(chord) = self.ready_or_later(complete(chord)?, None).await else { continue };
            if self.has_failed_already(&chord).await? {
                self.close(&chord.group, true).await?;
            } else {
                chords.push(chord);
            }
        }
        Ok(chords)
    }

    /// Whether a Celery worker of 5.6 has ended this chord: where a member failed it stores the body's failure, calls its errbacks, and
    /// leaves size and parts as they are (`celery/backends/redis.py`, `on_chord_part_return`).
    async fn has_failed_already(&self, chord: &ReadyChord) -> Result<bool, RedisError> {
        let failed = chord.parts.iter().any(|part| matches!(part.result, PartResult::Error(_)));
        let Some(id) = chord.body.options.task_id().filter(|_| failed) else { return Ok(false) };
        let mut command = redis::cmd("GET");
        command.arg(self.keys.celery.task(&id));
        let record: Option<Vec<u8>> = self.link.query(&command).await?;
        Ok(record.is_some_and(|record| super::decode(&record).is_ok_and(|record| record.status.is_ready())))
    }
}

/// A member of `.j`: `[1, task id, state, result or exception]`.
fn member(part: &ChordPart) -> Vec<u8> {
    let (state, value) = match &part.result {
        PartResult::Value(value) => ("SUCCESS", value.clone()),
        PartResult::Error(error) if error.exc_type == "TaskRevokedError" => ("REVOKED", error.to_value()),
        PartResult::Error(error) => ("FAILURE", error.to_value()),
    };
    json::write(&Value::List(vec![Value::Int(1), Value::from(part.task_id.as_str()), Value::from(state), value]))
}

/// Reads a member, which a Celery worker may have written, compressed or not.
fn read_member(bytes: &[u8]) -> Option<(TaskId, PartResult)> {
    let inflated = inflate(bytes, Limits::default()).ok()?;
    let mut items = json::Items::new(inflated.as_deref().unwrap_or(bytes), Limits::default()).ok()?;
    items.value().ok()?;
    let (task, state, result) = (items.text().ok()?, items.text().ok()?, items.value().ok()?);
    items.end().ok()?;
    Some((TaskId::from(&*task), part_result(&State::by_name(&state), result)))
}

/// What cannot be read fails its chord: it will not be readable later either, and a chord that waits for that never ends.
fn unreadable(bytes: &[u8]) -> (TaskId, PartResult) {
    let text = String::from_utf8_lossy(bytes);
    let error = TaskError::new("kombu.exceptions", "DecodeError", "what this member of the chord came to cannot be read");
    (TaskId::from(text.split('"').nth(1).unwrap_or_default()), PartResult::Error(error))
}

fn part_result(state: &State, result: Value) -> PartResult {
    match state {
        State::Failure | State::Revoked => PartResult::Error(
            TaskError::from_value(&result)
                .unwrap_or_else(|_| TaskError::new("builtins", "Exception", "the failure's record cannot be read")),
        ),
        _ => PartResult::Value(result),
    }
}

/// Everything that concluding a chord takes.
async fn ready(backend: &RedisBackend, chord: Complete, body: Option<&Signature>) -> Result<ReadyChord, RedisError> {
    let body = match body {
        Some(body) => body.clone(),
        None => signature(&chord.body)?,
    };
    let part = |index, task_id: TaskId, result| {
        let root_id = chord.root.as_ref().filter(|_| chord.last.as_ref() == Some(&task_id));
        ReadyPart { index, root_id: root_id.cloned(), task_id, result }
    };
    let (members, most) = match chord.members {
        Members::Here(list) => (with_scores(list)?, usize::MAX),
        Members::There { count, ranked } => (backend.members(&chord.group, count, ranked).await?, count),
    };
    let mut counted = Vec::with_capacity(members.len());
    for (index, bytes) in members {
        let (task, result) = read_member(&bytes).unwrap_or_else(|| unreadable(&bytes));
        counted.push(part(index, task, result));
    }
    if counted.len() > most {
        // Since they were counted, a Celery worker of 5.6 has added one of a task that it ran again.
        let mut seen = HashSet::new();
        counted.retain(|part| seen.insert((part.task_id.clone(), part.index)));
    }
    let parts = match &chord.tree {
        Some(saved) => {
            let tree = tree(saved)?;
            let results = joined(backend, &tree, &counted).await?;
            let children = tree.children.as_deref().unwrap_or_default();
            let parts = children.iter().zip(results).enumerate();
            parts.map(|(at, (child, result))| part(i64::try_from(at).ok(), TaskId::from(child.id.as_str()), result)).collect()
        }
        None => {
            // Redis sorts equal scores by the member's bytes.
            counted.sort_by(|a, b| (a.index.is_none(), a.index, &a.task_id).cmp(&(b.index.is_none(), b.index, &b.task_id)));
            counted
        }
    };
    Ok(ReadyChord { group: chord.group, body, parts, last: chord.last })
}

/// A member of `.j` and its place in the header.
type Member = (Option<i64>, Vec<u8>);

/// Takes apart what came with scores by turns.
fn with_scores(list: Vec<Answered>) -> Result<Vec<Member>, RedisError> {
    let mut members = Vec::with_capacity(list.len() / 2);
    let mut list = list.into_iter();
    while let (Some(member), Some(score)) = (list.next(), list.next()) {
        let Answered::BulkString(bytes) = member else { return Err(RedisError::strange("a chord's parts")) };
        let index = match &score {
            Answered::BulkString(text) if text.eq_ignore_ascii_case(b"inf") => None,
            other => answer::int(Some(other)),
        };
        members.push((index, bytes));
    }
    Ok(members)
}

fn signature(bytes: &[u8]) -> Result<Signature, RedisError> {
    let value = json::parse(bytes, Limits::default());
    let signature = value.and_then(|value| Signature::from_value(&value));
    signature.map_err(|error| RedisError::Refused(format!("the body of a chord cannot be read: {error}")))
}

/// The results of a nested header's members, each nested group as a list. What the chord has counted is taken from there: a member
/// whose result is ignored is nowhere else. Only the others are asked for.
async fn joined(backend: &RedisBackend, tree: &ResultTuple, counted: &[ReadyPart]) -> Result<Vec<PartResult>, RedisError> {
    let mut results: HashMap<&str, PartResult> = counted.iter().map(|part| (part.task_id.as_str(), part.result.clone())).collect();
    let mut ids = Vec::new();
    leaves(tree, &mut ids);
    ids.retain(|id| !results.contains_key(id));
    let asked: Vec<TaskId> = ids.iter().map(|id| TaskId::from(*id)).collect();
    for round in 0.. {
        let records = if asked.is_empty() { Vec::new() } else { backend.get(&asked).await.map_err(unavailable)? };
        let records: Option<Vec<ResultRecord>> = records.into_iter().collect();
        if let Some(records) = records.filter(|records| records.iter().all(|record| record.status.is_ready())) {
            results.extend(ids.into_iter().zip(records.into_iter().map(|record| part_result(&record.status, record.result))));
            break;
        }
        if round == JOIN.1 {
            return Err(RedisError::Unavailable(format!("results of members of group {} are not there yet", tree.id)));
        }
        tokio::time::sleep(JOIN.0).await;
    }
    let member = |(at, child): (usize, &ResultTuple)| match child.children.as_deref() {
        // A chain that ends in an empty group has no result of its own; a step of it may have failed.
        Some([]) => failed_at(counted, at).unwrap_or_else(|| join(child, &results)),
        _ => join(child, &results),
    };
    Ok(tree.children.iter().flatten().enumerate().map(member).collect())
}

fn failed_at(counted: &[ReadyPart], place: usize) -> Option<PartResult> {
    let part = counted.iter().find(|part| part.index == i64::try_from(place).ok())?;
    matches!(part.result, PartResult::Error(_)).then(|| part.result.clone())
}

/// The tasks that make up a result; an empty group has none.
fn leaves<'a>(tree: &'a ResultTuple, ids: &mut Vec<&'a str>) {
    match tree.children.as_deref() {
        None => ids.push(&tree.id),
        Some(children) => children.iter().for_each(|child| leaves(child, ids)),
    }
}

fn join(tree: &ResultTuple, results: &HashMap<&str, PartResult>) -> PartResult {
    let Some(children) = tree.children.as_deref() else {
        return results.get(tree.id.as_str()).cloned().unwrap_or(PartResult::Value(Value::Null));
    };
    let mut values = Vec::with_capacity(children.len());
    let mut failed = None;
    for child in children {
        match join(child, results) {
            PartResult::Value(value) => values.push(value),
            PartResult::Error(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(PartResult::Value(Value::List(values)), PartResult::Error)
}

fn unavailable(error: BackendError) -> RedisError {
    match error {
        BackendError::Unavailable { reason, .. } => RedisError::Unavailable(reason),
        BackendError::Refused { reason, .. } => RedisError::Refused(reason),
    }
}
