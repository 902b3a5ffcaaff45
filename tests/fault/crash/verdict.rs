//! What happened, from the file the tasks wrote and from the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use umbel::brokers::Backbone;
use umbel_proto::{ResultRecord, State, TaskId, Value};
use umbel_tests::crash::{Ending, Expected, Kind, backbone, label, unit_of};

/// One run of one task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    id: String,
    retries: u32,
    attempt: u32,
    round: u64,
}

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    submitting: BTreeSet<u64>,
    /// And the id of the result.
    accepted: BTreeMap<u64, String>,
    /// By label, in the order they began.
    runs: BTreeMap<String, Vec<Run>>,
}

impl Ledger {
    pub(crate) fn read(folder: &Path) -> Self {
        let mut ledger = Self::default();
        for line in fs::read_to_string(folder.join("ledger")).unwrap_or_default().lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["submitting", unit] => assert!(ledger.submitting.insert(unit.parse().unwrap()), "{unit} is submitted twice"),
                ["accepted", unit, id] => drop(ledger.accepted.insert(unit.parse().unwrap(), id.to_owned())),
                ["run", round, label, id, retries, attempt] => {
                    let (retries, attempt) = (retries.parse().unwrap(), attempt.parse().unwrap());
                    let run = Run { id: id.to_owned(), retries, attempt, round: round.parse().unwrap() };
                    ledger.runs.entry(label.to_owned()).or_default().push(run);
                }
                _ => panic!("the ledger has the line {line:?}"),
            }
        }
        ledger
    }

    /// The first unit that nobody has tried to submit.
    pub(crate) fn next_unit(&self) -> u64 {
        self.submitting.last().map_or(0, |last| last + 1)
    }

    /// Every id that is known.
    fn ids(&self) -> BTreeSet<TaskId> {
        let runs = self.runs.values().flatten().map(|run| run.id.as_str());
        runs.chain(self.accepted.values().map(String::as_str)).map(TaskId::from).collect()
    }
}

/// Looks into the store between the lives of the node.
pub(crate) struct Watcher {
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
    /// The endings there are, and after which round each was first seen.
    endings: BTreeMap<TaskId, (u64, ResultRecord)>,
    /// Endings that were another one, or none, when they were looked at again, and what they were and became.
    changed: Vec<String>,
}

/// What there is to say. Every list names the places where a promise was broken.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    units: usize,
    tasks: usize,
    runs: usize,
    interrupted: usize,
    bodies: usize,
    errbacks: usize,
    /// Submissions under way when the node was killed, of which nothing is there.
    vanished: usize,
    lost: Vec<String>,
    wrong: Vec<String>,
    finished_twice: Vec<String>,
    concluded_twice: Vec<String>,
    left: Vec<String>,
}

impl Watcher {
    pub(crate) fn new(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder: folder.to_owned(), runtime, endings: BTreeMap::new(), changed: Vec::new() }
    }

    /// Notes which tasks have ended. An ending stays as it is.
    pub(crate) fn look(&mut self, round: u64) {
        let ids: Vec<TaskId> = Ledger::read(&self.folder).ids().into_iter().collect();
        let records = self.runtime.block_on(async { backbone(&self.folder).backend.get(&ids).await.unwrap() });
        for (id, record) in ids.into_iter().zip(records) {
            let ready = record.filter(|record| record.status.is_ready());
            match (self.endings.get(&id), ready) {
                (None, Some(record)) => drop(self.endings.insert(id, (round, record))),
                (Some((_, before)), now) if now.as_ref() != Some(before) => {
                    self.changed.push(format!("the ending of {id} has changed in round {round}: {before:?} {now:?}"));
                }
                _ => {}
            }
        }
    }

    /// Compares what happened with what should have.
    pub(crate) fn verdict(mut self, rounds: u64) -> Verdict {
        self.look(rounds);
        let ledger = Ledger::read(&self.folder);
        let mut verdict = Verdict { left: self.left(), ..Verdict::default() };
        verdict.finished_twice.extend(self.changed.iter().cloned());
        for unit in &ledger.submitting {
            let kind = Kind::of(*unit);
            let known = ledger.runs.keys().any(|label| unit_of(label) == *unit);
            let Some(result) = ledger.accepted.get(unit) else {
                // Killed before the answer: all of it is there, or nothing is.
                if known {
                    self.judge(*unit, kind, &ledger, &mut verdict)
                } else {
                    verdict.vanished += 1
                }
                continue;
            };
            self.judge(*unit, kind, &ledger, &mut verdict);
            let failed = kind == Kind::FailedChord;
            match self.endings.get(&TaskId::from(result)) {
                None => verdict.lost.push(format!("the result of {unit} {kind:?}")),
                Some((_, record)) if (record.status == State::Failure) != failed => verdict.wrong.push(format!("{unit}: {record:?}")),
                Some(_) => {}
            }
        }
        verdict
    }

    fn judge(&self, unit: u64, kind: Kind, ledger: &Ledger, verdict: &mut Verdict) {
        let expected = kind.expected(unit);
        verdict.units += 1;
        for expected in &expected {
            self.judge_task(expected, ledger.runs.get(&expected.label).map_or(&[], Vec::as_slice), verdict);
        }
        let ran = ledger.runs.range(label(unit, "")..label(unit, char::MAX)).map(|(label, _)| label);
        let strangers = ran.filter(|label| !expected.iter().any(|expected| expected.label == **label));
        verdict.wrong.extend(strangers.map(|label| format!("{label} of a {kind:?} ran")));
        if let Some(part) = kind.conclusion() {
            let ids: BTreeSet<&str> = ledger.runs.get(&label(unit, part)).into_iter().flatten().map(|run| run.id.as_str()).collect();
            if ids.len() > 1 {
                verdict.concluded_twice.push(format!("{unit}/{part}: {ids:?}"));
            }
            *(if part == "body" { &mut verdict.bodies } else { &mut verdict.errbacks }) += ids.len();
        }
    }

    fn judge_task(&self, expected: &Expected, runs: &[Run], verdict: &mut Verdict) {
        let Expected { label, ending, retries } = expected;
        verdict.tasks += 1;
        verdict.runs += runs.len();
        let Some(first) = runs.first() else {
            verdict.lost.push(format!("{label} never ran"));
            return;
        };
        // A message that is there twice is taken twice for the first time; a message that is taken again has another number.
        let takings: BTreeSet<(&str, u32, u32)> = runs.iter().map(|run| (run.id.as_str(), run.retries, run.attempt)).collect();
        if takings.len() < runs.len() || runs.iter().any(|run| run.id != first.id) {
            verdict.finished_twice.push(format!("{label} was sent twice: {runs:?}"));
        }
        verdict.interrupted += runs.len() - takings.iter().map(|(_, retries, _)| retries).collect::<BTreeSet<_>>().len();
        let Some((round, record)) = self.endings.get(&TaskId::from(&first.id)) else {
            verdict.lost.push(format!("{label} has not ended"));
            return;
        };
        if let Some(after) = runs.iter().find(|run| run.round > *round) {
            verdict.finished_twice.push(format!("{label} had ended by round {round} and ran again: {after:?}"));
        }
        let as_expected = match ending {
            Ending::Value(value) => record.status == State::Success && record.result == Value::from(value.as_str()),
            Ending::Failure => record.status == State::Failure,
        };
        if !as_expected || runs.iter().map(|run| run.retries).max() != Some(*retries) {
            verdict.wrong.push(format!("{label}: {runs:?} {record:?}"));
        }
    }

    /// What is still in the store that should not be.
    fn left(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let Backbone { broker, ledger, .. } = backbone(&self.folder);
            let mut left = Vec::new();
            let queues = broker.queues().await.unwrap();
            left.extend(queues.iter().filter(|queue| queue.ready + queue.held + queue.scheduled > 0).map(|queue| format!("{queue:?}")));
            left.extend(broker.dead(100).await.unwrap().iter().map(|dead| format!("dead: {:?} {}", dead.reason, dead.detail)));
            left.extend(ledger.unconcluded(100).await.unwrap().iter().map(|chord| format!("chord {}", chord.group)));
            left
        })
    }
}

impl Verdict {
    /// How many runs did not come to their end.
    pub(crate) fn interrupted(&self) -> usize {
        self.interrupted
    }

    /// Fails unless every promise was kept, and (of a `full` run) there was enough to break them.
    pub(crate) fn assert(&self, full: bool) {
        let broken = [
            ("lost", &self.lost),
            ("finished twice", &self.finished_twice),
            ("concluded twice", &self.concluded_twice),
            ("wrong", &self.wrong),
            ("left in the store", &self.left),
        ];
        let broken: Vec<String> = broken
            .into_iter()
            .filter(|(_, places)| !places.is_empty())
            .map(|(what, places)| format!("{} {what}:\n  {}", places.len(), places.join("\n  ")))
            .collect();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        assert!(!full || (self.tasks >= 2_000 && self.interrupted > 20), "the kills have hit too little: {self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tasks of {} submissions ran {} times ({} runs cut off); lost {}, finished twice {}, bodies {}, errbacks {}, \
             concluded twice {}, wrong {}, left {}; cut off while submitting: {}",
            self.tasks,
            self.units,
            self.runs,
            self.interrupted,
            self.lost.len(),
            self.finished_twice.len(),
            self.bodies,
            self.errbacks,
            self.concluded_twice.len(),
            self.wrong.len(),
            self.left.len(),
            self.vanished,
        )
    }
}
