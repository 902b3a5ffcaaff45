//! The first command of the project, on folders of every kind.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use umbel_tests::{program::Ran, wait};

use super::node;

/// Texts made of known words, so that the counts are known without counting.
struct Texts {
    folder: TempDir,
    expected: BTreeMap<String, u64>,
    seed: u64,
}

impl Texts {
    fn new(seed: u64) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), expected: BTreeMap::new(), seed }
    }

    /// The next number of a sequence that is the same for the same seed.
    fn draw(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.seed >> 33).unwrap() % below
    }

    /// Writes a file of `words` words, and remembers them.
    fn write(&mut self, path: &Path, words: usize) {
        const WORDS: [&str; 12] = ["the", "Fish", "fish", "TWO", "two_words", "_", "x9", "42", "naïve", "ÄRGER", "ὀδύσσεια", "世界"];
        const BETWEEN: [&str; 9] = [" ", "\n", ", ", "-", "...", "\t(", "’", " — ", "\u{1F41F}"];
        let mut text = String::new();
        for _ in 0..words {
            let (word, between) = (WORDS[self.draw(WORDS.len())], BETWEEN[self.draw(BETWEEN.len())]);
            text.push_str(word);
            text.push_str(between);
            *self.expected.entry(word.to_lowercase()).or_default() += 1;
        }
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn demo(folder: &Path, args: &[&str]) -> Ran {
    node().args(["demo"]).args([folder]).args(args).run()
}

/// Parses standard output as JSON, which fails when there is anything else on it.
fn counts(ran: &Ran) -> BTreeMap<String, u64> {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn counts_are_those_of_the_files() {
    let mut texts = Texts::new(1);
    for n in 0..60 {
        texts.write(Path::new(&format!("sub{}/{n}.txt", n % 7)), n * 3);
    }
    let ran = demo(texts.folder.path(), &["-o", "json"]);
    assert_eq!(counts(&ran), texts.expected);
    assert_eq!(ran.stderr, "", "nothing is said to a pipe");
    let order: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&ran.stdout).unwrap();
    let order: Vec<u64> = order.values().map(|count| count.as_u64().unwrap()).collect();
    assert!(order.is_sorted_by(|a, b| a >= b), "the most frequent first");
}

/// More files than a workflow has tasks: they are shared out, and each is counted once.
#[test]
fn many_files_are_counted_once_each() {
    let mut texts = Texts::new(2);
    for n in 0..2_600 {
        texts.write(Path::new(&format!("{}/{n}", n / 200)), 4);
    }
    let ran = demo(texts.folder.path(), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("10,400 words"), "{}", ran.stdout);
    assert!(ran.stdout.contains("in 2,600 files"), "{}", ran.stdout);
    assert_eq!(counts(&demo(texts.folder.path(), &["--json"])), texts.expected);
}

#[test]
fn the_table_shows_the_top_and_the_summary_counts_all() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "b a b c b a d").unwrap();
    fs::write(folder.path().join("binary"), "a\0a").unwrap();
    let ran = demo(folder.path(), &["--top", "2"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[..4], ["COUNT  WORD", "    3  b", "    2  a", ""]);
    assert_eq!(lines[4], format!("7 words, 4 of them different, in 1 file of {} (1 binary file left out)", folder.path().display()));
    assert!(lines[5].starts_with("counted by a chord of 3 tasks in "), "{}", lines[5]);
    assert!(ran.stdout.contains("Try next:\n  node demo "), "{}", ran.stdout);
}

#[test]
fn names_of_any_bytes_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    for name in [&b"new\nline"[..], b"\xff\xfe", b"-o", "世界".as_bytes(), b"\x1b[31m"] {
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), "fish").unwrap();
    }
    assert_eq!(counts(&demo(folder.path(), &["-o", "json"])), BTreeMap::from([("fish".to_owned(), 5)]));
}

#[test]
fn an_empty_folder_has_no_words() {
    let folder = tempfile::tempdir().unwrap();
    let ran = demo(folder.path(), &["-o", "json"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "{}\n"));
    assert!(demo(folder.path(), &[]).stdout.starts_with("0 words, 0 of them different, in 0 files of "));
}

/// A file that cannot be read is named, and the others are counted. (root can read all of them.)
#[test]
fn unreadable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "fish").unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "fish").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let privileged = fs::File::open(&secret).is_ok();
    let ran = demo(folder.path(), &["-o", "json"]);
    let expected = if privileged { 2 } else { 1 };
    assert_eq!(counts(&ran), BTreeMap::from([("fish".to_owned(), expected)]));
    assert_eq!(ran.stderr.contains("note: not counted: "), !privileged, "{}", ran.stderr);
}

#[test]
fn what_is_no_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "fish").unwrap();
    let ran = demo(&file, &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    let parent = folder.path().display();
    assert_eq!(
        ran.stderr,
        format!("error: cannot count the words of {} (FOLDER): it is a file, not a folder\n  try: node demo {parent}\n", file.display())
    );
    let ran = demo(&folder.path().join("missing"), &["-o", "json"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""));
    let missing = folder.path().join("missing");
    assert_eq!(
        ran.stderr,
        format!("error: cannot count the words of {} (FOLDER): there is no such folder\n  try: node demo {parent}\n", missing.display())
    );
}

/// The store of a run is gone when the run is over, and is kept where it is asked for.
#[test]
fn the_store_is_removed_unless_it_is_asked_for() {
    let (folder, temp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("a"), "fish").unwrap();
    let left = || fs::read_dir(temp.path()).unwrap().count();
    let call = || node().env("TMPDIR", temp.path()).args(["demo", "--json"]).args([folder.path()]);
    assert_eq!(call().run().stdout, "{\"fish\":1}\n");
    assert_eq!(left(), 0);
    let store = temp.path().join("store");
    for _ in 0..2 {
        assert_eq!(call().args(["--data-dir".as_ref(), store.as_os_str()]).run().stdout, "{\"fish\":1}\n");
        assert!(fs::read_dir(&store).unwrap().count() > 0);
    }
    assert_eq!(left(), 1);
}

/// Ctrl-C in the middle of a long count ends at once, with the shell's code, and leaves nothing behind.
#[test]
fn an_interrupt_leaves_nothing() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (folder, temp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // So much to count that it cannot be done before the signal arrives.
        fs::write(folder.path().join("a"), "fish ".repeat(1 << 20)).unwrap();
        for n in 0..200 {
            fs::hard_link(folder.path().join("a"), folder.path().join(n.to_string())).unwrap();
        }
        let mut child = node().env("TMPDIR", temp.path()).args(["demo", "--json"]).args([folder.path()]).command().spawn().unwrap();
        wait::until("the run has a store", || (fs::read_dir(temp.path()).unwrap().count() > 0).then_some(()));
        kill(child.id(), signal);
        let status = child.wait().unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((status.code(), stdout.as_str()), (Some(code), ""), "{stderr}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("sh").arg("-c").arg(format!("kill -s {signal} {pid}")).status().unwrap().success());
}

/// On a terminal progress is drawn on standard error, and JSON on standard output stays alone.
#[test]
fn progress_is_for_terminals() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "fish").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let out = elsewhere.path().join("out");
    let inner = format!("{} demo --json {} > {}", env!("CARGO_BIN_EXE_node-under-test"), folder.path().display(), out.display());
    let ran: Ran = Command::new("script")
        .args(["--quiet", "--return", "--command", &inner, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert!(ran.stdout.contains("/2 tasks"), "what a terminal shows: {:?}", ran.stdout);
    assert_eq!(fs::read_to_string(&out).unwrap(), "{\"fish\":1}\n");
}

/// Without a folder the sources it was built from are counted when cargo runs it, else the checkout one stands in.
#[test]
fn without_a_folder_the_repository_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("repo/.git")).unwrap();
    fs::create_dir_all(folder.path().join("repo/a/b")).unwrap();
    fs::write(folder.path().join("repo/text"), "fish").unwrap();
    let within = folder.path().join("repo/a/b");
    assert_eq!(node().within(&within).args(["demo", "--json"]).run().stdout, "{\"fish\":1}\n");
    let ran = node().within(folder.path()).args(["demo", "--json"]).run();
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stderr, "error: which folder to count is not known (FOLDER): this is no git checkout\n  try: node demo .\n");
    let manifest = folder.path().join("repo/a");
    let ran = node().within(folder.path()).env("CARGO", "cargo").env("CARGO_MANIFEST_DIR", &manifest).args(["demo", "--json"]).run();
    assert_eq!(ran.stdout, "{\"fish\":1}\n");
}
