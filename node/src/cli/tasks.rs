//! `node tasks`: what ran, what runs, what failed.

use std::collections::HashSet;

use axum::http::{Method, StatusCode};
use clap::Subcommand;
use futures::future::join_all;
use serde_json::{Value as Json, json};

use super::{
    confirm::Confirm,
    exit::Exit,
    failure::Failure,
    fleet,
    output::{Format, Screen, note, program},
    place::Place,
    session::{Session, failure, part},
    table::{Table, ago},
};
use crate::http::remote::RemoteError;

/// Look at tasks, revoke them and run failed ones again
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// List the tasks the nodes have seen lately, the last changed first (the default)
    Ls(Ls),
    /// Show one task and its result
    Show {
        /// The task's id
        id: String,
    },
    /// Keep tasks from running; those that run are ended by force
    Revoke {
        /// The tasks' ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Run tasks that failed or expired again, under their ids
    Retry {
        /// The tasks' ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Clone, Default, clap::Args)]
struct Ls {
    /// Only tasks in this state: RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only tasks of this name
    #[arg(long, value_name = "TASK")]
    name: Option<String>,
    /// Only tasks from this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        match args.verb.unwrap_or_else(|| Verb::Ls(Ls { limit: 50, ..Ls::default() })) {
            Verb::Ls(ls) => list(&session, ls, &screen).await,
            Verb::Show { id } => show(&session, &id, &screen).await,
            Verb::Revoke { ids, confirm } => {
                if !confirm.ask(&screen, &format!("revoke {} {}", ids.len(), if ids.len() == 1 { "task" } else { "tasks" }))? {
                    return Ok(());
                }
                each(&session, &ids, "revoke", "revoked", &screen).await
            }
            Verb::Retry { ids } => each(&session, &ids, "retry", "sent again", &screen).await,
        }
    })
}

async fn list(session: &Session, ls: Ls, screen: &Screen) -> Result<(), Failure> {
    let state = ls.state.map(|state| state.to_uppercase());
    let filters: Vec<String> = [("state", &state), ("name", &ls.name), ("queue", &ls.queue)]
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", part(value.as_ref()?))))
        .collect();
    let path = if filters.is_empty() { "/api/v1/tasks".to_owned() } else { format!("/api/v1/tasks?{}", filters.join("&")) };
    let (items, whole) = seen(session, &path, ls.limit, screen).await?;
    if screen.format == Format::Json {
        screen.print_json(&json!({ "items": items }))?;
        return whole;
    }
    let mut table = Table::new(&["ID", "TASK", "STATE", "QUEUE", "RUNTIME", "AGE", "RESULT"]);
    for task in &items {
        let text = |key: &str| task[key].as_str().unwrap_or("-").to_owned();
        let runtime = task["runtime_secs"].as_f64().map_or_else(|| "-".to_owned(), |secs| format!("{secs:.3}s"));
        let age = task["received"].as_i64().map_or_else(|| "-".to_owned(), ago);
        let result: String = text("result").chars().take(60).collect();
        table.row([text("id"), text("name"), text("state"), text("queue"), runtime, age, result]);
    }
    match state.as_deref() {
        Some("FAILURE") => table.print(screen, &format!("No failed tasks.  Make one:  {} call umbel.demo.fail", program()))?,
        _ => table.print(screen, "No tasks.")?,
    }
    whole
}

/// The tasks that the nodes have seen, the last changed first, and the failure to end with when a node did not answer. A task
/// that several nodes have had is where it changed last.
async fn seen(session: &Session, path: &str, limit: usize, screen: &Screen) -> Result<(Vec<Json>, Result<(), Failure>), Failure> {
    if !session.is_shared() {
        return Ok((session.list(path, limit).await?, Ok(())));
    }
    let members = session.nodes().await?;
    let lists = join_all(members.iter().map(|member| member.list(path, limit))).await;
    let mut answered = 0;
    let mut items: Vec<Json> = Vec::new();
    for (member, list) in members.iter().zip(lists) {
        match list {
            Ok(list) => {
                answered += 1;
                items.extend(list);
            }
            Err(error) => note(screen, &format!("{} does not answer: {error}", member.name)),
        }
    }
    items.sort_by_key(|task| std::cmp::Reverse(changed(task)));
    let mut ids = HashSet::new();
    items.retain(|task| ids.insert(task["id"].as_str().unwrap_or_default().to_owned()));
    items.truncate(limit);
    Ok((items, fleet::partial(&members, answered)))
}

/// When a task changed last, as far as it is shown.
fn changed(task: &Json) -> i64 {
    ["ended", "started", "received"].iter().filter_map(|key| task[*key].as_i64()).max().unwrap_or(0)
}

/// What is known of a task, from the node that has seen it last.
async fn known(session: &Session, path: &str, screen: &Screen) -> Result<Json, Failure> {
    if session.is_shared() {
        let members = session.nodes().await?;
        let found = join_all(members.iter().map(|member| member.ask(Method::GET, path))).await;
        for (member, answer) in members.iter().zip(&found) {
            if let Err(error @ (RemoteError::Unreachable { .. } | RemoteError::Answer { .. })) = answer {
                note(screen, &format!("{} does not answer: {error}", member.name));
            }
        }
        let latest = found.into_iter().flatten().filter(|known| !known["task"].is_null()).max_by_key(|known| changed(&known["task"]));
        if let Some(latest) = latest {
            return Ok(latest);
        }
    }
    session.get(path).await
}

/// Does something to a task: where it is known if that matters, else anywhere.
async fn order(session: &Session, id: &str, verb: &str) -> Result<Json, Failure> {
    let path = format!("/api/v1/tasks/{}/{verb}", part(id));
    if verb == "retry" && session.is_shared() {
        // The message is where it failed.
        for member in session.nodes().await? {
            match member.ask(Method::POST, &path).await {
                Err(RemoteError::Problem { status: StatusCode::NOT_FOUND, .. } | RemoteError::Unreachable { .. }) => {}
                answer => return answer.map_err(failure),
            }
        }
    }
    session.post(&path, None).await
}

async fn show(session: &Session, id: &str, screen: &Screen) -> Result<(), Failure> {
    let found = known(session, &format!("/api/v1/tasks/{}", part(id)), screen).await?;
    if screen.format == Format::Json {
        return screen.print_json(&found);
    }
    let mut table = Table::new(&["FIELD", "VALUE"]);
    let shown = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (key, value) in found["task"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        table.row([key.clone(), shown(value)]);
    }
    for (key, value) in found["result"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        table.row([format!("result.{key}"), shown(value)]);
    }
    table.print(screen, "Nothing is known of it.")
}

/// Does `verb` to each task. Goes on when one refuses, and says so at the end.
async fn each(session: &Session, ids: &[String], verb: &str, done: &str, screen: &Screen) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut refused = None;
    for id in ids {
        match order(session, id, verb).await {
            Ok(answer) => answers.push(answer),
            Err(failure) if ids.len() == 1 => return Err(failure),
            Err(failure) => {
                note(screen, &format!("{id}: {failure}"));
                refused = Some(failure.exit());
            }
        }
    }
    match screen.format {
        Format::Json => screen.print_json(&json!({ "items": answers }))?,
        Format::Text => screen
            .print(|out| answers.iter().try_for_each(|answer| writeln!(out, "{} {done}", answer["id"].as_str().unwrap_or_default())))?,
    }
    match refused {
        None => Ok(()),
        Some(exit) => Err(Failure::new(
            if exit == Exit::NotFound { exit } else { Exit::Failed },
            format!("{} of {} not {done}", ids.len() - answers.len(), ids.len()),
            "see above",
        )),
    }
}
