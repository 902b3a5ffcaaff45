//! `node wait ID`: until a task or group has ended.

use std::time::Duration;

use super::{failure::Failure, outcome::Awaited, output::Screen, place::Place, session::Session};

/// Wait for a task or group, and print its result
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The id of the task or group
    id: String,
    /// How many seconds to wait at most; without it, as long as it takes
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        Awaited::of_id(&session, &args.id).await.print(&session, &screen, args.timeout).await
    })
}

/// Seconds as people write them.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let secs: f64 = text.parse().map_err(|_| "it is not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(secs).map_err(|_| "it is not a length of time".to_owned())
}
