//! Every verb of `--help`, on a pipe and on a terminal, against a real node; every JSON output against its schema.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value as Json, json};
use umbel_tests::{
    program::{Call, Ran},
    wait::until,
};

use super::node;

/// A development node with a data folder of its own; killed with the test.
pub(super) struct Dev {
    child: Child,
    home: tempfile::TempDir,
}

impl Dev {
    pub(super) fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let mut command = node().args(["dev", "--listen", "127.0.0.1:0", "-c", "4"]).env("HOME", home.path()).within(home.path()).command();
        let child = command.stderr(log).spawn().unwrap();
        let dev = Self { child, home };
        until("the development node is ready", || dev.log().contains("ready in").then_some(()));
        dev
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended, and says how.
    pub(super) fn ended(&mut self) -> Option<i32> {
        until("the development node has ended", || self.child.try_wait().unwrap()).code()
    }

    fn call(&self, args: &[&str]) -> Call {
        node().args(args).env("HOME", self.home.path()).within(self.home.path())
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        self.call(args).run()
    }

    /// The data of a call that must succeed.
    pub(super) fn text(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout.trim_end().to_owned()
    }

    pub(super) fn json(&self, args: &[&str]) -> Json {
        let ran = self.run(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {:?} {}", ran.stdout, ran.stderr))
    }

    /// The same call on a terminal.
    fn terminal(&self, args: &[&str]) -> Ran {
        let quoted: Vec<String> = args.iter().map(|arg| format!("'{}'", arg.replace('\'', r"'\''"))).collect();
        let inner = format!("{} {}", env!("CARGO_BIN_EXE_node-under-test"), quoted.join(" "));
        Command::new("script")
            .args(["--quiet", "--return", "--command", &inner, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", "xterm")
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }

    fn finished(&self) -> String {
        let id = self.text(&["call", "umbel.demo.add", "1", "2"]);
        assert_eq!(self.text(&["wait", &id, "-t", "60"]), "3");
        id
    }

    fn failed(&self) -> String {
        let id = self.text(&["call", "umbel.demo.fail"]);
        assert_eq!(self.run(&["wait", &id, "-t", "60"]).code, Some(1));
        until("the failure is listed", || self.json(&["tasks", "show", &id])["task"]["ended"].as_i64());
        id
    }

    fn scheduled(&self) -> String {
        self.text(&[
            "schedules",
            "add",
            "nightly",
            "umbel.demo.add",
            "--cron",
            "30 2 * * *",
            "--timezone",
            "Europe/Berlin",
            "-a",
            "[1, 2]",
        ]);
        "nightly".to_owned()
    }

    fn letter(&self) -> String {
        self.text(&["call", "nobody.knows"]);
        until("there is a dead letter", || self.json(&["dead"])["items"][0]["id"].as_str().map(str::to_owned))
    }

    /// A call of `verb` about things that exist.
    fn example(&self, verb: &str) -> Vec<String> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let with = |extra: &[String]| [words(verb), extra.to_vec()].concat();
        match verb {
            "call" => words("call umbel.demo.add 2 3 --wait"),
            "submit" => with(&["umbel.demo.add(2, 2) | umbel.demo.add(8)".to_owned(), "--wait".to_owned()]),
            "demo" => with(&[self.text_folder().display().to_string()]),
            "wait" | "result" | "tasks show" | "workflows show" => with(&[self.finished()]),
            "tasks revoke" | "workflows revoke" => with(&[self.finished(), "--yes".to_owned()]),
            "tasks retry" => with(&[self.failed()]),
            "dead show" | "dead retry" => with(&[self.letter()]),
            "dead drop" => with(&[self.letter(), "--yes".to_owned()]),
            "queues show" | "queues pause" | "queues resume" | "queues peek" => with(&["celery".to_owned()]),
            "nodes show" => with(&[self.name(), "--why".to_owned()]),
            "nodes drain" => with(&[self.name(), "--dry-run".to_owned()]),
            "queues purge" => with(&["celery".to_owned(), "--yes".to_owned()]),
            "schedules add" => words("schedules add hourly umbel.demo.add --every 1h --args [1,2]"),
            "schedules show" | "schedules next" | "schedules run" | "schedules pause" | "schedules resume" => with(&[self.scheduled()]),
            "schedules rm" => with(&[self.scheduled(), "--yes".to_owned()]),
            "config init" => with(&["fresh.toml".to_owned(), "--force".to_owned()]),
            "completion" => with(&["bash".to_owned()]),
            "top" => words("top --once"),
            "inspect" => words("inspect ping"),
            "control" => words("control enable_events"),
            _ => words(verb),
        }
    }

    fn name(&self) -> String {
        self.json(&["nodes"])["items"][0]["node"].as_str().unwrap().to_owned()
    }

    fn text_folder(&self) -> PathBuf {
        let folder = self.home.path().join("texts");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a"), "one fish two fish").unwrap();
        folder
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Verbs that run until they are told to stop; they have tests of their own.
const ENDLESS: [&str; 3] = ["dev", "worker", "beat"];

/// Every verb that does something, as it is typed: `queues ls`, `call`.
fn verbs() -> BTreeSet<String> {
    let mut verbs = BTreeSet::new();
    for verb in umbel::cli::grammar().get_subcommands() {
        let below: Vec<_> = verb.get_subcommands().map(|sub| format!("{} {}", verb.get_name(), sub.get_name())).collect();
        if below.is_empty() || !verb.is_subcommand_required_set() {
            verbs.insert(verb.get_name().to_owned());
        }
        verbs.extend(below);
    }
    verbs.retain(|verb| !ENDLESS.contains(&verb.as_str()));
    verbs
}

fn schemas() -> (Json, Json) {
    let api: Json = serde_json::from_str(umbel::http::OPENAPI).unwrap();
    let cli: Json = serde_json::from_str(umbel::cli::SCHEMA).unwrap();
    (api["components"].clone(), cli["verbs"].clone())
}

/// Goal: no verb without a schema, and no schema without a verb.
#[test]
fn every_verb_has_a_schema() {
    let (_, schemas) = schemas();
    let described: BTreeSet<String> = schemas.as_object().unwrap().keys().cloned().collect();
    assert_eq!(verbs(), described);
}

/// Goal: every verb works on a pipe and on a terminal, and its JSON is valid, alone on standard output, and of its schema.
#[test]
fn every_verb_runs_on_a_pipe_and_on_a_terminal() {
    let dev = Dev::start();
    let (components, schemas) = schemas();
    for verb in verbs() {
        let example = dev.example(&verb);
        let args: Vec<&str> = example.iter().map(String::as_str).collect();
        let ran = dev.run(&args);
        assert_eq!(ran.code, Some(0), "{args:?} on a pipe: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{args:?}: colours on a pipe: {ran:?}");

        let again = dev.example(&verb);
        let args: Vec<&str> = again.iter().map(String::as_str).collect();
        let shown = dev.terminal(&args);
        assert_eq!(shown.code, Some(0), "{args:?} on a terminal: {}", shown.stdout);
        assert!(!shown.stdout.trim().is_empty(), "{args:?} shows nothing on a terminal");

        let once_more = dev.example(&verb);
        let args: Vec<&str> = once_more.iter().map(String::as_str).collect();
        let document = dev.json(&args);
        let whole = json!({ "components": components, "allOf": [schemas[&verb]] });
        let validator = jsonschema::validator_for(&whole).unwrap();
        let errors: Vec<String> = validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{args:?}: {errors:?}\n{document:#}");
    }
}

/// Goal: each verb explains itself, within 100 columns, and says what each argument is.
#[test]
fn every_verb_explains_itself() {
    for verb in verbs().iter().map(String::as_str).chain(ENDLESS) {
        let args: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let ran = node().args(&args).run();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{verb}");
        assert!(ran.stdout.contains("Usage: node"), "{verb}: {}", ran.stdout);
        let long = ran.stdout.lines().find(|line| line.chars().count() > 120);
        assert_eq!(long, None, "{verb}");
    }
}

/// Goal: the exit codes of the table in `--help`.
#[test]
fn exit_codes_say_what_happened() {
    let dev = Dev::start();
    let ids = [dev.finished(), dev.failed()];
    for (args, code) in [
        (vec!["wait", &ids[0]], 0),
        (vec!["wait", &ids[1]], 1),
        (vec!["result", &ids[1]], 1),
        (vec!["call", "umbel.demo.fail", "--wait"], 1),
        (vec!["call", "umbel.demo.add", "--args", "[1,"], 2),
        (vec!["queues", "purge", "celery"], 2),
        (vec!["wait", "nobody-knows-it", "-t", "0.2"], 3),
        (vec!["result", "nobody-knows-it", "-t", "0.2"], 3),
        (vec!["tasks", "show", "nobody-knows-it"], 5),
        (vec!["tasks", "retry", "nobody-knows-it"], 5),
        (vec!["tasks", "retry", &ids[0]], 1),
        (vec!["queues", "show", "nobody.uses.it"], 5),
        (vec!["dead", "show", "nobody-knows-it"], 5),
        (vec!["--node", "127.0.0.1:1", "status"], 69),
    ] {
        let ran = dev.run(&args);
        assert_eq!(ran.code, Some(code), "{args:?}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.stderr.starts_with("error: "), code != 0, "{args:?}: {}", ran.stderr);
        assert!(code == 0 || ran.stderr.contains("try: ") || code == 5, "{args:?} says nothing to try: {}", ran.stderr);
    }
}

/// Goal: workflows in Celery's notation and from files; a mistake is pointed at; a group's id can be waited for.
#[test]
fn workflows_are_submitted_as_text_and_as_json() {
    let dev = Dev::start();
    let sum = "chord([umbel.demo.add(1, 1), umbel.demo.add(2, 2)], umbel.demo.sum())";
    assert_eq!(dev.text(&["submit", sum, "--wait", "-t", "60"]), "6");
    assert_eq!(dev.text(&["submit", "umbel.demo.add(2, 2) | umbel.demo.add(8)", "--wait", "-t", "60"]), "12");
    let group = dev.text(&["submit", "group(umbel.demo.add(1, 1), umbel.demo.add(2, 2))"]);
    assert_eq!(dev.text(&["wait", &group, "-t", "60"]), "[2,4]");
    assert_eq!(dev.json(&["workflows", "show", &group])["tree"]["children"].as_array().unwrap().len(), 2);
    let file = dev.home().join("signature.json");
    std::fs::write(
        &file,
        r#"{"task": "umbel.demo.add", "args": [20, 22], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}"#,
    )
    .unwrap();
    assert_eq!(dev.text(&["submit", "-f", file.to_str().unwrap(), "--wait", "-t", "60"]), "42");
    let wrong = dev.run(&["submit", "add(1, | mul(2)"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains('^'), "{}", wrong.stderr);
    let once = |key: &str| dev.text(&["submit", "umbel.demo.add(1, 1)", "--idempotency-key", key]);
    assert_eq!(once("k"), once("k"));
    assert_ne!(once("k"), once("other"));
}

/// Goal: what destroys asks, can be tried without doing it, and never waits for an answer nobody can give.
#[test]
fn what_destroys_asks_first() {
    let dev = Dev::start();
    dev.text(&["queues", "pause", "celery"]);
    for _ in 0..3 {
        dev.text(&["call", "umbel.demo.add", "1", "2"]);
    }
    let dry = dev.run(&["queues", "purge", "celery", "--dry-run"]);
    assert_eq!((dry.code, dry.stderr.as_str()), (Some(0), "note: would remove 3 messages from queue celery\n"));
    assert_eq!(dev.run(&["queues", "purge", "celery"]).code, Some(2));
    assert_eq!(dev.json(&["queues", "show", "celery"])["ready"], 3);
    assert_eq!(dev.json(&["queues", "purge", "celery", "--yes"])["purged"], 3);
    assert_eq!(dev.json(&["queues", "show", "celery"])["ready"], 0);
}

/// Goal: with no node anywhere, verbs say so and what to try; with a store but no node, they work on the store itself.
#[test]
fn without_a_node_the_store_is_used_directly() {
    let home = tempfile::tempdir().unwrap();
    let alone = |args: &[&str]| node().args(args).env("HOME", home.path()).within(home.path()).run();
    let nobody = alone(&["queues"]);
    assert_eq!(nobody.code, Some(69));
    assert_eq!(
        nobody.stderr,
        "error: there is nobody to ask: no broker is configured, and no development node runs on this machine\n  try: node dev\n"
    );
    let store = format!("umbel://{}/store", home.path().display());
    let id = alone(&["-b", &store, "call", "umbel.demo.add", "1", "2", "--queue", "later"]);
    assert_eq!(id.code, Some(0), "{}", id.stderr);
    let queues: Json = serde_json::from_str(&alone(&["-b", &store, "queues", "show", "later", "-o", "json"]).stdout).unwrap();
    assert_eq!((&queues["ready"], &queues["consumers"]), (&json!(1), &json!(0)));
    let status = alone(&["-b", &store, "status"]);
    assert_eq!(status.code, Some(69));
    assert!(status.stderr.starts_with("error: No nodes replied within time constraint"), "{}", status.stderr);
}
