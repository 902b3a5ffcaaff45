//! A node that is killed again and again, at random instants, with SIGKILL.
//!
//! The real store, pipeline and tasks are in a process of their own (`crash-node`). In each round it is started, submits its
//! share of the work, and is killed after a random time: while it opens the store, submits, runs, commits or idles. After the
//! last round a node finishes what is left. What happened is then read from two sides that know nothing of each other: a file
//! the tasks append to, one system call a line, and the results in the store.
//!
//! `UMBEL_CRASH_ROUNDS` and `UMBEL_CRASH_SEED` set how often and when.

pub(crate) mod verdict;

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use umbel_tests::{
    servers::{rabbit::Vhost, redis::RedisServer},
    wait,
};

use self::verdict::{Ledger, Watcher};

/// How often the node is killed.
const ROUNDS: u64 = 100;

/// How often it is killed on Redis.
const ROUNDS_REDIS: u64 = 30;

/// How often it is killed on RabbitMQ.
const ROUNDS_AMQP: u64 = 15;

/// Units of work for each round: one of each kind, 24 tasks.
const UNITS_PER_ROUND: u64 = 9;

/// The longest life of a node. About what a round's share takes, so that about half of the kills hit work.
const LIFE_MAX: Duration = Duration::from_millis(300);

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn life(&mut self) -> Duration {
        LIFE_MAX.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

fn setting(name: &str, default: impl FnOnce() -> u64) -> u64 {
    env::var(name).map_or_else(|_| default(), |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

fn start(folder: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash-node"));
    command.arg(args[0]).arg(folder).args(&args[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(fs::File::options().create(true).append(true).open(folder.join("errors")).unwrap());
    command.spawn().unwrap()
}

/// Nothing that was accepted is lost, nothing is finished twice, every chord is concluded once, whenever the node is killed.
#[test]
fn killed_nodes_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = setting("UMBEL_CRASH_ROUNDS", || ROUNDS);
    let verdict = kill(folder.path(), rounds);
    verdict.assert(rounds >= ROUNDS);
}

/// The same on Redis, where what the dead held comes back when their leases end.
#[test]
fn killed_nodes_lose_nothing_on_redis() {
    let server = RedisServer::durable();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(umbel_tests::crash::REDIS), format!("{}\n{}", server.url(0), server.url(1))).unwrap();
    kill(folder.path(), setting("UMBEL_CRASH_REDIS_ROUNDS", || ROUNDS_REDIS)).assert(false);
}

/// The same on RabbitMQ with results in Redis, where messages come back when connections end, and an ending is several steps.
#[test]
fn killed_nodes_lose_nothing_on_rabbitmq() {
    let (vhost, redis) = (Vhost::new(), RedisServer::durable());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(umbel_tests::crash::REDIS), format!("{}\n{}", vhost.url(), redis.url(1))).unwrap();
    kill(folder.path(), setting("UMBEL_CRASH_AMQP_ROUNDS", || ROUNDS_AMQP)).assert(false);
}

fn kill(folder: &Path, rounds: u64) -> verdict::Verdict {
    let seed = setting("UMBEL_CRASH_SEED", || u64::from(std::process::id()));
    eprintln!("UMBEL_CRASH_SEED={seed} UMBEL_CRASH_ROUNDS={rounds}");
    let mut dice = Dice(seed);
    let mut watcher = Watcher::new(folder);
    let begun = Instant::now();
    for round in 0..rounds {
        // What was being submitted when the last node was killed may be there or not; it is not submitted again.
        let from = Ledger::read(folder).next_unit();
        let to = (round + 1) * UNITS_PER_ROUND;
        let mut child = start(folder, &["run", &round.to_string(), &from.to_string(), &to.to_string()]);
        // Every fourth is killed while it opens its stores; the life of others counts from their first submission, however slow the
        // machine is.
        if !dice.next().is_multiple_of(4) {
            wait::until("the node submits", || {
                (Ledger::read(folder).next_unit() > from || child.try_wait().unwrap().is_some()).then_some(())
            });
        }
        thread::sleep(dice.life()); // workload: the instant of the kill is what is random here
        assert!(child.try_wait().unwrap().is_none(), "the node ended by itself: {}", errors(folder));
        child.kill().unwrap();
        child.wait().unwrap();
        watcher.look(round);
    }
    let from = Ledger::read(folder).next_unit();
    let mut last = start(folder, &["drain", &rounds.to_string(), &from.to_string(), &(rounds * UNITS_PER_ROUND).to_string()]);
    let status = wait::until("a node has finished what was left", || last.try_wait().unwrap());
    assert!(status.success(), "{}", errors(folder));
    let verdict = watcher.verdict(rounds);
    println!("{rounds} kills in {:.1} s, seed {seed}: {verdict}", begun.elapsed().as_secs_f64());
    verdict
}

fn errors(folder: &Path) -> String {
    fs::read_to_string(folder.join("errors")).unwrap_or_default()
}
