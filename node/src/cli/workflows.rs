//! `node workflows`: what was submitted together.

use clap::Subcommand;
use serde_json::Value as Json;

use super::{
    confirm::Confirm,
    failure::{Failure, visible},
    output::{Format, Screen, program},
    place::Place,
    session::{Session, part},
};

/// Look at workflows and revoke them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Show every task that can be reached from a result, with its state
    Show {
        /// The id of a task or group
        id: String,
    },
    /// Keep everything that was submitted together with a task from running
    Revoke {
        /// The id of a task or group
        id: String,
        #[command(flatten)]
        confirm: Confirm,
    },
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        match args.verb {
            Verb::Show { id } => {
                let workflow = session.get(&format!("/api/v1/workflows/{}", part(&id))).await?;
                if screen.format == Format::Json {
                    return screen.print_json(&workflow);
                }
                let mut lines = Vec::new();
                tree(&workflow["tree"], "", "", &screen, &mut lines);
                if let (Some(done), Some(size)) = (workflow["chord"]["done"].as_u64(), workflow["chord"]["size"].as_u64()) {
                    lines.push(format!("chord: {done} of {size} parts are there"));
                }
                screen.print(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))
            }
            Verb::Revoke { id, confirm } => {
                if !confirm.ask(&screen, &format!("revoke the workflow of {id}"))? {
                    return Ok(());
                }
                let answer = session.post(&format!("/api/v1/workflows/{}/revoke", part(&id)), None).await?;
                match screen.format {
                    Format::Json => screen.print_json(&answer),
                    Format::Text => screen.print(|out| writeln!(out, "{id} revoked")),
                }
            }
        }
    })
}

fn tree(node: &Json, own: &str, below: &str, screen: &Screen, lines: &mut Vec<String>) {
    let text = |key: &str| visible(node[key].as_str().unwrap_or_default());
    let status = match node["status"].as_str() {
        Some("SUCCESS") => screen.paint("SUCCESS", "32"),
        Some(bad @ ("FAILURE" | "REVOKED")) => screen.paint(bad, "31"),
        Some(other) => visible(other),
        None => "PENDING".to_owned(),
    };
    let what = if node["group"] == true { "group".to_owned() } else { format!("{} {status}", text("name")).trim_start().to_owned() };
    lines.push(format!("{own}{what}  {}", text("id")));
    let children = node["children"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, child) in children.iter().enumerate() {
        let last = index + 1 == children.len();
        let (branch, line) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        tree(child, &format!("{below}{branch}"), &format!("{below}{line}"), screen, lines);
    }
    if node["truncated"] == true {
        lines.push(format!("{below}└─ … more: {} workflows show {}", program(), text("id")));
    }
}
