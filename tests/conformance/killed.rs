//! The store under SIGKILL: a process that publishes, takes, ends and counts chords as fast as it can is killed at random
//! instants, thirty times. Afterwards everything that was acknowledged is there, exactly once, and nothing is half done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Child, Command},
    time::{Duration, SystemTime},
};

use umbel::{
    backends::{Backend, embedded::EmbeddedBackend},
    embedded::{Store, StoreOptions},
    proto::TaskId,
};
use umbel_tests::wait::until;

const ROUNDS: u64 = 30;

fn start(mode: &str, folder: &Path, round: u64) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-life"));
    command.arg(mode).arg(folder.join("store")).arg(folder.join("log")).arg(round.to_string());
    command.stderr(fs::File::options().create(true).append(true).open(folder.join("errors")).unwrap());
    command.spawn().unwrap()
}

/// What the processes wrote down. The last line of a killed one may be cut off only if the system call was, which it is not.
#[derive(Default)]
struct Log {
    published: BTreeSet<String>,
    submitted: BTreeSet<String>,
    taken: BTreeMap<String, BTreeSet<String>>,
    ended: BTreeMap<String, u32>,
    concluded: BTreeMap<String, u32>,
}

impl Log {
    fn read(path: &Path) -> Self {
        let mut log = Self::default();
        for line in fs::read_to_string(path).unwrap().lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["P", id] => assert!(log.published.insert(id.to_owned())),
                ["C", group] => assert!(log.submitted.insert(group.to_owned())),
                ["T", id, tag] => drop(log.taken.entry(id.to_owned()).or_default().insert(tag.to_owned())),
                ["E", id, _] => *log.ended.entry(id.to_owned()).or_default() += 1,
                ["B", group] => *log.concluded.entry(group.to_owned()).or_default() += 1,
                _ => panic!("strange line {line:?}"),
            }
        }
        log
    }

    /// How many messages there were of that id.
    fn messages(&self, id: &str) -> usize {
        self.taken.get(id).map_or(0, BTreeSet::len)
    }
}

/// How long a round lives: from before the store is open to well into the work.
fn life(round: u64) -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Duration::from_micros((u64::from(since.subsec_nanos()) / 7 + round * 104_729) % 250_000)
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_half_done() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    for round in 0..ROUNDS {
        let mut child = start("live", folder, round);
        let (begun, life) = (SystemTime::now(), life(round));
        until("the instant of the kill", || (begun.elapsed().unwrap_or(life) >= life).then_some(()));
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself: {}", fs::read_to_string(folder.join("errors")).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let drained = start("drain", folder, ROUNDS).wait().unwrap();
    assert!(drained.success(), "{}", fs::read_to_string(folder.join("errors")).unwrap());
    let log = Log::read(&folder.join("log"));
    assert!(log.published.len() > 100 && log.submitted.len() > 10, "too little happened to prove anything");
    // Acknowledged is there, and ended.
    let members = |group: &String| [format!("{group}/0"), format!("{group}/1")];
    let accepted: BTreeSet<String> = log.published.iter().cloned().chain(log.submitted.iter().flat_map(members)).collect();
    for id in &accepted {
        assert_eq!(log.messages(id), 1, "{id}");
    }
    check_endings(&log, &folder.join("store")).await;
    check_chords(&log);
}

/// Every message was one message, ended once, and its ending is whole: result and successor.
async fn check_endings(log: &Log, store: &Path) {
    let backend = EmbeddedBackend::new(Store::open(store, StoreOptions::default()).unwrap());
    let ids: Vec<&String> = log.taken.keys().collect();
    let results = backend.get(&ids.iter().map(|id| TaskId::from(id.as_str())).collect::<Vec<_>>()).await.unwrap();
    for (id, result) in ids.into_iter().zip(results) {
        assert_eq!(log.messages(id), 1, "{id} was sent twice");
        assert!(log.ended.get(id).is_none_or(|times| *times == 1), "{id} ended twice");
        assert!(result.is_some(), "{id} has no result");
        let parent_or_child = id.strip_suffix('+').map_or_else(|| format!("{id}+"), str::to_owned);
        assert!(id.ends_with("-body+") || log.messages(&parent_or_child) == 1, "{id} without {parent_or_child}");
    }
}

/// Every chord of which anything was seen has both members and one body.
fn check_chords(log: &Log) {
    let seen = log.taken.keys().filter_map(|id| id.split_once('/')).map(|(group, _)| group.to_owned());
    let groups: BTreeSet<String> = seen.chain(log.submitted.iter().cloned()).collect();
    for group in groups {
        for id in [format!("{group}/0"), format!("{group}/1"), format!("{group}-body+")] {
            assert_eq!(log.messages(&id), 1, "{id}");
        }
        assert!(log.concluded.get(&group).is_none_or(|times| *times == 1), "{group} was concluded twice");
    }
}
