//! `node version`: which program this is.

use super::{
    failure::Failure,
    output::{Format, Screen},
};

/// Print the version
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args, screen: &Screen) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match screen.format {
        Format::Text => screen.print(|out| writeln!(out, "umbel {version}")),
        Format::Json => screen.print_json(&serde_json::json!({ "name": "umbel", "version": version })),
    }
}
