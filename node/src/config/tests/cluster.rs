//! How nodes meet.

use super::*;

fn mistakes(toml: &str) -> String {
    Given { toml, ..Given::default() }.errors()
}

#[test]
fn gossip_beyond_loopback_needs_a_secret() {
    let open = "[gossip]\nlisten = \"0.0.0.0:7946\"\n";
    assert!(mistakes(open).contains("gossip.listen"), "{}", mistakes(open));
    assert!(mistakes(open).contains("is open to the network without a secret"));
    let short = format!("{open}[cluster]\nsecret = \"short\"\n");
    assert!(mistakes(&short).contains("is shorter than 16 characters"));
    assert!(!mistakes(&short).contains("\"short\""), "secrets are not repeated");
    let seeds = "[gossip]\nseeds = [\"here\", \"10.0.0.1:7946\"]\n";
    assert!(mistakes(seeds).contains("has a seed without a port"));
    let toml = format!("{open}seeds = [\"node.example:7946\"]\n[cluster]\nsecret = \"a secret of some length\"\nold_secrets = [\"x\"]\n");
    let config = Given { toml: &toml, ..Given::default() }.config();
    assert_eq!((config.cluster.seeds.len(), config.cluster.old_secrets.len()), (1, 1));
    assert!(!format!("{config:?}").contains("of some length"));
    assert!(config.cluster.gossip);
    let off = Given { flags: &[("--without-gossip", "true")], ..Given::default() }.config();
    assert!(!off.cluster.gossip);
}
