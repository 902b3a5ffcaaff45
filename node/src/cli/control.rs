//! `node control`: `celery control`, for nodes and Celery workers alike.

use serde_json::{Value as Json, json};

use super::{
    exit::Exit,
    failure::Failure,
    inspect::{list, read},
    output::{Format, Screen},
    place::Place,
    remote::{self, Whom},
    session::Session,
};
use crate::control::table::Kind;

/// Tell nodes and Celery workers: revoke, rate_limit, add_consumer, pool_grow, shutdown, and more
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
        return list(screen, Kind::Control);
    }
    let (screen, place) = (*screen, place.clone());
    let (method, arguments) = read(Kind::Control, args.command.as_deref().unwrap_or_default(), &args.words)?;
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        let asked = match remote::ask(&session, &method, &arguments, &args.whom).await {
            // Who is told to stop says nothing more.
            Err(failure) if method == "shutdown" && failure.exit() == Exit::Unavailable && !remote::as_celery() => return Ok(()),
            asked => asked?,
        };
        if args.whom.as_json || screen.format == Format::Json {
            let replies: Vec<Json> = asked.replies.iter().map(|(node, reply)| json!({ node.as_str(): reply })).collect();
            screen.print_json(&replies)?;
        } else {
            screen.print(|out| {
                for (node, reply) in &asked.replies {
                    remote::chat(out, &screen, node, reply, true)?;
                }
                Ok(())
            })?;
        }
        if let Some(node) = asked.refused().filter(|_| !remote::as_celery()) {
            return Err(Failure::new(Exit::Failed, format!("{method} was refused by"), "see its answer").value(node, "answers"));
        }
        asked.ending(&screen)
    })
}
