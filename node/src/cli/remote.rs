//! What `inspect`, `control` and `status` share: asking by remote control, and printing answers as Celery does
//! (`celery/bin/base.py`).

use std::{io, path::Path};

use serde_json::{Value as Json, json};
use umbel_proto::{Value, repr};

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, note, program},
    session::Session,
};

/// Whom to ask, and how long to wait.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Whom {
    /// How many seconds to wait for the next answer
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0)]
    timeout: f64,
    /// Ask these nodes only; several are separated by commas
    #[arg(short, long, value_name = "NODES")]
    destination: Option<String>,
    /// The same as --output json
    #[arg(short = 'j')]
    pub(super) as_json: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) replies: Vec<(String, Json)>,
    pub(super) missing: Vec<String>,
    pub(super) silent: Vec<String>,
}

impl Whom {
    fn destination(&self) -> Option<Vec<&str>> {
        let names = self.destination.as_deref()?.split(',').map(str::trim).filter(|name| !name.is_empty());
        Some(names.collect())
    }
}

/// Sends a command and gathers the answers.
pub(super) async fn ask(session: &Session, method: &str, arguments: &Json, whom: &Whom) -> Result<Asked, Failure> {
    let mut body = json!({ "method": method, "arguments": arguments, "timeout": whom.timeout });
    if let Some(destination) = whom.destination() {
        body["destination"] = json!(destination);
    }
    let answer = session.post("/api/v1/control", Some(&body)).await?;
    let names = |list: &Json| list.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect();
    let reply = |item: &Json| Some((item["node"].as_str()?.to_owned(), item["reply"].clone()));
    let asked = Asked {
        replies: answer["replies"].as_array().into_iter().flatten().filter_map(reply).collect(),
        missing: names(&answer["missing"]),
        silent: names(&answer["silent"]),
    };
    if asked.replies.is_empty() {
        let mut reason = "nobody answered".to_owned();
        if !asked.missing.is_empty() {
            reason = format!("{} should have answered", asked.missing.join(", "));
        }
        let failure = Failure::new(Exit::Unavailable, "No nodes replied within time constraint", reason);
        return Err(failure.hint(format!("{0} doctor, or {0} worker", program())));
    }
    Ok(asked)
}

impl Asked {
    /// Says who has not answered, and with which code that ends a verb that has gone well.
    pub(super) fn ending(&self, screen: &Screen) -> Result<(), Failure> {
        if !self.silent.is_empty() {
            let names = self.silent.join(", ");
            note(screen, &format!("no answer from {names}: stopped or gone (no lease is held under that name)"));
        }
        match self.missing.as_slice() {
            [] => Ok(()),
            missing if as_celery() => {
                note(screen, &format!("no answer from {}, though a lease is held under that name", missing.join(", ")));
                Ok(())
            }
            missing => Err(Failure::new(Exit::Partial, "no answer from", "it should be there, as a lease is held under that name")
                .value(missing.join(", "), "leases")),
        }
    }

    /// Whether anybody answered with an error.
    pub(super) fn refused(&self) -> Option<&str> {
        self.replies.iter().find(|(_, reply)| reply.get("error").is_some()).map(|(node, _)| node.as_str())
    }
}

/// Whether the program was called `celery`: then it ends as Celery does.
pub(super) fn as_celery() -> bool {
    let called = std::env::args_os().next().unwrap_or_default();
    Path::new(&called).file_stem().is_some_and(|name| name == "celery")
}

/// Prints who says what.
pub(super) fn chat(out: &mut dyn io::Write, screen: &Screen, node: &str, reply: &Json, body: bool) -> io::Result<()> {
    let (good, text) = pretty(reply);
    let state = if good { screen.paint("OK", "32") } else { screen.paint("ERROR", "31") };
    writeln!(out, "->  {}{state}", screen.paint(&format!("{node}: "), "1;36"))?;
    if body && !text.is_empty() {
        writeln!(out, "{}", indented(&text))?;
    }
    Ok(())
}

/// Prints how many nodes there were.
pub(super) fn count(out: &mut dyn io::Write, nodes: usize) -> io::Result<()> {
    writeln!(out, "\n{nodes} node{} online.", if nodes == 1 { "" } else { "s" })
}

fn indented(text: &str) -> String {
    text.split('\n').map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn pretty(reply: &Json) -> (bool, String) {
    match reply {
        Json::Array(items) if items.is_empty() => (true, "- empty -".to_owned()),
        Json::Array(items) => (true, items.iter().map(|item| format!("* {}", python(item))).collect::<Vec<_>>().join("\n")),
        Json::Object(map) => match (map.get("ok"), map.get("error")) {
            (Some(value), _) => (true, indented(&pretty(value).1)),
            (None, Some(value)) => (false, indented(&pretty(value).1)),
            (None, None) => (true, sorted(reply)),
        },
        other => (true, python(other)),
    }
}

/// As Python's `str` shows it.
fn python(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => Value::from_serialize(other).map_or_else(|_| other.to_string(), |value| repr::repr(&value)),
    }
}

/// `json.dumps(…, sort_keys=True, indent=4)`.
fn sorted(value: &Json) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing to memory cannot fail.
    let _ = serde::Serialize::serialize(&by_key(value), &mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}

fn by_key(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            Json::Object(pairs.into_iter().map(|(key, value)| (key.clone(), by_key(value))).collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(by_key).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::output::Format, *};

    fn said(reply: Json) -> String {
        let mut out = Vec::new();
        chat(&mut out, &Screen::plain(Format::Text), "celery@a", &reply, true).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Goal: answers look as Celery prints them, to the last space.
    #[test]
    fn answers_look_as_celerys() {
        assert_eq!(said(json!({ "ok": "pong" })), "->  celery@a: OK\n        pong\n");
        assert_eq!(said(json!({ "error": "unknown task" })), "->  celery@a: ERROR\n        unknown task\n");
        assert_eq!(said(json!([])), "->  celery@a: OK\n    - empty -\n");
        assert_eq!(said(json!(["proj.add"])), "->  celery@a: OK\n    * proj.add\n");
        assert_eq!(said(json!([{ "id": "x", "on": true, "no": null }])), "->  celery@a: OK\n    * {'id': 'x', 'on': True, 'no': None}\n");
        assert_eq!(said(json!({ "b": 1, "a": 2 })), "->  celery@a: OK\n    {\n        \"a\": 2,\n        \"b\": 1\n    }\n");
        assert_eq!(said(Json::Null), "->  celery@a: OK\n    None\n");
    }
}
