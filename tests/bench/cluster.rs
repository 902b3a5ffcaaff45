//! A thousand nodes, simulated: what gossip costs each of them, how soon a death is noticed, who is wrongly thought dead.

use serde_json::json;
use umbel::gossip::{BYTES_PER_SECOND, GossipOptions, KeyRing};
use umbel_tests::simulation::{Plan, Told, run};

use crate::print;

/// Of fifty, of two hundred and of a thousand nodes; on a network that loses nothing, and on one that loses one datagram in twenty.
pub(crate) fn run_all() {
    let phi = GossipOptions::loopback(KeyRing::new("a secret of some length", [])).phi;
    for (nodes, pause) in [(5, 60_000), (50, 60_000), (200, 120_000), (1_000, 240_000)] {
        for loss in [0, 50] {
            let told = run(&Plan { nodes, pause, deaths: 3, loss, budget: BYTES_PER_SECOND, phi, seed: 1 });
            print(
                "cluster",
                json!({
                    "nodes": nodes, "lost_of_1000": loss, "simulated_secs": pause * 4 / 1_000,
                    "bytes_per_second": { "p50": Told::share(&told.bytes, 50), "max": told.bytes.last() },
                    "noticed_ms": { "p50": Told::share(&told.noticed, 50), "p99": Told::share(&told.noticed, 99), "max": told.noticed.last() },
                    "unnoticed": told.unnoticed, "false_verdicts": told.wrong, "doubts": told.doubts,
                    "broker_asked_a_minute": (told.asked_a_minute * 10.0).round() / 10.0,
                }),
            );
        }
    }
}
