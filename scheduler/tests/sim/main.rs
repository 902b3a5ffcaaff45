//! Deterministic simulation: several nodes over the pure core and a model of broker and ledger, in one thread and virtual time.
//!
//! A seed decides everything: the workflows, what goes wrong ([`plan`]), what happens to each request. For 40 s of virtual time
//! nodes crash and stand still, requests and answers are lost, doubled and late, the broker is away, clocks are wrong, executors
//! die; then all of it is healed, and what is left has to end. After every step the [`witness`] compares what happened with
//! what must hold ([`mutation::Invariant`]). The same seed gives the same run, on any machine.
//!
//! `UMBEL_SIM_SEEDS=10000` runs that many seeds instead of a few hundred, `UMBEL_SIM_SEED=42` one of them with its story.
//! A seed that fails becomes a test of its own, named after what it found.
//!
//! Not simulated: a client that repeats a submission of which it does not know whether it happened. Its workflow would run
//! twice, as it does with any broker; telling the two apart is the idempotency key's work.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod chords;
mod cluster;
mod dice;
mod mutation;
mod node;
mod plan;
mod store;
mod witness;
mod workload;

use std::env;

use cluster::{Cluster, Told};
use mutation::{Mutation, Violation};

/// How many seeds are run where nobody says how many.
const SEEDS: u64 = 300;
/// Within how many seeds a mutation has to be caught.
const CAUGHT_WITHIN: u64 = 200;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number of a seed")))
}

fn simulate(seed: u64, mutation: Option<Mutation>) -> Result<Told, Violation> {
    Cluster::new(seed, mutation, false).run()
}

/// Runs a seed; one that fails is run again, and tells its story.
fn must_hold(seed: u64) -> Told {
    match simulate(seed, None) {
        Ok(told) => told,
        Err(violation) => {
            let mut again = Cluster::new(seed, None, true);
            assert_eq!(again.run().err().as_ref(), Some(&violation), "seed {seed} was not the same twice");
            let story = again.story();
            panic!("{story}\nseed {seed}: {violation}\nreplay: UMBEL_SIM_SEED={seed} cargo test -p umbel-scheduler --test sim any_seed");
        }
    }
}

/// Goal: whatever goes wrong, everything holds at every step, and everything ends once nothing goes wrong any more.
#[test]
fn any_seed_keeps_every_promise() {
    if let Some(seed) = number("UMBEL_SIM_SEED") {
        must_hold(seed);
        let mut cluster = Cluster::new(seed, None, true);
        let told = cluster.run().unwrap();
        eprintln!("{}\n{told:?}", cluster.story());
        return;
    }
    let mut sum = Told::default();
    for seed in 0..number("UMBEL_SIM_SEEDS").unwrap_or(SEEDS) {
        let told = must_hold(seed);
        sum.steps += told.steps;
        sum.messages += told.messages;
        sum.chords += told.chords;
        sum.zombies += told.zombies;
        sum.losses += told.losses;
    }
    eprintln!("{sum:?}");
    assert!(sum.chords > 0 && sum.zombies > 0 && sum.losses > 0, "the seeds meet too little: {sum:?}");
}

/// Goal: a seed is enough to see a run again. Method: the stories of two runs are the same, line by line.
#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..3 {
        let stories = [(); 2].map(|()| {
            let mut cluster = Cluster::new(seed, None, true);
            cluster.run().unwrap();
            cluster.story()
        });
        assert_eq!(stories[0], stories[1], "seed {seed}");
    }
}

/// Goal: the witness sees what it is there for. Method: break one thing on purpose, and see that what it breaks is what is
/// found first, within a bounded number of seeds.
#[test]
fn every_mutation_is_caught_by_what_it_breaks() {
    let mut missed = Vec::new();
    for mutation in Mutation::ALL {
        let found = (0..CAUGHT_WITHIN).find_map(|seed| Some((seed, simulate(seed, Some(mutation)).err()?)));
        match found {
            Some((seed, violation)) if violation.invariant == mutation.breaks() => eprintln!("{mutation:?}: seed {seed}: {violation}"),
            found => missed.push(format!("{mutation:?} should break {:?}, found {found:?}", mutation.breaks())),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
