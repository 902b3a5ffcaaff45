//! `node status`: who is there, and how they are.

use serde_json::{Value as Json, json};

use super::{
    failure::Failure,
    fleet,
    output::{Format, Screen},
    place::Place,
    remote::{self, Whom},
    session::Session,
};
use crate::config::UrlKind;

/// Show which nodes are there, and how they are
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what runs, the queues and what was counted as well
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    whom: Whom,
}

pub(super) fn run(args: &Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let config = place.load_quietly(Vec::new())?.config;
    // On a broker for several there may be Celery's workers too: they answer by remote control. What only nodes can tell (-v,
    // -o json) they tell over HTTP.
    let plain = !args.verbose && (remote::as_celery() || !(args.whom.as_json || screen.format == Format::Json));
    if plain && place.node.is_none() && config.broker.is_some_and(|broker| broker.kind != UrlKind::Embedded) {
        return many(args.whom.clone(), place, screen);
    }
    let (screen, place, verbose, as_json) = (*screen, place.clone(), args.verbose, args.whom.as_json);
    super::session::run(async move {
        let members = fleet::find(&place, &screen).await?;
        let nodes = fleet::ask_all(&members, "/api/v1/node", &screen).await?;
        if screen.format == Format::Json || as_json {
            screen.print_json(&json!({ "nodes": nodes }))?;
            return fleet::partial(&members, nodes.len());
        }
        screen.print(|out| {
            for node in &nodes {
                writeln!(out, "->  {}: {}", node["node"].as_str().unwrap_or_default(), state(node, &screen))?;
                if verbose {
                    details(out, node)?;
                }
            }
            writeln!(out, "\n{} node{} online.", nodes.len(), if nodes.len() == 1 { "" } else { "s" })
        })?;
        fleet::partial(&members, nodes.len())
    })
}

fn state(node: &Json, screen: &Screen) -> String {
    match node["phase"].as_str() {
        Some("running") if node["broker"]["state"] == "live" && node["ledger"]["state"] == "live" => screen.paint("OK", "32"),
        Some("running") => screen.paint("DEGRADED", "33"),
        phase => screen.paint(&phase.unwrap_or("unknown").to_uppercase(), "33"),
    }
}

/// Asks whoever listens to the broker's commands.
fn many(whom: Whom, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        let asked = remote::ask(&session, "ping", &json!({}), &whom).await?;
        if whom.as_json || screen.format == Format::Json {
            let replies: serde_json::Map<_, _> = asked.replies.iter().cloned().collect();
            screen.print_json(&replies)?;
        } else {
            screen.print(|out| {
                for (node, reply) in &asked.replies {
                    remote::chat(out, &screen, node, reply, false)?;
                }
                for node in &asked.missing {
                    writeln!(out, "->  {node}: {}", screen.paint("NO REPLY", "31"))?;
                }
                remote::count(out, asked.replies.len())
            })?;
        }
        asked.ending(&screen)
    })
}

fn details(out: &mut dyn std::io::Write, node: &Json) -> std::io::Result<()> {
    let list = |value: &Json| {
        value.as_array().map(|items| items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(" ")).unwrap_or_default()
    };
    writeln!(out, "    queues    {}", list(&node["queues"]))?;
    writeln!(out, "    messages  {} of {}", node["credits"]["in_use"], node["credits"]["total"])?;
    for pool in node["pools"].as_array().into_iter().flatten().filter(|pool| !pool.is_null()) {
        let running = pool["running"].as_array().cloned().unwrap_or_default();
        writeln!(out, "    {}: {} of {} slots busy", pool["executor"].as_str().unwrap_or_default(), running.len(), pool["slots"])?;
        for task in running {
            writeln!(
                out,
                "      {}[{}] attempt {}",
                task["name"].as_str().unwrap_or_default(),
                task["id"].as_str().unwrap_or_default(),
                task["attempt"]
            )?;
        }
    }
    for (kind, count) in node["facts"].as_object().into_iter().flatten() {
        writeln!(out, "    {kind}: {count}")?;
    }
    Ok(())
}
