//! `node top`: nodes, queues and running tasks, looked at again and again.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use axum::http::Method;
use futures::future::join_all;
use serde_json::{Value as Json, json};

use super::{
    failure::Failure,
    nodes, output,
    output::{Format, Screen},
    place::Place,
    queues,
    session::Session,
    table::{Table, ago},
};

/// The shortest time between two looks, in seconds.
const INTERVAL_MIN: f64 = 0.2;

/// The screen of the program's own: entered, and left as it was found.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Watch nodes, queues and what runs, live; once, where nobody watches
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The time between two looks
    #[arg(short = 'n', long, value_name = "SECONDS", default_value_t = 2.0)]
    interval: f64,
    /// Look once and end
    #[arg(long)]
    once: bool,
}

pub(super) fn run(args: &Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    let interval = Duration::try_from_secs_f64(args.interval.max(INTERVAL_MIN)).unwrap_or(Duration::MAX);
    let live = !args.once && screen.format == Format::Text && io::stdout().is_terminal();
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        let first = look(&session).await?;
        if screen.format == Format::Json {
            return screen.print_json(&first);
        }
        if !live {
            return screen.print(|out| out.write_all(page(&first, &screen).as_bytes()));
        }
        let stage = Stage::enter(&screen)?;
        let mut seen = Ok(first);
        loop {
            stage.draw(&match &seen {
                Ok(seen) => page(seen, &screen),
                Err(failure) => format!("{failure}\n"),
            })?;
            tokio::time::sleep(interval).await;
            seen = look(&session).await;
        }
    })
}

/// Everything that is shown, at one time.
async fn look(session: &Session) -> Result<Json, Failure> {
    let members = session.nodes().await?;
    let mut said: Vec<Json> = Vec::new();
    for answer in join_all(members.iter().map(|member| member.ask(Method::GET, "/api/v1/node"))).await {
        said.extend(answer.ok());
    }
    let mut seen = None;
    for member in &members {
        seen = member.ask(Method::GET, "/api/v1/nodes").await.ok();
        if seen.is_some() {
            break;
        }
    }
    let seen = match seen {
        Some(seen) => seen,
        None => session.get("/api/v1/nodes").await?,
    };
    let mut running: Vec<Json> = Vec::new();
    for node in &said {
        for pool in node["pools"].as_array().into_iter().flatten() {
            for task in pool["running"].as_array().into_iter().flatten() {
                let mut task = task.clone();
                task["node"] = node["node"].clone();
                running.push(task);
            }
        }
    }
    // What has run longest is what somebody looks for.
    running.sort_by_key(|task| task["started"].as_i64());
    Ok(json!({ "nodes": seen["items"], "queues": session.get("/api/v1/queues").await?["items"], "running": running }))
}

fn page(seen: &Json, screen: &Screen) -> String {
    let mut tasks = Table::new(&["RUNNING", "TASK", "QUEUE", "NODE", "ATTEMPT", "ID"]);
    for task in seen["running"].as_array().into_iter().flatten() {
        let text = |key: &str| task[key].as_str().unwrap_or("-").to_owned();
        let since = task["started"].as_i64().map_or_else(|| "-".to_owned(), ago);
        tasks.row([since, text("name"), text("queue"), text("node"), task["attempt"].to_string(), text("id")]);
    }
    let parts = [
        nodes::table(&seen["nodes"]).page(screen, "No nodes."),
        queues::table(&seen["queues"]).page(screen, "No queues."),
        tasks.page(screen, "Nothing runs."),
    ];
    parts.join("\n")
}

/// The terminal, while it shows nothing else. Left when this is dropped, also when the program is told to stop.
struct Stage(Screen);

impl Stage {
    fn enter(screen: &Screen) -> Result<Self, Failure> {
        screen.print(|out| out.write_all(ENTER.as_bytes()))?;
        Ok(Self(*screen))
    }

    /// Draws over what was there, line by line, so that nothing flickers. What does not fit is left out.
    fn draw(&self, page: &str) -> Result<(), Failure> {
        let (rows, _) = console::Term::stdout().size();
        let mut frame = "\x1b[H".to_owned();
        let heading = format!("{} top: Ctrl-C ends it", output::program());
        for (at, line) in std::iter::once(heading.as_str()).chain([""]).chain(page.lines()).take(usize::from(rows)).enumerate() {
            // Wrapped lines would push the rest out of the screen.
            frame.push_str(if at == 0 { "\x1b[?7l" } else { "\n" });
            frame.push_str(line);
            frame.push_str("\x1b[K");
        }
        frame.push_str("\x1b[J\x1b[?7h");
        self.0.print(|out| out.write_all(frame.as_bytes()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // There is nobody left to show it to when standard output is closed.
        let _ = io::stdout().write_all(LEAVE.as_bytes()).and_then(|()| io::stdout().flush());
    }
}
