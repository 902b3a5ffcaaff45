//! The rules of this project that a machine can check, as tests.
//!
//! A rule is a function from a [`Tree`] of files to the list of places that break it. Each is run on the workspace, which must
//! answer with nothing, and on a tiny tree that breaks it, so that a rule that has stopped looking is found out.

mod code;
mod docs;
mod layers;
mod modules;
mod shape;
mod tree;

use tree::Tree;

/// Fails with every place that breaks `rule` in the workspace.
#[track_caller]
fn holds(rule: fn(&Tree) -> Vec<String>) {
    let broken = rule(&Tree::workspace());
    assert!(broken.is_empty(), "{} places break this rule:\n  {}", broken.len(), broken.join("\n  "));
}

/// Fails unless `rule` finds exactly `expected` places in `files`, each of them named by the words given.
#[track_caller]
fn finds(rule: fn(&Tree) -> Vec<String>, files: &[(&str, &str)], expected: &[&str]) {
    let broken = rule(&Tree::of(files));
    assert_eq!(broken.len(), expected.len(), "expected {expected:?}, found {broken:?}");
    for (place, words) in broken.iter().zip(expected) {
        assert!(place.contains(words), "expected {words:?} in {place:?}");
    }
}
