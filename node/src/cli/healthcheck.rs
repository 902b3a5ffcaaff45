//! `node healthcheck`: whether the node takes work, as an exit code.

use futures::future::join_all;
use serde_json::json;

use super::{
    exit::Exit,
    failure::Failure,
    fleet,
    output::{Format, Screen},
    place::Place,
};
use crate::config;

/// Ask the nodes of this machine whether they take work: exit code 0 if all of them do
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let mut members = fleet::find(&place, &screen).await?;
        let here = config::hostname();
        let elsewhere = members.len();
        members.retain(|member| member.host == here);
        if members.is_empty() {
            let reason = format!("none of {elsewhere} nodes of this broker runs on {here}");
            return Err(Failure::new(Exit::Unavailable, "No nodes replied within time constraint", reason));
        }
        let mut answers = Vec::with_capacity(members.len());
        for (member, (ready, detail)) in members.iter().zip(join_all(members.iter().map(fleet::Member::ready)).await) {
            answers.push((member.name.as_str(), ready, detail));
        }
        let unready: Vec<String> =
            answers.iter().filter(|(_, ready, _)| !ready).map(|(name, _, detail)| format!("{name}: {detail}")).collect();
        let detail = match answers.as_slice() {
            [(_, _, detail)] => detail.clone(),
            _ if unready.is_empty() => "ready".to_owned(),
            _ => unready.join("; "),
        };
        match screen.format {
            Format::Json => screen.print_json(&json!({ "ready": unready.is_empty(), "detail": detail }))?,
            Format::Text if unready.is_empty() => screen.print(|out| writeln!(out, "{detail}"))?,
            Format::Text => {}
        }
        if unready.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Failed, "the node takes no work", detail)) }
    })
}
