//! One direction: tests → node → scheduler → proto.

use toml::{Table, Value};

use super::{Tree, finds, holds};

/// What each crate may use of the others.
const MAY_USE: [(&str, &[&str]); 5] = [
    ("proto", &[]),
    ("scheduler", &["umbel-proto"]),
    ("node", &["umbel-macros", "umbel-proto", "umbel-scheduler"]),
    ("node/macros", &[]),
    ("tests", &["umbel", "umbel-proto", "umbel-scheduler"]),
];

/// What a pure crate may not use: clocks, randomness, I/O, threads, async.
const IMPURE: [&str; 20] = [
    "tokio",
    "tokio-util",
    "futures",
    "async-trait",
    "async-std",
    "smol",
    "mio",
    "rand",
    "rand_core",
    "fastrand",
    "getrandom",
    "jiff",
    "chrono",
    "time",
    "redb",
    "reqwest",
    "hyper",
    "socket2",
    "rayon",
    "crossbeam",
];

fn dependencies(manifest: &Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut collect = |kind: &str, table: Option<&Value>| {
        for (name, details) in table.and_then(Value::as_table).into_iter().flatten() {
            let package = details.get("package").and_then(Value::as_str).unwrap_or(name);
            found.push((kind.to_owned(), package.to_owned()));
        }
    };
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        collect(kind, manifest.get(kind));
        for (_, target) in manifest.get("target").and_then(Value::as_table).into_iter().flatten() {
            collect(kind, target.get(kind));
        }
    }
    found
}

fn layers(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.ending("Cargo.toml") {
        let manifest: Table = text.parse().expect("cargo has read this manifest");
        // A fuzz target is a workspace of its own beside the crate it feeds.
        let Some(folder) = path.strip_suffix("/Cargo.toml").filter(|folder| !folder.ends_with("/fuzz")) else { continue };
        let Some((_, may_use)) = MAY_USE.iter().find(|(krate, _)| *krate == folder) else {
            broken.push(format!("{path}: no rule says what {folder} may use"));
            continue;
        };
        for (kind, name) in dependencies(&manifest) {
            if (name == "umbel" || name.starts_with("umbel-")) && !may_use.contains(&name.as_str()) {
                broken.push(format!("{path}: {kind}: {folder} must not use {name}"));
            }
            if ["proto", "scheduler"].contains(&folder) && kind != "dev-dependencies" && impure(folder, &name) {
                broken.push(format!("{path}: {kind}: {folder} is pure and must not use {name}"));
            }
        }
    }
    broken
}

/// `proto` reads and writes dates and `scheduler` knows when schedules are due, so they may use a calendar; they ask no clock, and
/// time zones, which are files, are handed in (`scheduler/clippy.toml`).
fn impure(folder: &str, name: &str) -> bool {
    IMPURE.contains(&name) && !(["proto", "scheduler"].contains(&folder) && name == "jiff")
}

/// The workspace's crates are where the rules expect them: a crate that moved would be checked by nothing.
fn known(tree: &Tree) -> Vec<String> {
    let crates = MAY_USE.iter().map(|(folder, _)| format!("{folder}/Cargo.toml"));
    crates.filter(|manifest| !tree.has(manifest)).map(|manifest| format!("{manifest} is not there")).collect()
}

#[test]
fn dependencies_point_one_way() {
    holds(layers);
    holds(known);
}

#[test]
fn the_rule_sees_every_kind_of_dependency() {
    finds(
        layers,
        &[
            ("Cargo.toml", "[workspace.dependencies]\numbel = { path = \"node\" }\n"),
            ("proto/Cargo.toml", "[dev-dependencies]\numbel-scheduler = \"1\"\ntokio = \"1\"\n"),
            ("scheduler/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nclock = { package = \"tokio\", version = \"1\" }\n"),
            ("node/Cargo.toml", "[dependencies]\numbel-proto = \"1\"\n[build-dependencies.umbel-tests]\nversion = \"1\"\n"),
            ("extra/Cargo.toml", ""),
        ],
        &["what extra may use", "umbel-tests", "umbel-scheduler", "scheduler is pure and must not use tokio"],
    );
    finds(known, &[("proto/Cargo.toml", "")], &["scheduler", "node/Cargo.toml", "node/macros", "tests"]);
}
