//! `node config`: what is configured, and where it comes from.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Format, Screen},
    place::Place,
    table::Table,
};
use crate::config;

/// Show and check the configuration
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Print every value; secrets are masked
    Show {
        /// Print where each value comes from as well
        #[arg(long)]
        origin: bool,
    },
    /// Check the configuration: exit code 2 if anything is wrong with it
    Check,
    /// Write a file with every key, commented out
    Init {
        /// The file
        #[arg(default_value = "umbel.toml")]
        file: PathBuf,
        /// Write over a file that is there
        #[arg(short, long)]
        force: bool,
    },
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    match args.verb {
        Verb::Show { origin } => {
            let loaded = place.load(Vec::new(), screen)?;
            show(&loaded.config, origin, screen)
        }
        Verb::Check => {
            let loaded = place.load(Vec::new(), screen)?;
            config::plan(&loaded.config).map_err(|error| Failure::new(Exit::Usage, "the configuration cannot be used", error))?;
            super::serve::settings(&loaded.config, None)?;
            super::serve::commands(&loaded.config)?;
            let file = loaded.file.as_ref().map(|file| file.display().to_string());
            match screen.format {
                Format::Json => screen.print_json(&json!({ "ok": true, "file": file, "warnings": loaded.warnings })),
                Format::Text => screen.print(|out| {
                    writeln!(out, "ok    {}", file.as_deref().unwrap_or("no umbel.toml; flags, environment and built-in values"))
                }),
            }
        }
        Verb::Init { file, force } => init(&file, force, screen),
    }
}

fn show(config: &config::Config, origin: bool, screen: &Screen) -> Result<(), Failure> {
    let rows = config.resolved.rows();
    if screen.format == Format::Json {
        let items: Vec<_> =
            rows.iter().map(|row| json!({ "key": row.name.to_string(), "value": row.value, "origin": row.origin.to_string() })).collect();
        return screen.print_json(&json!({ "items": items }));
    }
    let mut table = Table::new(if origin { &["KEY", "VALUE", "ORIGIN"] } else { &["KEY", "VALUE"] });
    for row in rows {
        let cells = [row.name.to_string(), row.value.clone(), row.origin.to_string()];
        table.row(cells.into_iter().take(if origin { 3 } else { 2 }));
    }
    table.print(screen, "Nothing is configured.")
}

fn init(file: &std::path::Path, force: bool, screen: &Screen) -> Result<(), Failure> {
    let shown = file.display().to_string();
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(file).and_then(|mut file| std::io::Write::write_all(&mut file, config::init().as_bytes()));
    written.map_err(|error| {
        let failure = Failure::new(Exit::Failed, "cannot write", &error).value(shown.clone(), "FILE");
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            failure.hint("the same with --force, or name another file")
        } else {
            failure
        }
    })?;
    match screen.format {
        Format::Json => screen.print_json(&json!({ "file": shown })),
        Format::Text => screen.print(|out| writeln!(out, "wrote {shown}")),
    }
}
