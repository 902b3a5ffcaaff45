//! What the documents say is so: links lead somewhere, the map is of this country, commands are the ones that are run.

use std::collections::BTreeSet;

use super::{Tree, finds, holds};

const MAP: &str = "node/ARCHITECTURE.md";

/// The two commands that a newcomer is told to type.
const COMMANDS: [&str; 2] = ["cargo run --release -- demo", "make test"];

/// `path` seen from the folder of the file `from`, without `.` and `..`; `None` when it leads out of the tree.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The targets of `[text](target)` outside of code, with their line numbers.
fn link_targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let mut rest = line;
        while let Some(at) = rest.find("](").filter(|_| !fenced) {
            rest = &rest[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push((number + 1, &rest[..end]));
            }
        }
    }
    found
}

/// The anchors that a page's headings have on GitHub.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

fn links(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (line, target) in link_targets(text) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let file = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
            let there = file.as_deref().is_some_and(|file| tree.has(file));
            let known = |anchor: &str| file.as_deref().and_then(|file| tree.text(file)).is_some_and(|text| anchors(text).contains(anchor));
            if !there || !anchor.is_none_or(known) {
                broken.push(format!("{path}:{line}: {target} leads nowhere"));
            }
        }
    }
    broken
}

/// What stands in single back-ticks outside of code blocks.
fn code_spans(text: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            spans.extend(line.split('`').skip(1).step_by(2));
        }
    }
    spans
}

/// The paths that the map names, from the top of the tree.
fn mapped(text: &str) -> Vec<&str> {
    let mut spans = code_spans(text);
    spans.retain(|span| {
        ["proto/", "scheduler/", "node/", "tests/", "deploy/"].iter().any(|top| span.starts_with(top))
            && !span.contains([' ', '*', '<', '{'])
    });
    spans
}

fn map(tree: &Tree) -> Vec<String> {
    let Some(text) = tree.text(MAP) else { return vec![format!("{MAP} is not there")] };
    let paths = mapped(text);
    let mut broken: Vec<String> = Vec::new();
    broken.extend(paths.iter().filter(|path| !tree.has(path)).map(|path| format!("{MAP} names {path}, which is not there")));
    for (path, _) in tree.ending(".rs").filter(|(path, _)| path.starts_with("node/src/") && !path.ends_with("tests.rs")) {
        // A folder in the map stands for the files in it.
        let named = paths.iter().any(|known| path == *known || known.strip_suffix('/').is_some_and(|_| path.starts_with(known)));
        if !named {
            broken.push(format!("{MAP} does not name {path} or a folder it is in"));
        }
    }
    broken
}

/// The suites that the tests' own page does not present.
fn suites(tree: &Tree) -> Vec<String> {
    let text = tree.text("tests/README.md").unwrap_or_default();
    let suites = tree.files().filter_map(|(path, _)| path.strip_prefix("tests/")?.strip_suffix("/mod.rs"));
    let suites = suites.filter(|suite| !suite.contains('/') && !text.contains(&format!("| [{suite}]({suite}) |")));
    suites.map(|suite| format!("tests/README.md does not say what {suite} proves")).collect()
}

fn commands(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for file in ["README.md", ".ci/run"] {
        let text = tree.text(file).unwrap_or_default();
        broken
            .extend(COMMANDS.iter().filter(|command| !text.contains(*command)).map(|command| format!("{file} does not have {command:?}")));
    }
    broken
}

/// The blocks of a language in a page.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    let parts = text.split(begin.as_str()).skip(1);
    parts.filter_map(|part| part.split_once("```").map(|(block, _)| block)).collect()
}

/// Rust in a page is a piece of a compiled example, to the letter.
fn examples(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    let compiled: Vec<&str> = tree.ending(".rs").filter(|(path, _)| path.contains("/examples/")).map(|(_, text)| text).collect();
    for (path, text) in tree.ending(".md") {
        for block in blocks(text, "rust") {
            if !compiled.iter().any(|example| example.contains(block)) {
                let first = block.lines().next().unwrap_or_default();
                broken.push(format!("{path}: the block that begins with {first:?} is not in an example"));
            }
        }
    }
    if tree.text("README.md").is_none_or(|text| blocks(text, "rust").is_empty()) {
        broken.push("README.md does not show how to write a task".to_owned());
    }
    broken
}

#[test]
fn links_lead_somewhere() {
    holds(links);
}

#[test]
fn dead_links_are_seen() {
    let page = "# A title, of sorts\n[a](b.md#part-two) [b](../c/d.rs) [c](#a-title-of-sorts) [d](https://x)\n```\n[e](code)\n```\n";
    finds(links, &[("a/a.md", page), ("a/b.md", "## Part two\n"), ("c/d.rs", "")], &[]);
    finds(links, &[("a/a.md", page), ("a/b.md", "## Part 2\n")], &["a/a.md:2: b.md#part-two", "a/a.md:2: ../c/d.rs"]);
    finds(links, &[("a.md", "[a](../b.md)")], &["leads nowhere"]);
}

#[test]
fn the_map_is_of_this_tree() {
    holds(map);
}

#[test]
fn wrong_maps_are_seen() {
    let text = "| `node/src/a.rs` | and `node/src/b/` |\n`node/src/gone.rs` `a.rs` `node/src/{x,y}.rs`\n";
    finds(
        map,
        &[(MAP, text), ("node/src/a.rs", ""), ("node/src/b/c.rs", ""), ("node/src/new.rs", ""), ("node/src/a/tests.rs", "")],
        &["names node/src/gone.rs", "does not name node/src/new.rs"],
    );
    finds(map, &[], &["is not there"]);
}

#[test]
fn every_suite_is_presented() {
    holds(suites);
}

#[test]
fn silent_suites_are_seen() {
    let files = [("tests/README.md", "| [a](a) | x |"), ("tests/a/mod.rs", ""), ("tests/b/mod.rs", ""), ("tests/src/c/mod.rs", "")];
    finds(suites, &files, &["b proves"]);
}

#[test]
fn the_two_commands_are_the_ones_that_are_run() {
    holds(commands);
}

#[test]
fn missing_commands_are_seen() {
    finds(commands, &[("README.md", "make test"), (".ci/run", "make test\ncargo run --release -- demo x")], &["README.md"]);
}

#[test]
fn rust_in_pages_is_compiled() {
    holds(examples);
}

#[test]
fn rust_that_is_not_compiled_is_seen() {
    let example = ("node/examples/a.rs", "//! A.\n\nfn main() {\n    b();\n}\n");
    finds(examples, &[example, ("README.md", "x\n```rust\nfn main() {\n    b();\n}\n```\n")], &[]);
    finds(examples, &[example, ("README.md", "```rust\nfn main() {}\n```\n"), ("b.md", "```rust\nb();\n```\n")], &["README.md"]);
    finds(examples, &[example], &["how to write a task"]);
}
