//! `config init`: the table of keys as a commented file.

use super::{key::Key, keys::KEYS};

/// A commented `umbel.toml`: every key with its meaning, what it takes, its variables and its flag, all commented out, so
/// that the file changes nothing until a line is uncommented.
pub fn init() -> String {
    let mut out = String::from(
        "# umbel.toml. Every line is commented out and shows the built-in value.\n\
         # Strongest first: flags, UMBEL_*, CELERY_*, this file, the Python application's settings, REDIS_URL, built-in.\n\
         # ${VAR} and ${VAR:-default} are filled in from the environment. Secrets may be \"@file:/run/secrets/name\".\n\
         # Check it with: node config check\n",
    );
    let mut section = "";
    // Keys without a table must come first in TOML.
    let (top, rest): (Vec<&Key>, Vec<&Key>) = KEYS.iter().partition(|key| !key.name.contains('.'));
    for key in top.into_iter().chain(rest) {
        let (table, leaf) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if table != section {
            section = table;
            out.push_str(&format!("\n{}# [{}]\n", about(table), example_table(table)));
        }
        out.push('\n');
        out.push_str(&comment(key));
        let leaf = if leaf == "*" { example_leaf(table) } else { leaf };
        out.push_str(&format!("# {leaf} = {}\n", example(key)));
    }
    out
}

/// The reference of one key, as comment lines.
fn comment(key: &Key) -> String {
    let mut out = format!("# {}\n# Takes {}.", key.doc, key.kind.allowed());
    let flags: Vec<&str> = key.flag.into_iter().chain(key.short).collect();
    let env: Vec<String> = key.env().into_iter().chain(key.celery_env()).collect();
    if !flags.is_empty() {
        out.push_str(&format!(" Flag: {}.", flags.join(", ")));
    }
    if !env.is_empty() {
        out.push_str(&format!(" Environment: {}.", env.join(", ")));
    }
    if key.reload {
        out.push_str(" Applied by a reload.");
    }
    out.push('\n');
    out
}

fn about(table: &str) -> &'static str {
    match table {
        "roles.*" => "# A role of your own; the node takes it by --role video.\n",
        "limits.*" => "# Once for each task that is limited.\n",
        "tasks.*" => "# Once for each command that is a task.\n",
        "schedules.*" => "# Once for each entry.\n",
        _ => "",
    }
}

fn example_table(table: &str) -> String {
    let own = match table {
        "roles.*" => "video",
        "limits.*" => "\"app.tasks.call_api\"",
        "tasks.*" => "\"video.thumbnail\"",
        "schedules.*" => "nightly",
        _ => "",
    };
    table.replace('*', own)
}

fn example_leaf(table: &str) -> &'static str {
    if table == "routes" { "\"app.tasks.*\"" } else { "task_track_started" }
}

/// The built-in value as TOML, or an example where there is none.
fn example(key: &Key) -> String {
    use super::kind::Kind::*;
    let text = match (key.default, key.kind) {
        _ if key.name.starts_with("schedules.*.") && matches!(key.kind, Any | Text) => return scheduled(key.name).to_owned(),
        (Some(default), Bool | Int(..)) => return default.to_owned(),
        (Some(default), _) => default.to_owned(),
        (None, Bool | Any) => return "true".to_owned(),
        (None, Int(min, _)) => return min.to_string(),
        (None, List) if key.name.ends_with("retry_codes") => return "[75]".to_owned(),
        (None, List) if key.name.ends_with(".env") => return "[\"LANGUAGE\"]".to_owned(),
        (None, List) if key.name == "gossip.seeds" => return "[\"10.0.0.7:7946\"]".to_owned(),
        (None, List) if key.secret => return "[\"the secret before this one\"]".to_owned(),
        (None, List) => return "[\"celery\"]".to_owned(),
        (None, Words) => return "[\"ffmpeg\", \"-i\", \"{input}\", \"-frames:v\", \"1\", \"{output}\"]".to_owned(),
        (None, Table) => return "{ NAME = \"value\" }".to_owned(),
        (None, Duration(..)) if key.name.ends_with("soft_time_limit") => "25s".to_owned(),
        (None, Duration(..)) => "30s".to_owned(),
        (None, Size(..)) => "16MiB".to_owned(),
        (None, Concurrency) => "auto".to_owned(),
        (None, BrokerUrl | ResultsUrl) => "redis://localhost:6379/0".to_owned(),
        (None, Listen) if key.name == "gossip.listen" => "127.0.0.1:7946".to_owned(),
        (None, Listen) => "127.0.0.1:5555".to_owned(),
        (None, Path) => "/var/lib/umbel".to_owned(),
        (None, Choice(_)) if key.name == "schedules.*.catch_up" => "all".to_owned(),
        (None, Choice(words)) => words[0].to_owned(),
        (None, LogLevel) => "info".to_owned(),
        (None, Rate) => "100/m".to_owned(),
        (None, Text) if key.name == "cluster.secret" => "@file:/run/secrets/cluster".to_owned(),
        (None, Text) if key.name == "limits.*.key" => "{tenant}".to_owned(),
        (None, Text) if key.name == "gossip.advertise" => "10.0.0.5".to_owned(),
        (None, Text) if key.secret => "@file:/run/secrets/token".to_owned(),
        (None, Text) if key.name.ends_with("timezone") => "Europe/Oslo".to_owned(),
        (None, Text) if key.name == "app" => "config.celery".to_owned(),
        (None, Text | Route) => "celery".to_owned(),
    };
    format!("{text:?}")
}

/// An example for a key of a schedule's entry, as TOML.
fn scheduled(key: &str) -> &'static str {
    match key.trim_start_matches("schedules.*.") {
        "task" => "\"app.tasks.report\"",
        "cron" => "\"0 2 * * *\"",
        "solar" => "\"sunset\"",
        "latitude" => "59.9",
        "longitude" => "10.7",
        "timezone" => "\"Europe/Oslo\"",
        "at" | "starts" | "ends" => "\"2030-01-01T00:00:00Z\"",
        "args" => "[1, 2]",
        "kwargs" => "{ day = 1 }",
        "options" => "{ priority = 3 }",
        _ => "\"celery\"",
    }
}
