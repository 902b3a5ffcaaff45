//! How files are cut, and what stands at the top of them.

use super::{
    Tree, finds, holds,
    tree::{code_lines, is_test},
};

/// Lines of a source file, its inline tests aside. Beyond that it has two owners of state, and wants to be two files.
const LINES_MAX: usize = 500;

/// Lines of an inline test module. Beyond that it wants a `tests.rs` of its own.
const INLINE_TEST_LINES_MAX: usize = 80;

/// What the top of the repository may hold. Dot-files come on top of it.
const TOP: [&str; 14] = [
    "Cargo.lock",
    "Cargo.toml",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "deploy",
    "node",
    "proto",
    "scheduler",
    "tests",
];

/// What the essay of a seam speaks about: who writes one, what it promises, what bounds it, what happens when it dies, and
/// where the proof is.
const SEAM_POINTS: [&str; 5] = ["contributor writes", "promise", "bounds it", "dies", "tests/src/conformance/"];

/// What the essay of an actor speaks about.
const ACTOR_POINTS: [&str; 5] = ["owns", "sends to it", "sends on", "bounds it", "dies"];

fn length(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let lines = code_lines(text).len();
        if lines > LINES_MAX {
            broken.push(format!("{path} has {lines} lines without tests, {LINES_MAX} are allowed"));
        }
        let inline = text.lines().count() - lines;
        if !is_test(path) && inline > INLINE_TEST_LINES_MAX {
            broken.push(format!("{path} has {inline} lines of inline tests, {INLINE_TEST_LINES_MAX} are allowed"));
        }
    }
    broken
}

fn essay(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with("//!"));
    lines.map(|line| line.trim_start_matches("//!")).collect::<Vec<_>>().join(" ").to_lowercase()
}

fn essays(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    // What a `tests.rs` is, its name and its neighbour say.
    for (path, text) in tree.ending(".rs").filter(|(path, _)| !path.ends_with("/tests.rs")) {
        let essay = essay(text);
        if essay.trim().is_empty() {
            broken.push(format!("{path} does not say in its first lines what it is"));
            continue;
        }
        for point in points(path) {
            if !essay.contains(point) {
                broken.push(format!("{path}: its essay does not say {point:?}"));
            }
        }
    }
    broken
}

fn points(path: &str) -> &'static [&'static str] {
    match path.strip_prefix("node/src/").unwrap_or_default().split('/').collect::<Vec<_>>()[..] {
        ["brokers" | "backends" | "ledgers" | "executors" | "schedules", "mod.rs"] => &SEAM_POINTS,
        ["actors", "supervisor.rs" | "consumer.rs" | "gate.rs" | "pool.rs" | "slot.rs" | "aggregator.rs" | "beat.rs"] => &ACTOR_POINTS,
        ["actors", actor, "mod.rs"] if actor != "tests" => &ACTOR_POINTS,
        _ => &[],
    }
}

fn top(tree: &Tree) -> Vec<String> {
    let mut names: Vec<&str> = tree.files().filter_map(|(path, _)| path.split('/').next()).collect();
    names.dedup();
    names.retain(|name| !name.starts_with('.') && !TOP.contains(name));
    names.into_iter().map(|name| format!("{name} has no place at the top")).collect()
}

#[test]
fn files_are_short() {
    holds(length);
}

#[test]
fn long_files_are_seen() {
    let long = "fn f() {}\n".repeat(LINES_MAX + 1);
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(LINES_MAX), "    fn t() {}\n".repeat(78));
    finds(length, &[("node/src/a.rs", &long), ("node/src/b.rs", &tested)], &["a.rs has 501", "b.rs has 81 lines of inline tests"]);
}

#[test]
fn every_file_says_what_it_is() {
    holds(essays);
}

#[test]
fn silent_files_are_seen() {
    let seam = "//! What a contributor writes. What it must promise. What bounds it. When it dies.\n";
    let actor =
        "//! It owns a heap; the pool sends to it and it\n//! sends on to the gate. Nothing bounds it. When it dies, it is restarted.\n";
    finds(
        essays,
        &[("node/src/actors/gate.rs", actor), ("node/src/brokers/mod.rs", seam), ("node/src/c.rs", "fn f() {}\n//! late\n")],
        &["brokers/mod.rs: its essay does not say \"tests/src/conformance/\"", "node/src/c.rs does not say"],
    );
    finds(essays, &[("node/src/actors/pool.rs", "//! Owns. Sends to it. Sends on. Bounds it.\n")], &["dies"]);
}

#[test]
fn the_top_is_the_agreed_one() {
    holds(top);
}

#[test]
fn strangers_at_the_top_are_seen() {
    finds(top, &[(".github/x", ""), ("README.md", ""), ("docs/a.md", ""), ("docs/b.md", ""), ("notes.txt", "")], &["docs", "notes.txt"]);
}
