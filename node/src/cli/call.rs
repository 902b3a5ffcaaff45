//! `node call TASK`: one task, by name.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::{Map, Value as Json, json};

use super::{
    exit::Exit,
    failure::Failure,
    outcome::Awaited,
    output::{Format, Screen, note},
    place::Place,
    session::Session,
};

/// Call a task by its name
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The task's name
    task: String,
    /// Positional arguments: JSON, or text where it is none
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    values: Vec<String>,
    /// Positional arguments as a JSON list, as for `celery call`
    #[arg(short, long, value_name = "JSON", conflicts_with = "values")]
    args: Option<String>,
    /// Keyword arguments as a JSON object
    #[arg(short, long, value_name = "JSON")]
    kwargs: Option<String>,
    /// Run it this many seconds from now
    #[arg(long, value_name = "SECONDS")]
    countdown: Option<f64>,
    /// Run it not before this time (ISO 8601)
    #[arg(long, value_name = "TIME", conflicts_with = "countdown")]
    eta: Option<String>,
    /// Do not run it later than this: seconds from now, or a time (ISO 8601)
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// The queue to send it to
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The priority, 0 to 9
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// The task's id, instead of a new one
    #[arg(long, value_name = "ID")]
    task_id: Option<String>,
    /// Wait for the result and print it, instead of the id
    #[arg(short, long)]
    wait: bool,
    /// How many seconds to wait at most
    #[arg(short, long, value_name = "SECONDS", requires = "wait", value_parser = super::wait::seconds)]
    timeout: Option<Duration>,
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let signature = signature(&args)?;
    let screen = *screen;
    let place = place.clone();
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        send(&session, &json!({ "signature": signature }), None, args.wait.then_some(args.timeout), &screen).await
    })
}

/// Submits, and prints the id; or waits and prints the result.
pub(super) async fn send(
    session: &Session,
    body: &Json,
    key: Option<&str>,
    wait: Option<Option<Duration>>,
    screen: &Screen,
) -> Result<(), Failure> {
    let submitted = session.submit(body, key).await?;
    for warning in submitted["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        note(screen, warning);
    }
    match (wait, screen.format) {
        (Some(timeout), _) => Awaited::of_tree(&submitted["result"]).print(session, screen, timeout).await,
        (None, Format::Json) => screen.print_json(&submitted),
        (None, Format::Text) => screen.print(|out| writeln!(out, "{}", submitted["id"].as_str().unwrap_or_default())),
    }
}

fn signature(args: &Args) -> Result<Json, Failure> {
    let positional = match &args.args {
        Some(text) => list(text)?,
        None => args.values.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|_| Json::from(text.as_str()))).collect(),
    };
    let kwargs = args.kwargs.as_deref().map(object).transpose()?.unwrap_or_default();
    let mut options = Map::new();
    let expires = args.expires.as_ref().map(|text| text.parse::<f64>().map_or_else(|_| Json::from(text.as_str()), Json::from));
    let given: [(&str, Option<Json>); 6] = [
        ("countdown", args.countdown.map(Json::from)),
        ("eta", args.eta.as_deref().map(Json::from)),
        ("expires", expires),
        ("queue", args.queue.as_deref().map(Json::from)),
        ("priority", args.priority.map(Json::from)),
        ("task_id", args.task_id.as_deref().map(Json::from)),
    ];
    options.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok(json!({ "task": args.task, "args": positional, "kwargs": kwargs, "options": options }))
}

fn list(text: &str) -> Result<Vec<Json>, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::new(Exit::Usage, "cannot read the arguments", error).value(text, "--args").hint("--args '[2, 3]'"))
}

fn object(text: &str) -> Result<Map<String, Json>, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new(Exit::Usage, "cannot read the keyword arguments", error).value(text, "--kwargs").hint(r#"--kwargs '{"x": 2}'"#)
    })
}
