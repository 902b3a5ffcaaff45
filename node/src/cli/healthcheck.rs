//! `node healthcheck`: whether the node takes work, as an exit code.

use axum::http::Method;
use serde_json::json;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Format, Screen},
    place::Place,
    session::Session,
};

/// Ask a node whether it takes work: exit code 0 if it does
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::node(&place, &screen).await?;
        let answer = session.remote().raw(Method::GET, "/readyz", None).await;
        let (status, text) = answer.map_err(|error| Failure::new(Exit::Unavailable, "there is no answer", error))?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        match screen.format {
            Format::Json => screen.print_json(&json!({ "ready": status.is_success(), "detail": text }))?,
            Format::Text if status.is_success() => screen.print(|out| writeln!(out, "{text}"))?,
            Format::Text => {}
        }
        if status.is_success() { Ok(()) } else { Err(Failure::new(Exit::Failed, "the node takes no work", text)) }
    })
}
