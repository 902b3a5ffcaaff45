//! `node inspect`: `celery inspect`, for nodes and Celery workers alike.

use serde_json::{Map, Value as Json, json};

use super::{
    exit::Exit,
    failure::Failure,
    output::{Format, Screen, program},
    place::Place,
    remote::{self, Whom},
    session::Session,
};
use crate::control::{
    table::{self, Kind},
    words,
};

/// Ask nodes and Celery workers: active, reserved, scheduled, registered, stats, active_queues, query_task, and more
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The command; --list names them
    #[arg(required_unless_present = "list")]
    command: Option<String>,
    /// Its arguments
    words: Vec<String>,
    /// List the commands there are
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    whom: Whom,
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    if args.list {
        return list(screen, Kind::Inspect);
    }
    let (screen, place) = (*screen, place.clone());
    let (method, arguments) = read(Kind::Inspect, args.command.as_deref().unwrap_or_default(), &args.words)?;
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        let mut asked = remote::ask(&session, &method, &arguments, &args.whom).await?;
        let nodes = asked.replies.len();
        if method == "query_task" {
            let stored = stored(&session, &arguments, &asked.replies).await?;
            asked.replies.extend(stored);
        }
        if args.whom.as_json || screen.format == Format::Json {
            let replies: Map<String, Json> = asked.replies.iter().cloned().collect();
            screen.print_json(&replies)?;
        } else {
            screen.print(|out| {
                for (node, reply) in &asked.replies {
                    remote::chat(out, &screen, node, reply, true)?;
                }
                remote::count(out, nodes)
            })?;
        }
        asked.ending(&screen)
    })
}

/// Tasks that no node has any more: what is stored of them.
async fn stored(session: &Session, arguments: &Json, replies: &[(String, Json)]) -> Result<Option<(String, Json)>, Failure> {
    let mut found = Map::new();
    for id in arguments["ids"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        if replies.iter().any(|(_, reply)| reply.get(id).is_some()) {
            continue;
        }
        match session.get(&format!("/api/v1/results/{}", super::session::part(id))).await {
            Ok(record) if record["status"] != "PENDING" => {
                found.insert(id.to_owned(), json!(["ready", record]));
            }
            Ok(_) => {}
            Err(failure) if failure.exit() == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok((!found.is_empty()).then(|| ("result backend".to_owned(), Json::Object(found))))
}

/// The command and its arguments, as they are sent.
pub(super) fn read(kind: Kind, name: &str, given: &[String]) -> Result<(String, Json), Failure> {
    let verb = if kind == Kind::Inspect { "inspect" } else { "control" };
    let Some(command) = table::find(name).filter(|command| command.kind == kind && command.visible) else {
        let known: Vec<&str> = table::listed(kind).map(|command| command.name).collect();
        let what = format!("Command {name} not recognized. Available {verb} commands");
        return Err(Failure::new(Exit::Usage, what, known.join(", ")).hint(format!("{} {verb} --list", program())));
    };
    let request = words::request(command, given)
        .map_err(|reason| Failure::new(Exit::Usage, format!("cannot send {name}"), reason).hint(format!("{} {verb} --list", program())))?;
    let arguments = request.arguments.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
    Ok((command.name.to_owned(), Json::Object(arguments)))
}

/// What the words of a command line can become.
fn plain(value: &umbel_proto::Value) -> Json {
    serde_json::from_slice(&umbel_proto::codec::json::write(value)).unwrap_or(Json::Null)
}

/// Prints the commands there are.
pub(super) fn list(screen: &Screen, kind: Kind) -> Result<(), Failure> {
    let title = if kind == Kind::Inspect { "Inspect Commands:" } else { "Control Commands:" };
    screen.print(|out| {
        writeln!(out, "{title}")?;
        for command in table::listed(kind) {
            let preview = format!("{} {}", command.name, command.signature);
            writeln!(out, "  {preview:<58} {}", command.help)?;
        }
        Ok(())
    })
}
