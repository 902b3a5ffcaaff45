//! `node queues`: what waits where.

use clap::Subcommand;
use serde_json::{Value as Json, json};

use super::{
    confirm::Confirm,
    failure::Failure,
    output::{Format, Screen},
    place::Place,
    session::{Session, part},
    table::{Table, ago},
};

/// Look at queues, pause, resume and purge them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// List every queue (the default)
    Ls,
    /// Show one queue
    Show {
        /// The queue
        queue: String,
    },
    /// Stop handing out a queue's messages, on every node
    Pause {
        /// The queue
        queue: String,
    },
    /// Hand them out again
    Resume {
        /// The queue
        queue: String,
    },
    /// Remove every waiting message of a queue
    Purge {
        /// The queue
        queue: String,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Look at the next messages of a queue, without taking them
    Peek {
        /// The queue
        queue: String,
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
        limit: usize,
    },
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        match args.verb.unwrap_or(Verb::Ls) {
            Verb::Ls => list(&session.get("/api/v1/queues").await?, &screen),
            Verb::Show { queue } => show(&session.get(&format!("/api/v1/queues/{}", part(&queue))).await?, &screen),
            Verb::Pause { queue } => order(&session, &queue, "pause", "paused", &screen).await,
            Verb::Resume { queue } => order(&session, &queue, "resume", "resumed", &screen).await,
            Verb::Purge { queue, confirm } => purge(&session, &queue, confirm, &screen).await,
            Verb::Peek { queue, limit } => {
                peek(&session.get(&format!("/api/v1/queues/{}/messages?limit={limit}", part(&queue))).await?, &screen)
            }
        }
    })
}

fn list(queues: &Json, screen: &Screen) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return screen.print_json(queues);
    }
    table(&queues["items"]).print(screen, "No queues.")
}

/// Queues as a table.
pub(super) fn table(queues: &Json) -> Table {
    let mut table = Table::new(&["QUEUE", "READY", "RUNNING", "SCHEDULED", "OLDEST", "CONSUMERS", "STATE"]);
    for queue in queues.as_array().into_iter().flatten() {
        let number = |key: &str| queue[key].to_string();
        let oldest = queue["oldest"].as_i64().map_or_else(|| "-".to_owned(), ago);
        let state = if queue["paused"] == true { "paused" } else { "active" };
        let name = queue["name"].as_str().unwrap_or_default().to_owned();
        table.row([name, number("ready"), number("held"), number("scheduled"), oldest, number("consumers"), state.to_owned()]);
    }
    table
}

fn show(queue: &Json, screen: &Screen) -> Result<(), Failure> {
    if screen.format == Format::Json { screen.print_json(queue) } else { list(&json!({ "items": [queue] }), screen) }
}

async fn order(session: &Session, queue: &str, verb: &str, done: &str, screen: &Screen) -> Result<(), Failure> {
    let answer = session.post(&format!("/api/v1/queues/{}/{verb}", part(queue)), None).await?;
    match screen.format {
        Format::Json => screen.print_json(&answer),
        Format::Text => screen.print(|out| writeln!(out, "{queue} {done}")),
    }
}

async fn purge(session: &Session, queue: &str, confirm: Confirm, screen: &Screen) -> Result<(), Failure> {
    let path = format!("/api/v1/queues/{}", part(queue));
    let status = session.get(&path).await?;
    let waiting = status["ready"].as_u64().unwrap_or(0) + status["scheduled"].as_u64().unwrap_or(0);
    let sure = confirm.ask(screen, &format!("remove {waiting} messages from queue {queue}"))?;
    let purged = if sure { session.delete(&format!("{path}/messages")).await?["purged"].clone() } else { json!(0) };
    match screen.format {
        Format::Json => screen.print_json(&json!({ "queue": queue, "purged": purged })),
        Format::Text if sure => screen.print(|out| writeln!(out, "{purged} messages purged from queue {queue}")),
        Format::Text => Ok(()),
    }
}

fn peek(messages: &Json, screen: &Screen) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return screen.print_json(messages);
    }
    let mut table = Table::new(&["ID", "TASK", "ARGS", "KWARGS", "TAKEN", "DUE"]);
    for item in messages["items"].as_array().into_iter().flatten() {
        let message = &item["message"];
        let text = |key: &str| message[key].as_str().or(message["error"].as_str()).unwrap_or("-").to_owned();
        let due = item["due"].as_i64().map_or_else(|| "-".to_owned(), |due| umbel_proto::Timestamp::from_millis(due).as_str().to_owned());
        table.row([text("id"), text("task"), text("args"), text("kwargs"), item["attempts"].to_string(), due]);
    }
    table.print(screen, "No messages.")
}
