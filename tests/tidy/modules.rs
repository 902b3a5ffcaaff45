//! What is there is used: every file of the tests is compiled, every verb and argument of the programs is explained.

use clap::Command;

use super::{Tree, finds, holds};

/// Every Rust file of the tests is declared by the file above it. One that is not is compiled by nobody and fails never.
fn declared(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, _) in tree.ending(".rs").filter(|(path, _)| path.starts_with("tests/")) {
        let Some((parent, name)) = parent(path) else { continue };
        let candidates = [
            format!("{parent}/mod.rs"),
            format!("{parent}.rs"),
            format!("{parent}/all.rs"),
            format!("{parent}/lib.rs"),
            format!("{parent}/main.rs"),
        ];
        let declared = candidates.iter().filter_map(|file| tree.text(file)).any(|text| {
            text.lines().any(|line| line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ") == format!("mod {name};"))
        });
        let main = tree.text("tests/Cargo.toml").is_some_and(|manifest| manifest.contains(&format!("\"{}\"", &path["tests/".len()..])));
        if !declared && !main {
            broken.push(format!("{path} is declared by no other file"));
        }
    }
    broken
}

/// The folder of the file that should declare `path`, and the name it should do so by; `None` for a root.
fn parent(path: &str) -> Option<(&str, &str)> {
    let (folder, file) = path.rsplit_once('/')?;
    match file {
        "mod.rs" => folder.rsplit_once('/'),
        "lib.rs" if folder == "tests/src" => None,
        _ => Some((folder, file.strip_suffix(".rs")?)),
    }
}

/// The places of a grammar that have no explanation.
fn unexplained(command: &Command, name: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if command.get_about().is_none() {
        broken.push(format!("`{name}` does not say what it does"));
    }
    for argument in command.get_arguments() {
        if argument.get_help().is_none() {
            broken.push(format!("`{name}` does not say what {} is", argument.get_id()));
        }
    }
    for verb in command.get_subcommands() {
        broken.extend(unexplained(verb, &format!("{name} {}", verb.get_name())));
    }
    broken
}

#[test]
fn every_test_file_is_compiled() {
    holds(declared);
}

#[test]
fn forgotten_test_files_are_seen() {
    let files = [
        ("tests/Cargo.toml", "path = \"all.rs\"\npath = \"bench/main.rs\""),
        ("tests/all.rs", "mod cli;\n// mod lost;"),
        ("tests/bench/main.rs", ""),
        ("tests/cli/mod.rs", "mod demo;"),
        ("tests/cli/demo.rs", "#[cfg(test)]\nmod tests;"),
        ("tests/cli/demo/tests.rs", ""),
        ("tests/cli/surface.rs", ""),
        ("tests/lost/mod.rs", ""),
        ("tests/src/lib.rs", "pub mod wait;"),
        ("tests/src/wait.rs", ""),
    ];
    finds(declared, &files, &["tests/cli/surface.rs", "tests/lost/mod.rs"]);
}

#[test]
fn every_verb_and_argument_is_explained() {
    let mut grammar = umbel::cli::grammar();
    grammar.build();
    assert_eq!(unexplained(&grammar, "node"), [""; 0]);
    let readme = Tree::workspace().text("README.md").unwrap_or_default().to_owned();
    let unmentioned = |name: &&str| !readme.contains(&format!("`node {name}"));
    let verbs: Vec<&str> = grammar.get_subcommands().map(Command::get_name).filter(unmentioned).collect();
    assert_eq!(verbs, [""; 0], "the README does not mention them");
}

#[test]
fn silent_arguments_are_seen() {
    let verb = Command::new("verb").arg(clap::Arg::new("flag").long("flag"));
    let grammar = Command::new("node").about("x").arg(clap::Arg::new("a").help("b")).subcommand(verb);
    assert_eq!(unexplained(&grammar, "node"), ["`node verb` does not say what it does", "`node verb` does not say what flag is"]);
}
