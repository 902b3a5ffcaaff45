//! What source code may not contain.
//!
//! The words are put together from parts here, so that this file does not find itself.

use super::{
    Tree, finds, holds,
    tree::{code_lines, is_test},
};

/// The one file of the test code that lets time pass.
const WAITING: &str = "tests/src/wait.rs";

/// A line with this comment lets time pass because that is what is tested: the body of a task that runs long, not a wait.
const WORKLOAD: &str = "// workload";

/// Code without its line comments and without what stands in quotes.
fn bare(line: &str) -> String {
    let mut bare = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if quoted => {
                chars.next();
            }
            '\'' if chars.peek() == Some(&'"') => {
                chars.next();
            }
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if !quoted => bare.push(char),
            _ => {}
        }
    }
    bare
}

fn stubs(tree: &Tree) -> Vec<String> {
    let words = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];
    lines_with(tree, |_, line| words.into_iter().find(|word| bare(line).contains(word)))
}

fn notes(tree: &Tree) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut broken = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_ours(path)) {
        for (number, line) in text.lines().enumerate() {
            let mut parts = line.split(|c: char| !c.is_alphanumeric());
            if let Some(word) = parts.find(|part| words.contains(part)) {
                broken.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    broken
}

fn unwraps(tree: &Tree) -> Vec<String> {
    let word = concat!(".unw", "rap()");
    let mut broken = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| !is_test(path)) {
        for (number, line) in code_lines(text) {
            if bare(line).contains(word) {
                broken.push(format!("{path}:{number}: {word} outside tests"));
            }
        }
    }
    broken
}

fn sleeps(tree: &Tree) -> Vec<String> {
    let word = concat!("sle", "ep(");
    let mut broken = Vec::new();
    for (path, text) in tree.ending(".rs").filter(|(path, _)| *path != WAITING) {
        let code: Vec<usize> = if is_test(path) { Vec::new() } else { code_lines(text).into_iter().map(|(number, _)| number).collect() };
        for (number, line) in text.lines().enumerate().map(|(number, line)| (number + 1, line)) {
            if bare(line).contains(word) && !line.contains(WORKLOAD) && code.binary_search(&number).is_err() {
                broken.push(format!("{path}:{number}: a test waits for a condition ({WAITING}), never for time"));
            }
        }
    }
    broken
}

fn machines(tree: &Tree) -> Vec<String> {
    let places = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    let mut broken = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_ours(path)) {
        for (number, line) in text.lines().enumerate() {
            if let Some(place) = places.into_iter().find(|place| line.contains(place)) {
                broken.push(format!("{path}:{}: {place}… is a place on somebody's machine", number + 1));
            }
        }
    }
    broken
}

/// Captured data and licences are other people's words.
fn is_ours(path: &str) -> bool {
    !path.starts_with("tests/golden/") || path.ends_with(".rs") || path.ends_with(".md")
}

fn lines_with<'a>(tree: &Tree, find: impl Fn(&str, &str) -> Option<&'a str>) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.ending(".rs") {
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = find(path, line) {
                broken.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    broken
}

#[test]
fn nothing_is_unfinished_or_skipped() {
    holds(stubs);
    holds(notes);
}

#[test]
fn unfinished_code_is_seen() {
    let stub = concat!("fn f() { to", "do!() }\n// to", "do!() in a comment\nlet a = \"unimple", "mented!()\";\n");
    finds(stubs, &[("a.rs", stub), ("b.rs", concat!("#[ig", "nore = \"slow\"]"))], &["a.rs:1", "b.rs:1"]);
    finds(notes, &[("a.rs", concat!("// FIX", "ME: later\n// prefixTO", "DO")), ("tests/golden/a.json", concat!("TO", "DO"))], &["a.rs:1"]);
}

#[test]
fn nothing_unwraps_outside_tests() {
    holds(unwraps);
}

#[test]
fn unwraps_are_seen() {
    let code = concat!("fn f() { x.unw", "rap(); }\n#[cfg(test)]\nmod tests {\n    fn t() { x.unw", "rap(); }\n}\n");
    finds(unwraps, &[("node/src/a.rs", code), ("tests/b.rs", code), ("proto/src/c/tests.rs", code)], &["node/src/a.rs:1"]);
}

#[test]
fn no_test_waits_for_time() {
    holds(sleeps);
}

#[test]
fn sleeping_tests_are_seen() {
    let code = concat!("fn f() { sle", "ep(1); }\n#[cfg(test)]\nmod tests {\n    fn t() { sle", "ep(1); }\n}\n");
    let workload = concat!("sle", "ep(9) // workload: runs until it is revoked\n");
    finds(
        sleeps,
        &[("node/src/a.rs", code), ("tests/b.rs", code), (WAITING, code), ("tests/c.rs", workload)],
        &["node/src/a.rs:4", "tests/b.rs:1", "tests/b.rs:4"],
    );
}

#[test]
fn nothing_names_a_place_on_a_machine() {
    holds(machines);
}

#[test]
fn places_on_machines_are_seen() {
    finds(machines, &[("Makefile", concat!("cp /ho", "me/me/x .")), ("b.rs", "/usr/bin/env")], &["Makefile:1"]);
}
