//! `node result ID`: what is stored of a task.

use std::time::Duration;

use super::{
    exit::Exit,
    failure::Failure,
    outcome::Awaited,
    output::{Format, Screen},
    place::Place,
    session::{Session, part},
};

/// Print the result of a task
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The id of the task or group
    id: String,
    /// How many seconds to wait for it at most
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = super::wait::seconds)]
    timeout: Duration,
    /// Do not wait: print what is there now
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// Print the traceback of a failure
    #[arg(long)]
    traceback: bool,
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        if !args.no_wait && !args.traceback {
            return Awaited::of_id(&session, &args.id).await.print(&session, &screen, Some(args.timeout)).await;
        }
        let wait = if args.no_wait { 0.0 } else { args.timeout.as_secs_f64().min(60.0) };
        let record = session.get(&format!("/api/v1/results/{}?wait={wait}", part(&args.id))).await?;
        match screen.format {
            Format::Json => screen.print_json(&record),
            Format::Text if args.traceback => match record["traceback"].as_str() {
                Some(traceback) => screen.print(|out| writeln!(out, "{}", traceback.trim_end())),
                None => Err(Failure::new(Exit::NotFound, "no traceback of task", "none is stored").value(args.id, "ID")),
            },
            Format::Text => {
                let status = record["status"].as_str().unwrap_or_default();
                screen.print(|out| if status == "SUCCESS" { writeln!(out, "{}", record["result"]) } else { writeln!(out, "{status}") })
            }
        }
    })
}
