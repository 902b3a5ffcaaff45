//! Five nodes of which one is always being killed or frozen, and three that are restarted one by one, while work comes in.
//!
//! `UMBEL_CHAOS_SECS`, `UMBEL_CHAOS_RATE` (tasks a second) and `UMBEL_CHAOS_EVERY` (seconds between two blows) make it bigger:
//! `make chaos` runs five minutes at 300 tasks a second with a blow every five seconds. `UMBEL_CHAOS_SEED` repeats a run.

use std::{env, thread, time::Duration};

use umbel_tests::{servers::redis::RedisServer, wait::until};

use super::{
    processes::{Cluster, now},
    rig::Ground,
};
use crate::fault::crash::verdict::{Verdict, Watcher};

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Waits for what is left and judges all of it.
fn judge(cluster: &Cluster, units: u64) -> Verdict {
    let end = units.to_string();
    let mut last = cluster.run(&["drain", "0", &end, &end]);
    let status = until("what was left is done", || last.try_wait().unwrap());
    assert!(status.success(), "{}", cluster.errors());
    Watcher::new(&cluster.path()).verdict(1)
}

/// Waits until all of `others` see `victim` as down that was killed at `at`; how many milliseconds it took each of them.
fn noticed(cluster: &Cluster, victim: &str, others: &[&str], at: u128) -> Vec<u128> {
    until("the others see it as down", || {
        let views = cluster.views();
        let first =
            |who: &str| views.iter().find(|(ms, looks, seen, state)| *ms >= at && looks == who && seen == victim && state == "down");
        others.iter().map(|who| Some(first(who)?.0 - at)).collect()
    })
}

/// Goal: whoever is killed or frozen, nothing is lost, nothing finished twice, every chord concluded once; and all others see that
/// a killed node is down.
fn kill_and_freeze(ground: &Ground) {
    let mut cluster = Cluster::on(&ground.urls());
    let names = ["n0", "n1", "n2", "n3", "n4"];
    names.iter().for_each(|name| cluster.start(name));
    cluster.formed(&names);
    let (secs, rate) = (setting("UMBEL_CHAOS_SECS", 12), setting("UMBEL_CHAOS_RATE", 40));
    let every = Duration::from_secs(setting("UMBEL_CHAOS_EVERY", 2));
    let mut dice = setting("UMBEL_CHAOS_SEED", u64::from(std::process::id()));
    eprintln!("UMBEL_CHAOS_SEED={dice} UMBEL_CHAOS_SECS={secs} UMBEL_CHAOS_RATE={rate}");
    let units = secs * rate * 9 / 24;
    let mut submitting = cluster.run(&["submit", "0", "0", &units.to_string(), &rate.to_string()]);
    let (mut blows, mut took) = (0, Vec::new());
    let status = loop {
        if let Some(status) = submitting.try_wait().unwrap() {
            break status;
        }
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let victim = names[(dice >> 33) as usize % names.len()];
        thread::sleep(every); // workload: the time between two blows
        blows += 1;
        if (dice >> 40).is_multiple_of(4) {
            // A zombie: it comes back when others have taken over what it held.
            cluster.signal(victim, "STOP");
            thread::sleep(Duration::from_millis(3_500)); // workload: longer than its lease
            cluster.signal(victim, "CONT");
            cluster.formed(&names);
            continue;
        }
        let at = now();
        cluster.kill(victim);
        let others: Vec<&str> = names.iter().copied().filter(|name| *name != victim).collect();
        took.extend(noticed(&cluster, victim, &others, at));
        cluster.start(victim);
        cluster.formed(&names);
    };
    assert!(status.success(), "{}", cluster.errors());
    let verdict = judge(&cluster, units);
    took.sort_unstable();
    let share = |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default();
    println!("{blows} blows in {secs} s at {rate} tasks/s: {verdict}");
    println!("down on all others: median {} ms, p99 {} ms, longest {} ms, of {}", share(50), share(99), share(100), took.len());
    verdict.assert(false);
    names.iter().for_each(|name| cluster.stop(name));
}

/// Goal: nodes that are restarted one after the other lose nothing and start nothing twice.
fn restart_one_by_one(ground: &Ground) {
    let mut cluster = Cluster::on(&ground.urls());
    let names = ["n0", "n1", "n2"];
    names.iter().for_each(|name| cluster.start(name));
    cluster.formed(&names);
    let (secs, rate) = (setting("UMBEL_CHAOS_SECS", 8), setting("UMBEL_CHAOS_RATE", 60));
    let units = secs * rate * 9 / 24;
    let mut submitting = cluster.run(&["submit", "0", "0", &units.to_string(), &rate.to_string()]);
    let mut restarts = 0;
    let status = loop {
        let ended = submitting.try_wait().unwrap();
        if let Some(status) = ended.filter(|_| restarts >= names.len()) {
            break status;
        }
        let name = names[restarts % names.len()];
        cluster.stop(name);
        let at = now();
        cluster.start(name);
        // The others may not yet have noticed that it was gone: what they see says little until its new life has heard them.
        until("it is back", || {
            let views = cluster.views();
            let hears =
                |who: &str| views.iter().any(|(ms, looks, seen, state)| *ms >= at && looks == name && seen == who && state == "alive");
            names.iter().all(|who| hears(who) && cluster.view(who, name).as_deref() == Some("alive")).then_some(())
        });
        restarts += 1;
    };
    assert!(status.success(), "{}", cluster.errors());
    let verdict = judge(&cluster, units);
    println!("{restarts} restarts in {secs} s at {rate} tasks/s: {verdict}");
    verdict.assert(false);
    assert_eq!(verdict.interrupted(), 0, "started twice: {verdict}");
    names.iter().for_each(|name| cluster.stop(name));
}

#[test]
fn nodes_that_are_killed_and_frozen_lose_nothing() {
    kill_and_freeze(&Ground::redis(RedisServer::durable()));
}

#[test]
fn nodes_that_are_killed_and_frozen_lose_nothing_on_rabbitmq() {
    kill_and_freeze(&Ground::rabbit());
}

#[test]
fn a_rolling_restart_is_not_noticed() {
    restart_one_by_one(&Ground::redis(RedisServer::durable()));
}

#[test]
fn a_rolling_restart_is_not_noticed_on_rabbitmq() {
    restart_one_by_one(&Ground::rabbit());
}
