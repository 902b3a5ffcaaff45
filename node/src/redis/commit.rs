//! The one script that changes what is durable, and how its arguments are written.
//!
//! Broker and ledger share it: publishing is a commit without a fence, releasing one with the fence of the delivery. What the
//! arguments mean stands at the top of `scripts/batch.lua`.

use std::{collections::HashMap, time::Duration};

use redis::{Cmd, Value};
use umbel_proto::{DeliveryTag, GroupId, QueueName, TaskId};
use umbel_scheduler::DeadReason;

use super::{
    answer,
    error::RedisError,
    keys::{Keys, Results},
    link::Link,
    script::Script,
};

static COMMIT: Script = Script::new(
    "commit",
    concat!(
        include_str!("scripts/record.lua"),
        include_str!("scripts/batch.lua"),
        include_str!("scripts/need.lua"),
        include_str!("scripts/chords.lua"),
        include_str!("scripts/commit.lua")
    ),
);

/// Commits being written down.
pub(crate) struct Batch {
    call: Cmd,
    /// Arguments of the present commit.
    effects: Vec<Vec<u8>>,
    count: usize,
    commits: usize,
    /// How many of them are written.
    written: usize,
    /// Chords whose bodies it brings, and the first commit that does.
    bodies: HashMap<GroupId, usize>,
}

/// Where results and chords go.
pub(crate) struct ResultsAt<'a> {
    pub(crate) db: i64,
    pub(crate) keys: &'a Results,
    pub(crate) chord_ttl: u64,
    pub(crate) claim_ms: u64,
    pub(crate) token: &'a str,
}

/// What became of one commit.
#[derive(Debug)]
pub(crate) enum Outcome {
    Refused,
    Done(Vec<Complete>),
}

/// A chord whose last part was among a commit's effects.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) group: GroupId,
    /// The task whose part was the last; `None` of a chord without parts, and where a Celery worker recorded it.
    pub(crate) last: Option<TaskId>,
    /// The root of that task.
    pub(crate) root: Option<TaskId>,
    /// The saved tree of a nested header.
    pub(crate) tree: Option<Vec<u8>>,
    pub(crate) members: Members,
    /// The body's signature, where the asker may not know it.
    pub(crate) body: Vec<u8>,
}

/// The members of a complete chord.
#[derive(Debug)]
pub(crate) enum Members {
    /// Members and scores by turns.
    Here(Vec<Value>),
    /// They are to be read.
    There {
        /// How many there are.
        count: usize,
        /// Whether the score of each is its rank.
        ranked: bool,
    },
}

impl Batch {
    /// A batch of `commits` commits.
    pub(crate) fn new(keys: &Keys, db: i64, results: Option<&ResultsAt<'_>>, commits: usize) -> Self {
        let mut call = COMMIT.call(6);
        let kombu = &keys.kombu;
        call.arg(kombu.unacked()).arg(kombu.unacked_index()).arg(keys.begun()).arg(keys.schedules()).arg(keys.dead()).arg(keys.letters());
        call.arg(db);
        match results {
            Some(results) => {
                call.arg(results.db).arg(keys.prefix()).arg(results.keys.chords()).arg(results.keys.bodies());
                call.arg(results.keys.lasts()).arg(results.chord_ttl).arg(results.claim_ms).arg(results.token);
            }
            None => {
                call.arg(db).arg(keys.prefix()).arg("").arg("").arg("").arg(0).arg(0).arg("");
            }
        }
        call.arg(commits);
        Self { call, effects: Vec::new(), count: 0, commits, written: 0, bodies: HashMap::new() }
    }

    /// Begins a commit without a condition.
    pub(crate) fn open(&mut self) {
        self.call.arg("O");
    }

    /// Begins a commit that is carried out once, however often it is sent while its mark is kept.
    pub(crate) fn once(&mut self, mark: &str, keep: Duration) {
        self.call.arg("U").arg(mark).arg(keep.as_secs().max(1));
    }

    /// Begins a commit that needs a delivery to be held.
    pub(crate) fn held(&mut self, tag: &DeliveryTag) {
        self.call.arg("D").arg(tag.as_str());
    }

    /// Begins a commit that concludes a chord; one with a failed member keeps what its members came to.
    pub(crate) fn chord(&mut self, key: &str, group: &GroupId, failed: bool) {
        self.call.arg("C").arg(key).arg(group.as_str()).arg(u8::from(failed));
    }

    fn effect<const N: usize>(&mut self, code: &str, arguments: [&[u8]; N]) {
        self.effects.push(code.as_bytes().to_vec());
        self.effects.extend(arguments.into_iter().map(<[u8]>::to_vec));
        self.count += 1;
    }

    /// Ends the commit that was begun.
    pub(crate) fn end(&mut self) {
        self.call.arg(self.count);
        for argument in self.effects.drain(..) {
            self.call.arg(argument);
        }
        self.count = 0;
        self.written += 1;
    }

    pub(crate) fn push(&mut self, list: &str, envelope: &[u8]) {
        self.effect("P", [list.as_bytes(), envelope]);
    }

    pub(crate) fn schedule(&mut self, queue: &QueueName, id: &str, due: i64, list: &str, envelope: &[u8]) {
        self.effect("S", [queue.as_str().as_bytes(), id.as_bytes(), due.to_string().as_bytes(), list.as_bytes(), envelope]);
    }

    pub(crate) fn ack(&mut self) {
        self.effect("K", []);
    }

    pub(crate) fn begin(&mut self) {
        self.effect("B", []);
    }

    pub(crate) fn requeue(&mut self, list: &str, envelope: &[u8]) {
        self.effect("Q", [list.as_bytes(), envelope]);
    }

    /// Back to the queue after `wait` milliseconds of the server's clock.
    pub(crate) fn requeue_after(&mut self, queue: &QueueName, id: &str, wait: i64, list: &str, envelope: &[u8]) {
        self.effect("T", [queue.as_str().as_bytes(), id.as_bytes(), wait.to_string().as_bytes(), list.as_bytes(), envelope]);
    }

    pub(crate) fn dead(&mut self, id: &str, letter: &[u8], limit: u64) {
        self.effect("X", [id.as_bytes(), letter, limit.to_string().as_bytes()]);
    }

    pub(crate) fn store(&mut self, key: &str, record: &[u8], ttl: u64) {
        self.effect("R", [key.as_bytes(), record, ttl.to_string().as_bytes()]);
    }

    /// Remembers something in the results' database for `ttl` seconds.
    pub(crate) fn mark(&mut self, key: &str, ttl: u64) {
        self.effect("M", [key.as_bytes(), ttl.to_string().as_bytes()]);
    }

    pub(crate) fn open_chord(&mut self, key: &str, group: &GroupId, size: u32, body: &[u8]) {
        self.effect("H", [key.as_bytes(), group.as_str().as_bytes(), size.to_string().as_bytes(), body]);
    }

    pub(crate) fn grow_chord(&mut self, key: &str, by: u32) {
        self.effect("N", [key.as_bytes(), by.to_string().as_bytes()]);
    }

    /// A part; `body` is empty when the server knows it already.
    pub(crate) fn part(&mut self, part: &PartArguments<'_>) {
        let PartArguments { key, group, task, root, member, score, body, meta_ttl } = part;
        let ttl = meta_ttl.to_string();
        if !body.is_empty() {
            self.bodies.entry((*group).clone()).or_insert(self.written);
        }
        self.effect(
            "A",
            [key.as_bytes(), group.as_str().as_bytes(), task.as_bytes(), root.as_bytes(), member, score.as_bytes(), body, ttl.as_bytes()],
        );
    }

    /// Whether it brings the body of this chord.
    pub(crate) fn brings(&self, group: &GroupId) -> bool {
        self.bodies.contains_key(group)
    }

    /// The chords whose bodies it brings, and the number of the commit that does.
    pub(crate) fn take_bodies(&mut self) -> HashMap<GroupId, usize> {
        std::mem::take(&mut self.bodies)
    }

    /// Sends the batch.
    pub(crate) async fn send(self, link: &Link) -> Result<Vec<Outcome>, RedisError> {
        if self.commits == 0 {
            return Ok(Vec::new());
        }
        let answers = answer::list(link.script(&COMMIT, &self.call).await?, "a commit")?;
        if answers.len() != self.commits {
            return Err(RedisError::strange("a commit"));
        }
        answers.into_iter().map(outcome).collect()
    }
}

/// What is written of one part of a chord.
pub(crate) struct PartArguments<'a> {
    pub(crate) key: &'a str,
    pub(crate) group: &'a GroupId,
    pub(crate) task: &'a str,
    pub(crate) root: &'a str,
    pub(crate) member: &'a [u8],
    pub(crate) score: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) meta_ttl: u64,
}

fn outcome(answer: Value) -> Result<Outcome, RedisError> {
    match answer {
        Value::Int(0) => Ok(Outcome::Refused),
        Value::Int(_) => Ok(Outcome::Done(Vec::new())),
        Value::Array(chords) => Ok(Outcome::Done(chords.into_iter().map(complete).collect::<Result<_, _>>()?)),
        _ => Err(RedisError::strange("a commit")),
    }
}

/// Reads what the script says of a chord that has become complete.
pub(crate) fn complete(value: Value) -> Result<Complete, RedisError> {
    let Ok([group, task, root, tree, members, body]) = <[Value; 6]>::try_from(answer::list(value, "a commit")?) else {
        return Err(RedisError::strange("a commit"));
    };
    let id = |value| answer::text(value).filter(|text| !text.is_empty()).map(TaskId::from);
    let group = answer::text(group).ok_or_else(|| RedisError::strange("a commit"))?;
    Ok(Complete {
        group: GroupId::from(group),
        last: id(task),
        root: id(root),
        tree: answer::bytes(tree),
        members: match members {
            Value::Int(count) => Members::There { count: usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX), ranked: count > 0 },
            members => Members::Here(answer::list(members, "a commit")?),
        },
        body: answer::bytes(body).unwrap_or_default(),
    })
}

/// A dead letter's record: a line of JSON about it, and the envelope as it was.
pub(crate) struct Letter {
    pub(crate) queue: QueueName,
    pub(crate) reason: DeadReason,
    pub(crate) detail: String,
    pub(crate) attempts: u32,
    pub(crate) priority: Option<i64>,
    pub(crate) envelope: Vec<u8>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct LetterHead {
    queue: QueueName,
    reason: DeadReason,
    detail: String,
    attempts: u32,
    priority: Option<i64>,
}

impl Letter {
    pub(crate) fn write(self) -> Result<Vec<u8>, RedisError> {
        let Self { queue, reason, detail, attempts, priority, envelope } = self;
        let mut record = serde_json::to_vec(&LetterHead { queue, reason, detail, attempts, priority })
            .map_err(|error| RedisError::Refused(format!("a dead letter cannot be written: {error}")))?;
        record.push(b'\n');
        record.extend_from_slice(&envelope);
        Ok(record)
    }

    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let line = record.iter().position(|byte| *byte == b'\n')?;
        let LetterHead { queue, reason, detail, attempts, priority } = serde_json::from_slice(&record[..line]).ok()?;
        Some(Self { queue, reason, detail, attempts, priority, envelope: record[line + 1..].to_vec() })
    }
}
