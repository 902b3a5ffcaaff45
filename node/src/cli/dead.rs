//! `node dead`: messages that nobody will run.

use clap::Subcommand;
use serde_json::{Value as Json, json};

use super::{
    confirm::Confirm,
    exit::Exit,
    failure::Failure,
    output::{Format, Screen},
    place::Place,
    session::{Session, part},
    table::{Table, ago},
};

/// Look at dead letters, put them back or drop them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// List dead letters, newest first (the default)
    Ls {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Show one dead letter
    Show {
        /// Its id
        id: String,
    },
    /// Put dead letters back into their queues
    Retry {
        /// Their ids
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
        /// Every one
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Remove dead letters for good
    Drop {
        /// Their ids
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
        /// Every one
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// Dead letters looked through for `--all`.
const ALL_MAX: usize = 100_000;

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        match args.verb.unwrap_or(Verb::Ls { limit: 50 }) {
            Verb::Ls { limit } => list(&session.list("/api/v1/dead", limit).await?, &screen),
            Verb::Show { id } => {
                let letter = session.get(&format!("/api/v1/dead/{}", part(&id))).await?;
                if screen.format == Format::Json { screen.print_json(&letter) } else { list(&[letter], &screen) }
            }
            Verb::Retry { ids, all } => {
                let ids = chosen(&session, ids, all).await?;
                let mut answers = Vec::new();
                for id in &ids {
                    answers.push(session.post(&format!("/api/v1/dead/{}/retry", part(id)), None).await?);
                }
                done(&answers, "put back", &screen)
            }
            Verb::Drop { ids, all, confirm } => {
                let ids = chosen(&session, ids, all).await?;
                if !confirm.ask(&screen, &format!("remove {} dead letters for good", ids.len()))? {
                    return Ok(());
                }
                let mut answers = Vec::new();
                for id in &ids {
                    answers.push(session.delete(&format!("/api/v1/dead/{}", part(id))).await?);
                }
                done(&answers, "dropped", &screen)
            }
        }
    })
}

async fn chosen(session: &Session, ids: Vec<String>, all: bool) -> Result<Vec<String>, Failure> {
    if !all {
        return Ok(ids);
    }
    let letters = session.list("/api/v1/dead", ALL_MAX).await?;
    if letters.is_empty() {
        return Err(Failure::new(Exit::NotFound, "no dead letters", "there are none"));
    }
    Ok(letters.iter().filter_map(|letter| letter["id"].as_str().map(str::to_owned)).collect())
}

fn done(answers: &[Json], done: &str, screen: &Screen) -> Result<(), Failure> {
    match screen.format {
        Format::Json => screen.print_json(&json!({ "items": answers })),
        Format::Text => {
            screen.print(|out| answers.iter().try_for_each(|answer| writeln!(out, "{} {done}", answer["id"].as_str().unwrap_or_default())))
        }
    }
}

fn list(letters: &[Json], screen: &Screen) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return screen.print_json(&json!({ "items": letters }));
    }
    let mut table = Table::new(&["ID", "QUEUE", "TASK", "REASON", "AGE", "TAKEN", "DETAIL"]);
    for letter in letters {
        let text = |key: &str| letter[key].as_str().unwrap_or("-").to_owned();
        let task = letter["message"]["task"].as_str().unwrap_or("-").to_owned();
        let age = letter["at"].as_i64().map_or_else(|| "-".to_owned(), ago);
        table.row([text("id"), text("queue"), task, text("reason"), age, letter["attempts"].to_string(), text("detail")]);
    }
    table.print(screen, "No dead letters.")
}
