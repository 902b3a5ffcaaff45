//! The whole way from sources to values. Sources are texts: nothing here touches the process's environment or a disk.

mod cluster;
mod messages;
mod precedence;
mod roles;
mod seeds;

use std::{io, path::Path};

use super::*;

/// What a test feeds in.
#[derive(Default)]
struct Given<'a> {
    flags: &'a [(&'a str, &'a str)],
    env: &'a [(&'a str, &'a str)],
    dotenv: &'a str,
    toml: &'a str,
    app: &'a [(&'a str, &'a str)],
    /// Files behind `@file:`.
    files: &'a [(&'a str, &'a str)],
}

impl Given<'_> {
    fn build(&self) -> Result<(Config, Vec<String>), ConfigErrors> {
        let mut env: Env = self.env.iter().copied().collect();
        let mut warnings = env.add_dotenv(Path::new(".env"), self.dotenv);
        let read = |path: &Path| {
            let file = self.files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        let inputs = Inputs {
            flags: self.flags.iter().map(|(flag, value)| ((*flag).to_owned(), (*value).to_owned())).collect(),
            env,
            file: Some((Path::new("umbel.toml"), self.toml)),
            app: self.app.iter().map(|(name, value)| ((*name).to_owned(), Raw::Text((*value).to_owned()))).collect(),
            read: &read,
        };
        Config::build(&inputs, "web1.example.org").map(|(config, more)| {
            warnings.extend(more);
            (config, warnings)
        })
    }

    fn config(&self) -> Config {
        self.build().unwrap_or_else(|errors| panic!("{errors}")).0
    }

    fn warnings(&self) -> Vec<String> {
        self.build().unwrap_or_else(|errors| panic!("{errors}")).1
    }

    fn errors(&self) -> String {
        self.build().map(|_| ()).expect_err("the configuration should have been refused").to_string()
    }
}

fn toml(toml: &str) -> Given<'_> {
    Given { toml, ..Given::default() }
}

/// Every key can be asked for by the type that code asks for it with, and every built-in value is of its key's kind.
#[test]
fn the_table_agrees_with_the_types() {
    let config = Given::default().config();
    assert_eq!(config.default_queue.value, "celery");
    for key in KEYS {
        if let Some(default) = key.default {
            assert_eq!(key.kind.parse(&Raw::Text(default.to_owned())).err(), None, "{}", key.name);
        }
        assert!(key.doc.ends_with('.'), "{}", key.name);
        assert_eq!(find(&Name::plain(&key.name.replace('*', "x"))).map(|found| found.name), Some(key.name));
    }
    let mut names: Vec<&str> = KEYS.iter().flat_map(|key| key.celery.iter().copied().chain(key.flag).chain(key.short)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "a flag or a name of Celery's stands for two keys");
}

/// The file of `config init` changes nothing as it is, and is a valid configuration with every line uncommented.
#[test]
fn the_written_file_reads_back() {
    let written = init();
    assert!(written.lines().all(|line| line.is_empty() || line.starts_with('#')));
    let before = Given::default().config().resolved;
    assert_eq!(diff(&before, &toml(&written).config().resolved), Changes::default());

    let uncommented: String = written
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line))
        .filter(|line| line.starts_with('[') || line.contains(" = ") && !line.contains(". "))
        // An entry of a schedule says in one way when it is due.
        .filter(|line| !OTHER_WAYS.iter().any(|way| line.starts_with(&format!("{way} = "))))
        .map(|line| format!("{line}\n"))
        .collect();
    let given = Given {
        toml: &uncommented,
        files: &[("/run/secrets/token", "t"), ("/run/secrets/cluster", "long enough a secret")],
        ..Given::default()
    };
    let config = given.config();
    for key in KEYS.iter().filter(|key| !OTHER_WAYS.iter().any(|way| key.name == format!("schedules.*.{way}"))) {
        assert!(config.resolved.rows().iter().any(|row| row.key.name == key.name), "{} is not in the file", key.name);
    }
}

/// The ways of a schedule's entry to say when it is due, but `cron`, and what belongs to them.
const OTHER_WAYS: [&str; 6] = ["every", "relative", "at", "solar", "latitude", "longitude"];

#[test]
fn data_goes_where_the_machine_keeps_data() {
    for (env, path, from) in [
        (&[("HOME", "/u/a")][..], "/u/a/.local/share/umbel", "from HOME"),
        (&[("HOME", "/u/a"), ("XDG_DATA_HOME", "/data")], "/data/umbel", "from XDG_DATA_HOME"),
        (&[("HOME", "/u/a"), ("STATE_DIRECTORY", "/var/lib/x:/var/lib/y")], "/var/lib/x", "from STATE_DIRECTORY"),
        (&[("HOME", "/u/a"), ("UMBEL_DATA_DIR", "/srv")], "/srv", "UMBEL_DATA_DIR"),
        (&[], "/var/lib/umbel", "built-in"),
    ] {
        let dir = Given { env, ..Given::default() }.config().data_dir;
        assert_eq!((dir.to_str(), dir.origin.to_string().as_str()), (Some(path), from));
    }
}

#[test]
fn a_reload_tells_what_it_can_apply() {
    let old = toml("[log]\nlevel = \"info\"\n[broker]\nurl = \"redis://:a@h/0\"\n[routes]\n\"a.*\" = \"x\"").config();
    let new = toml("[log]\nlevel = \"debug\"\n[broker]\nurl = \"redis://:b@h/0\"\n[routes]\n\"a.*\" = \"y\"").config();
    let changes = diff(&old.resolved, &new.resolved);
    let names = |changes: &[Change]| changes.iter().map(|change| change.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&changes.now), ["log.level"]);
    assert_eq!(names(&changes.restart), ["broker.url", "routes.\"a.*\""], "a password is compared though it is not shown");
    assert!(!format!("{changes:?}").contains(":b@"));
}

proptest::proptest! {
    #[test]
    fn hostile_files_are_errors_at_worst(text in "\\PC{0,80}", value in "\\PC{0,20}") {
        let _ = toml(&text).build();
        let _ = toml(&format!("[worker]\nconcurrency = {value}\n[tasks.{value}]\n")).build();
        let _ = Given { dotenv: &text, env: &[("CELERY_BROKER_URL", &value)], ..Given::default() }.build();
    }
}
