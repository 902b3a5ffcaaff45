//! `node completion SHELL`: completions for a shell.

use clap_complete::Shell;

use super::{failure::Failure, output::Screen};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "For bash:  source <(node completion bash)")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::grammar(), "node", &mut text);
    match screen.format {
        super::output::Format::Json => {
            let script = String::from_utf8_lossy(&text);
            screen.print_json(&serde_json::json!({ "shell": args.shell.to_string(), "script": script }))
        }
        super::output::Format::Text => screen.print(|out| out.write_all(&text)),
    }
}
