//! Nothing that a command started outlives its run, its slot, its keeper or its node.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use rustix::process::{Signal, kill_process};

use super::*;

#[tokio::test]
async fn nothing_outlives_the_run() {
    let dir = tempfile::tempdir().unwrap();
    // The last line keeps the command until the test holds on to its family.
    let executor = family(dir.path(), "read line < \"$1.go\"; echo done", "");
    let fifo = dir.path().join("child.go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let mut given = job(&executor, &[], &[]);
    let watch = async {
        let family: Vec<Watched> = numbers(&reported(&mut given.progress).await).into_iter().map(Watched::new).collect();
        tokio::task::spawn_blocking(move || std::fs::write(fifo, "go\n")).await.unwrap().unwrap();
        family
    };
    let (outcome, family) = tokio::join!(run(&executor, given.job), watch);
    assert_eq!(success(outcome), Value::from("done"));
    assert_eq!(family.len(), 4);
    for process in family {
        process.ends().await;
    }
}

#[tokio::test]
async fn nothing_outlives_the_slot() {
    let dir = tempfile::tempdir().unwrap();
    let executor = family(dir.path(), "wait", "");
    let mut given = job(&executor, &[], &[]);
    let running = tokio::spawn(async move { run(&executor, given.job).await });
    let family: Vec<Watched> = numbers(&reported(&mut given.progress).await).into_iter().map(Watched::new).collect();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    for process in family {
        process.ends().await;
    }
}

#[tokio::test]
async fn a_revoke_reaches_the_whole_family() {
    let dir = tempfile::tempdir().unwrap();
    let executor = family(dir.path(), "wait", "");
    let mut given = job(&executor, &[], &[]);
    let watch = async {
        let family: Vec<Watched> = numbers(&reported(&mut given.progress).await).into_iter().map(Watched::new).collect();
        given.orders.send_replace(Order::Terminate);
        family
    };
    let (outcome, family) = tokio::join!(run(&executor, given.job), watch);
    assert_eq!(outcome, Outcome::Revoked { terminated: true, signal: Some(15) });
    for process in family {
        process.ends().await;
    }
}

/// Not a test by itself: the node of [`nothing_outlives_the_node`], which runs a command and passes its family's numbers on.
#[test]
fn node_process() {
    if std::env::args_os().next().is_none_or(|name| name != "umbel-test-node") {
        return;
    }
    let dir = std::env::current_dir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let executor = family(&dir, "wait", "");
        let mut given = job(&executor, &[], &[]);
        let tell = async {
            let family = numbers(&reported(&mut given.progress).await);
            let family: Vec<String> = family.iter().map(ToString::to_string).collect();
            std::fs::write(dir.join("told"), format!("{}\n", family.join(" "))).unwrap();
        };
        tokio::join!(run(&executor, given.job), tell)
    });
}

#[tokio::test]
async fn nothing_outlives_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("told");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let mut node = Command::new("/proc/self/exe");
    node.arg0("umbel-test-node").args(["executors::command::tests::death::node_process", "--exact"]).current_dir(dir.path());
    let mut node = node.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let told = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(std::fs::File::open(fifo).unwrap()).read_line(&mut line).unwrap();
        line
    });
    let line = tokio::time::timeout(GENEROUS, told).await.expect("the node runs its command").unwrap();
    let family: Vec<Watched> = line.split_whitespace().map(|number| Watched::new(number.parse().unwrap())).collect();
    assert_eq!(family.len(), 4);
    node.kill().unwrap();
    node.wait().unwrap();
    for process in family {
        process.ends().await;
    }
}

/// The keeper's death is seen, and what it kept is killed from outside as far as its group goes.
#[tokio::test]
async fn the_keepers_death_is_an_outcome() {
    let executor = script("echo \"{\\\"meta\\\": [$$, $PPID]}\" >&$UMBEL_PROGRESS_FD; sleep 1000 & wait", "");
    let mut given = job(&executor, &[], &[]);
    let kill = async {
        let numbers = numbers(&reported(&mut given.progress).await);
        let command = Watched::new(numbers[0]);
        kill_process(Pid::from_raw(i32::try_from(numbers[1]).unwrap()).unwrap(), Signal::KILL).unwrap();
        command
    };
    let (outcome, command) = tokio::join!(run(&executor, given.job), kill);
    assert_eq!(outcome, Outcome::WorkerLost { detail: "the keeper of the command died".to_owned() });
    command.ends().await;
}

/// Signals that end a node by its supervisor's hand leave the keeper alone: the command may use the node's drain.
#[tokio::test]
async fn the_keeper_passes_over_signals() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let executor = script(&format!("echo \"{{\\\"meta\\\": [$PPID]}}\" >&$UMBEL_PROGRESS_FD; cat {fifo:?}"), "");
    let mut given = job(&executor, &[], &[]);
    let signals = async {
        let keeper = numbers(&reported(&mut given.progress).await)[0];
        let keeper = Pid::from_raw(i32::try_from(keeper).unwrap()).unwrap();
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
            kill_process(keeper, signal).unwrap();
        }
        tokio::task::spawn_blocking(move || std::fs::write(fifo, "finished")).await.unwrap().unwrap();
    };
    let (outcome, ()) = tokio::join!(run(&executor, given.job), signals);
    assert_eq!(success(outcome), Value::from("finished"));
}
