//! Real programs: `/bin/sh`, coreutils and `setsid`. Everything waits for what it is about (a line on a pipe, a process's
//! end), never for time.

mod death;
mod limits;
mod results;

use std::{os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::sync::{mpsc, watch};
use umbel_proto::{Invocation, Map, Outcome, TaskError, TaskId, TimeLimit, Value};

use super::*;
use crate::{
    config::{Env, Inputs},
    executors::{Job, Opening, Order, Progress},
};

/// Longer than any step takes on the slowest machine; reached only by a test that fails.
const GENEROUS: Duration = Duration::from_secs(20);

/// Not a test by itself: the process that the tests' keepers are. Under any other name there is nothing to keep.
#[test]
fn keeper_process() {
    if keeper::asked() {
        let kept = format!("{:?}", keeper::main());
        std::process::exit(i32::from(kept != format!("{:?}", std::process::ExitCode::SUCCESS)));
    }
}

fn config(toml: &str) -> Config {
    let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let file = Some((Path::new("umbel.toml"), toml));
    let inputs = Inputs { flags: Vec::new(), env: Env::default(), file, app: Vec::new(), read: &read };
    Config::build(&inputs, "host").unwrap_or_else(|errors| panic!("{errors}")).0
}

fn executor(toml: &str) -> (CommandExecutor, Vec<String>) {
    let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/"), ("SECRET", "hunter2"), ("REGION", "north")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let keeper = ["executors::command::tests::keeper_process", "--exact"].map(OsString::from).to_vec();
    CommandExecutor::new(&config(toml).tasks, &env, &Defaults::default(), keeper).unwrap_or_else(|errors| panic!("{errors}"))
}

/// `[tasks.t]` with a script for `/bin/sh` and what else stands in `options`.
fn script(script: &str, options: &str) -> CommandExecutor {
    let words = format!("[\"/bin/sh\", \"-c\", {:?}, \"sh\"]", as_word(script));
    executor(&format!("[tasks.t]\ncommand = {words}\n{options}\n")).0
}

/// A text that stays what it is through the file's variables and the command's places.
fn as_word(text: &str) -> String {
    text.replace('$', "$$").replace('{', "{{").replace('}', "}}")
}

/// A job, and the ends that a node would hold.
struct Given {
    job: Job,
    orders: watch::Sender<Order>,
    progress: mpsc::Receiver<Progress>,
}

fn job(executor: &CommandExecutor, args: &[Value], kwargs: &[(&str, Value)]) -> Given {
    let kwargs: Map = kwargs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let spec = executor.tasks().remove(0);
    let invocation = Invocation::new(spec.name.clone(), TaskId::from("id-1"), args, &kwargs).unwrap();
    let (orders, heard) = watch::channel(Order::Run);
    let (to, progress) = mpsc::channel(64);
    let limits = spec.time_limit;
    let invocation = Arc::new(invocation);
    let job = Job {
        invocation,
        spec,
        queue: "q".into(),
        attempt: 2,
        limits,
        deadline: None,
        orders: heard,
        progress: to,
        early: mpsc::channel(1).0,
    };
    Given { job, orders, progress }
}

async fn run(executor: &CommandExecutor, job: Job) -> Outcome {
    let mut slot = executor.open(Opening::default()).await.unwrap();
    tokio::time::timeout(GENEROUS, slot.run(job)).await.expect("the run ends").expect("the slot lives")
}

async fn outcome(executor: &CommandExecutor, args: &[Value], kwargs: &[(&str, Value)]) -> Outcome {
    run(executor, job(executor, args, kwargs).job).await
}

fn success(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Success { value, .. } => value,
        other => panic!("{other:?}"),
    }
}

fn failure(outcome: Outcome) -> TaskError {
    match outcome {
        Outcome::Failure(error) => error,
        other => panic!("{other:?}"),
    }
}

/// The next state of its own that a command reports.
async fn reported(progress: &mut mpsc::Receiver<Progress>) -> Value {
    tokio::time::timeout(GENEROUS, progress.recv()).await.expect("progress comes").expect("the run lives").meta
}

/// A process that is held on to, so that its number cannot come to mean another.
struct Watched(OwnedFd);

impl Watched {
    fn new(pid: i64) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("the process runs"))
    }

    async fn ends(self) {
        let end = move || {
            let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
            poll(&mut descriptors, Some(&Timespec::try_from(GENEROUS).unwrap())).unwrap()
        };
        assert_eq!(tokio::task::spawn_blocking(end).await.unwrap(), 1, "the process ends");
    }
}

/// Starts a child, a grandchild and a daemon that leaves the group and the session, and reports all four numbers. A daemon's
/// number comes from the daemon itself, so that it has left by then.
const FAMILY: &str = r#"
exec 3>&$UMBEL_PROGRESS_FD
sleep 1000 & child=$!
sh -c 'sleep 1000 & echo $! ; wait' > "$1" &
while ! [ -s "$1" ]; do :; done
setsid sh -c 'echo $$ > "$0"; exec sleep 1000' "$2" < /dev/null &
while ! [ -s "$2" ]; do :; done
echo "{\"meta\": [$$, $child, $(cat "$1"), $(cat "$2")]}" >&3
"#;

/// A command of [`FAMILY`] and then `rest`, in a directory for its notes.
fn family(dir: &Path, rest: &str, options: &str) -> CommandExecutor {
    let script = as_word(&format!("{FAMILY}{rest}"));
    let (child, daemon) = (dir.join("child"), dir.join("daemon"));
    let words = format!("[\"/bin/sh\", \"-c\", {script:?}, \"sh\", {child:?}, {daemon:?}]");
    executor(&format!("[tasks.t]\ncommand = {words}\n{options}\n")).0
}

fn numbers(meta: &Value) -> Vec<i64> {
    meta.as_list().unwrap().iter().filter_map(Value::as_i64).collect()
}
