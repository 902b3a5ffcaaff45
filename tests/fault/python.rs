//! Python processes that are killed, and nodes that are killed with Python processes.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use umbel::{
    executors::{
        Executor, Opening, Order,
        python::{PythonExecutor, PythonOptions},
    },
    proto::{Outcome, Value},
};
use umbel_tests::{
    conformance::executor::job,
    python,
    servers::redis::RedisServer,
    wait::{soon, until},
};

/// How many processes are killed; `UMBEL_HARD_KILLS=500` for the bigger run.
fn kills() -> usize {
    std::env::var("UMBEL_HARD_KILLS").map_or(40, |text| text.parse().expect("UMBEL_HARD_KILLS is a number"))
}

/// The parent and the state of each process there is.
fn processes() -> Vec<(u32, u32, char)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        Some((pid, fields.next().map(|state| state.chars().next())??, fields.next()?.parse().ok()?))
    })
    .map(|(pid, state, parent): (u32, char, u32)| (pid, parent, state))
    .collect()
}

/// Everything that comes from `root`, living or not waited for.
fn descendants(root: u32) -> BTreeSet<u32> {
    let all = processes();
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> =
            all.iter().filter(|(pid, parent, _)| found.contains(parent) && !found.contains(pid)).map(|(pid, ..)| *pid).collect();
        if more.is_empty() {
            found.remove(&root);
            return found;
        }
        found.extend(more);
    }
}

fn is_alive(pid: u32) -> bool {
    processes().iter().any(|(found, _, state)| *found == pid && *state != 'Z')
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Goal: tasks that have to be killed leave no process and no descriptor behind, and their slot goes on. Method: the same slot,
/// killed again and again in a task that is deaf to everything; then what is there is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hard_kills_leave_nothing_behind() {
    let mut options = PythonOptions::new("python_app", python::interpreter("5.7"));
    options.directory = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"));
    options.keeps_states = true;
    let (executor, _) = PythonExecutor::start(options).await.unwrap();
    let mut slot = soon("a slot", executor.open(Opening::default())).await.unwrap();
    let mut settled = None;
    for round in 0..kills() {
        let (stubborn, mut ends) = job(&executor, "conformance.stubborn", &[]);
        let (outcome, ()) = tokio::join!(soon("the run to end", slot.run(stubborn)), async {
            ends.waiting().await;
            ends.orders.send(Order::Terminate).unwrap();
        });
        assert!(matches!(outcome.unwrap(), Outcome::Revoked { terminated: true, .. }));
        let (add, _ends) = job(&executor, "conformance.add", &[Value::Int(1), Value::Int(2)]);
        assert!(matches!(soon("the next run", slot.run(add)).await.unwrap(), Outcome::Success { value: Value::Int(3), .. }));
        // From then on there is a spare: the state that has to stay.
        if round == 2 {
            settled = Some(until("the killed ones are gone", || {
                let found = descendants(std::process::id()).len();
                (found <= 4).then(|| (found, descriptors()))
            }));
        }
    }
    let (processes, open) = settled.unwrap();
    until("no process is left over", || (descendants(std::process::id()).len() <= processes).then_some(()));
    until("no descriptor is left over", || (descriptors() <= open + 4).then_some(()));
    drop(slot);
    soon("the processes to end", executor.end()).await;
    assert_eq!(descendants(std::process::id()), BTreeSet::new());
}

/// A node with the tasks of `fault/python_tasks.py`, and two processes; it writes into a log of its name.
pub(super) fn command(server: &RedisServer, home: &Path, name: &str) -> Command {
    let log = fs::File::create(home.join(format!("{name}.log"))).unwrap();
    let venv = python::program("5.6").parent().unwrap().parent().unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-under-test"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", home)
        .env("VIRTUAL_ENV", venv)
        .env("BROKER", server.url(0))
        .env("RUNS", home.join("runs"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fault"))
        .args(["-A", "python_tasks", "-c", "2", "-n", name, "--listen", "127.0.0.1:0", "--no-dotenv", "--drain-timeout", "30s"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command
}

fn node(server: &RedisServer, home: &Path, name: &str) -> std::process::Child {
    command(server, home, name).spawn().unwrap()
}

/// Shows what the nodes have said when their test fails.
pub(super) struct Logs<'a>(pub(super) &'a Path);

impl Drop for Logs<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["first@test", "second@test", "only@test"] {
                let log = fs::read_to_string(self.0.join(format!("{name}.log"))).unwrap_or_default();
                eprintln!("{name}: {log}");
            }
        }
    }
}

pub(super) fn runs(home: &Path) -> Vec<String> {
    fs::read_to_string(home.join("runs")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn count(home: &Path, word: &str) -> usize {
    runs(home).iter().filter(|line| line.starts_with(word)).count()
}

fn submit(server: &RedisServer, task: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let ran = Command::new(env!("CARGO_BIN_EXE_node-under-test"))
            .env_clear()
            .args(["-b", &server.url(0), "call", task, &number.to_string(), "--no-dotenv"])
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

pub(super) fn kill(pid: u32, signal: &str) {
    assert!(Command::new("sh").args(["-c", &format!("kill -s {signal} {pid}")]).status().unwrap().success());
}

/// Ends a node as it should be ended.
fn finish(mut node: std::process::Child) {
    kill(node.id(), "TERM");
    assert_eq!(until("the node ends", || node.try_wait().unwrap()).code(), Some(0));
}

/// Goal: SIGTERM while tasks run loses nothing and doubles nothing, and the processes end with the node.
#[test]
fn sigterm_lets_python_tasks_finish() {
    let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let home = home.path();
    let _logs = Logs(home);
    let mut first = node(&server, home, "first@test");
    submit(&server, "work", 0..12);
    until("tasks run", || (count(home, "begin") >= 2).then_some(()));
    let family = descendants(first.id());
    kill(first.id(), "TERM");
    let status = until("the node ends", || first.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(count(home, "begin"), count(home, "end"), "what had begun has ended");
    until("its processes are gone", || family.iter().all(|pid| !is_alive(*pid)).then_some(()));
    let second = node(&server, home, "second@test");
    until("everything is done", || (count(home, "end") >= 12).then_some(()));
    finish(second);
    let ended: BTreeSet<String> = runs(home).into_iter().filter(|line| line.starts_with("end")).collect();
    assert_eq!((count(home, "end"), ended.len()), (12, 12), "{:?}", runs(home));
}

/// Goal: SIGKILL of a node takes its processes and what they have started along, and its tasks run elsewhere.
#[test]
fn processes_die_with_their_node() {
    let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let home = home.path();
    let _logs = Logs(home);
    let mut first = node(&server, home, "first@test");
    submit(&server, "with_child", 0..1);
    until("it has started a process of its own", || (count(home, "child") == 1).then_some(()));
    let family = descendants(first.id());
    assert!(family.len() >= 4, "a template, two processes, and what the task has started: {family:?}");
    kill(first.id(), "KILL");
    first.wait().unwrap();
    until("its processes are gone", || family.iter().all(|pid| !is_alive(*pid)).then_some(()));
    let mut second = node(&server, home, "second@test");
    until("the task runs again", || (count(home, "child") == 2).then_some(()));
    kill(second.id(), "KILL");
    second.wait().unwrap();
}

/// Goal: a role runs an application on threads of one process if it says so, and replaces processes that grow beyond its memory.
#[test]
fn roles_choose_threads_and_memory() {
    for (executor, resources, processes) in [("threads", "", 1), ("prefork", "memory = \"1 MiB\"\n", 4)] {
        let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
        let home = home.path();
        let _logs = Logs(home);
        let file = home.join("umbel.toml");
        fs::write(&file, format!("[roles.own]\nqueues = [\"celery\"]\nexecutor = \"{executor}\"\n{resources}")).unwrap();
        let node = command(&server, home, "only@test").args(["--role", "own", "--config"]).arg(file).spawn().unwrap();
        submit(&server, "where", 0..4);
        until("everything has run", || (count(home, "where") >= 4).then_some(()));
        let (mut pids, mut threads) = (BTreeSet::new(), BTreeSet::new());
        for line in runs(home) {
            let [_, pid, thread] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            pids.insert(pid.to_owned());
            threads.insert(thread.split('_').next().unwrap().to_owned());
        }
        let thread = if executor == "threads" { "umbel" } else { "MainThread" };
        assert_eq!((pids.len(), threads), (processes, BTreeSet::from([thread.to_owned()])), "{executor}: {:?}", runs(home));
        finish(node);
    }
}

/// Goal: a process that somebody kills loses nothing: its task runs again. Method: each task is killed on its first run.
#[test]
fn killed_processes_lose_nothing() {
    let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let home = home.path();
    let _logs = Logs(home);
    let node = node(&server, home, "only@test");
    submit(&server, "killed_once", 0..4);
    until("everything is done", || (count(home, "end") >= 4).then_some(()));
    assert_eq!((count(home, "begin"), count(home, "end")), (8, 4), "{:?}", runs(home));
    finish(node);
}

/// Goal: a process that is killed while it calls errbacks has failed as it had said: its task does not run again, and the errbacks that
/// were not called are tasks.
#[test]
fn errbacks_outlive_their_process() {
    let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let home = home.path();
    let _logs = Logs(home);
    let node = node(&server, home, "only@test");
    submit(&server, "dooms", 0..1);
    until("all errbacks are called", || (count(home, "told") >= 3).then_some(()));
    let mut runs = runs(home);
    runs.sort();
    assert_eq!(runs, ["begin 0", "told 0 ValueError FAILURE", "told 1 ValueError FAILURE", "told 2 ValueError FAILURE"]);
    finish(node);
}

/// Goal: a task whose process takes so much memory that the kernel kills it runs again, and others do not notice. Method: this test
/// does what the kernel does: it kills the largest process, from outside and without a word.
#[test]
fn what_is_killed_for_its_memory_runs_again() {
    let (server, home) = (RedisServer::default(), tempfile::tempdir().unwrap());
    let home = home.path();
    let _logs = Logs(home);
    let node = node(&server, home, "only@test");
    submit(&server, "hungry", 0..1);
    let resident = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
    };
    let family = until("a process has taken much", || {
        let family = descendants(node.id());
        family.iter().any(|pid| resident(*pid) > 150_000).then_some(family)
    });
    let largest = family.into_iter().max_by_key(|pid| resident(*pid)).unwrap();
    kill(largest, "KILL");
    submit(&server, "work", 0..2);
    until("everything is done", || (count(home, "end") >= 3).then_some(()));
    assert_eq!((count(home, "begin 0 "), count(home, "begin"), count(home, "end")), (2, 4, 3), "{:?}", runs(home));
    finish(node);
}
