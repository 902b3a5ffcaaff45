//! `node nodes`: who is there, how busy each is, and why it takes as much as it does.

use axum::http::Method;
use clap::Subcommand;
use serde_json::{Value as Json, json};

use super::{
    confirm::Confirm,
    exit::Exit,
    failure::Failure,
    fleet::{self, Member},
    output::{Format, Screen, program},
    place::Place,
    session::Session,
    table::{Table, ago},
};

/// Look at the nodes of the cluster, and let one of them drain
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// List every node, as one of them sees them (the default)
    Ls,
    /// Show one node
    Show {
        /// The node
        name: String,
        /// Say why it takes as many messages as it does
        #[arg(long)]
        why: bool,
    },
    /// Have a node take no more work, give back what has not begun, finish what runs, and end
    Drain {
        /// The node
        name: String,
        /// How long running tasks may take, in seconds
        #[arg(short, long, value_name = "SECONDS", default_value_t = 25)]
        timeout: u64,
        #[command(flatten)]
        confirm: Confirm,
    },
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        match args.verb.unwrap_or(Verb::Ls) {
            Verb::Ls => list(&seen(&place, &screen).await?, &screen),
            Verb::Show { name, why } => {
                let (_, said) = find(&place, &screen, &name).await?;
                show(&said, why, &screen)
            }
            Verb::Drain { name, timeout, confirm } => drain(&place, &name, timeout, confirm, &screen).await,
        }
    })
}

/// The nodes as the first one that answers sees them; as the broker does, if none does.
async fn seen(place: &Place, screen: &Screen) -> Result<Json, Failure> {
    for member in fleet::find(place, screen).await? {
        if let Ok(nodes) = member.ask(Method::GET, "/api/v1/nodes").await {
            return Ok(nodes);
        }
    }
    Session::open(place, screen).await?.get("/api/v1/nodes").await
}

fn list(nodes: &Json, screen: &Screen) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return screen.print_json(nodes);
    }
    table(&nodes["items"]).print(screen, "No nodes.")
}

/// Nodes as a table.
pub(super) fn table(nodes: &Json) -> Table {
    let mut table = Table::new(&["NODE", "STATE", "SINCE", "BUSY", "WAITING", "CPU", "MEMORY", "ROLES", "QUEUES", "VERSION"]);
    for node in nodes.as_array().into_iter().flatten() {
        let text = |key: &str| node[key].as_str().unwrap_or("-").to_owned();
        let words = |key: &str| {
            let words: Vec<&str> = node[key].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            if words.is_empty() { "-".to_owned() } else { words.join(" ") }
        };
        let load = &node["load"];
        let (busy, waiting, cpu, memory) = if load.is_null() {
            ("-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned())
        } else {
            let percent = |key: &str| format!("{} %", load[key]);
            (format!("{}/{}", load["busy"], load["slots"]), load["backlog"].to_string(), percent("cpu_percent"), percent("memory_percent"))
        };
        let since = node["since"].as_i64().map_or_else(|| "-".to_owned(), ago);
        table.row([text("node"), text("state"), since, busy, waiting, cpu, memory, words("roles"), words("queues"), text("version")]);
    }
    table
}

/// The node of this name, and what it says of itself.
async fn find(place: &Place, screen: &Screen, name: &str) -> Result<(Member, Json), Failure> {
    let mut names = Vec::new();
    for member in fleet::find(place, screen).await? {
        match member.ask(Method::GET, "/api/v1/node").await {
            Ok(said) if said["node"] == name => return Ok((member, said)),
            Ok(said) => names.extend(said["node"].as_str().map(str::to_owned)),
            Err(error) if member.name == name => {
                let failure = Failure::new(Exit::Unavailable, "there is no answer", error);
                return Err(failure.hint(format!("{} doctor", program())));
            }
            Err(_) => names.push(member.name),
        }
    }
    let reason = format!("no node {name:?}; there are {}", names.join(", "));
    Err(Failure::new(Exit::NotFound, "cannot find", reason).hint(format!("{} nodes ls", program())))
}

fn show(said: &Json, why: bool, screen: &Screen) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return screen.print_json(said);
    }
    let queues: Vec<&str> = said["queues"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let credits = &said["credits"];
    screen.print(|out| {
        writeln!(out, "node      {}", said["node"].as_str().unwrap_or_default())?;
        writeln!(out, "phase     {}", said["phase"].as_str().unwrap_or_default())?;
        writeln!(out, "queues    {}", queues.join("  "))?;
        writeln!(out, "messages  {} held, {} wanted, {} at most", credits["in_use"], credits["offered"], credits["total"])?;
        if why {
            writeln!(out, "because   {}", said["why"].as_str().unwrap_or("it does not say"))?;
        }
        for pool in said["pools"].as_array().into_iter().flatten() {
            let devices: Vec<&str> = pool["devices"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            if !devices.is_empty() {
                writeln!(out, "devices   {}   (of the slots of {})", devices.join("  "), pool["executor"].as_str().unwrap_or_default())?;
            }
        }
        if let Some(gossip) = said["gossip"].as_object() {
            writeln!(out, "gossip    {}", gossip["address"].as_str().unwrap_or_default())?;
        }
        Ok(())
    })
}

async fn drain(place: &Place, name: &str, timeout: u64, confirm: Confirm, screen: &Screen) -> Result<(), Failure> {
    let (member, said) = find(place, screen, name).await?;
    let running: usize = said["pools"].as_array().into_iter().flatten().filter_map(|pool| Some(pool["running"].as_array()?.len())).sum();
    let sure = confirm.ask(screen, &format!("drain {name}, where {running} tasks run"))?;
    if sure {
        let asked = member.ask(Method::POST, &format!("/api/v1/drain?grace_secs={timeout}")).await;
        asked.map_err(|error| Failure::new(Exit::Failed, "cannot drain", error).value(name.to_owned(), "the node"))?;
    }
    match screen.format {
        Format::Json => screen.print_json(&json!({ "node": name, "draining": sure })),
        Format::Text if sure => screen.print(|out| writeln!(out, "{name} is draining")),
        Format::Text => Ok(()),
    }
}
