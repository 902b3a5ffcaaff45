//! What every verb has in common: help, version, errors, exit codes, output.

use super::{node, umbel};

#[test]
fn without_arguments_it_says_what_to_try() {
    let ran = node().run();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.starts_with(&format!("umbel {}: runs tasks", env!("CARGO_PKG_VERSION"))), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\nTry:  node demo\n      node --help\n"), "{}", ran.stdout);
    for verb in umbel::cli::grammar().get_subcommands() {
        let line = format!("  {:<11} {}\n", verb.get_name(), verb.get_about().unwrap());
        assert!(ran.stdout.contains(&line), "{line:?} is not in\n{}", ran.stdout);
    }
}

#[test]
fn both_programs_are_the_same_under_their_own_names() {
    let (a, b) = (node().args(["--help"]).run(), umbel().args(["--help"]).run());
    assert_eq!((a.code, b.code), (Some(0), Some(0)));
    assert_eq!(a.stdout.replace("Usage: node", "Usage: umbel"), b.stdout);
    assert!(umbel().run().stdout.contains("Try:  umbel demo\n"));
}

#[test]
fn the_version_has_two_forms() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(node().args(["version"]).run().stdout, format!("umbel {version}\n"));
    assert_eq!(node().args(["--version"]).run().stdout, format!("node {version}\n"));
    let json: serde_json::Value = serde_json::from_str(&node().args(["version", "-o", "json"]).run().stdout).unwrap();
    assert_eq!(json, serde_json::json!({ "name": "umbel", "version": version }));
    assert_eq!(node().args(["--json", "version"]).run().stdout, node().args(["-o", "json", "version"]).run().stdout);
}

/// Wrong usage ends with 2, says what is wrong and what was meant, and prints nothing on standard output.
#[test]
fn wrong_usage_is_explained() {
    for (args, words) in [
        (&["dmeo"][..], &["unrecognized subcommand 'dmeo'", "'demo'"][..]),
        (&["demo", "--topp", "3"], &["unexpected argument '--topp'", "'--top'"]),
        (&["demo", "--top", "many"], &["invalid value 'many' for '--top <N>'"]),
        (&["-o", "xml", "version"], &["invalid value 'xml'", "text, json"]),
        (&["demo", "a", "b"], &["unexpected argument 'b'"]),
    ] {
        let ran = node().args(args).run();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{args:?}: {word:?} is not in\n{}", ran.stderr);
        }
        assert!(ran.stderr.starts_with("error: "), "{args:?}: {}", ran.stderr);
    }
}

/// Colours go to terminals, and elsewhere only when they are asked for.
#[test]
fn colours_obey_the_environment() {
    let coloured = |call: umbel_tests::program::Call| call.args(["demo", "/nowhere"]).run().stderr.contains("\x1b[");
    assert!(!coloured(node()));
    assert!(coloured(node().env("CLICOLOR_FORCE", "1")));
    assert!(!coloured(node().env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1")));
    assert!(!coloured(node().env("CLICOLOR_FORCE", "1").args(["-C"])));
}
