//! More nodes than one machine has room for, simulated. `bench cluster` has the figures for a thousand.

use umbel::gossip::BYTES_PER_SECOND;
use umbel_tests::simulation::{Plan, Told, run};

fn plan(nodes: usize) -> Plan {
    Plan { nodes, pause: 30_000, deaths: 3, loss: 50, budget: BYTES_PER_SECOND, phi: 5.0, seed: 7 }
}

/// Goal: in a cluster of a usual size deaths are noticed by all, soon, and nobody who lives is thought dead, although much is lost.
#[test]
fn deaths_are_noticed_and_nothing_else() {
    for nodes in [5, 30] {
        let told = run(&plan(nodes));
        assert_eq!((told.wrong, told.unnoticed), (0, 0), "{nodes}: {told:?}");
        let longest = *told.noticed.last().unwrap();
        assert!(longest < if nodes == 5 { 2_000 } else { 20_000 }, "{nodes}: {longest} ms");
    }
}

/// Goal: however many nodes there are, none of them says more than its budget, and nobody who renews is thought dead.
#[test]
fn many_more_are_no_louder() {
    let told = run(&Plan { pause: 15_000, deaths: 1, ..plan(200) });
    assert_eq!(told.wrong, 0);
    // One digest may be said on credit, and in half a minute it weighs something.
    let budget = u64::from(BYTES_PER_SECOND) * 3 / 2;
    assert!(told.bytes.iter().all(|bytes| *bytes < budget), "{:?}", told.bytes);
}

/// Goal: where gossip takes minutes to miss a node, the lease that has ended tells of it, to all of them within a few looks.
#[test]
fn leases_tell_where_there_are_too_many_to_hear() {
    let told = run(&Plan { pause: 40_000, deaths: 1, ..plan(150) });
    assert_eq!((told.wrong, told.unnoticed), (0, 0), "{told:?}");
    assert!(Told::share(&told.noticed, 50) < 8_000 && *told.noticed.last().unwrap() < 40_000, "{:?}", told.noticed);
}

/// Goal: a seed is enough to see a run again.
#[test]
fn a_seed_is_the_same_run_every_time() {
    let runs: Vec<Told> = (0..2).map(|_| run(&plan(10))).collect();
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], run(&Plan { seed: 8, ..plan(10) }));
}
