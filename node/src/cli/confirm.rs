//! Before something is destroyed: what it would be, and whether that is meant.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, note},
};

/// Flags of verbs that destroy.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Confirm {
    /// Do it without asking
    #[arg(short = 'f', long, visible_alias = "force")]
    yes: bool,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

impl Confirm {
    /// Whether to go on with `deed` ("remove 3 messages from queue celery"). Without a terminal and without `--yes` nobody can
    /// be asked, and that is an error rather than a wait for ever.
    pub(super) fn ask(self, screen: &Screen, deed: &str) -> Result<bool, Failure> {
        if self.dry_run {
            note(screen, &format!("would {deed}"));
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            let failure = Failure::new(Exit::Usage, format!("refusing to {deed}"), "there is no terminal to ask for confirmation");
            return Err(failure.hint("the same with --yes, or with --dry-run"));
        }
        // A closed standard error means that nobody reads the question; then the answer is no.
        let asked = write!(io::stderr().lock(), "{deed}? [y/N] ").and_then(|()| io::stderr().flush());
        let mut answer = String::new();
        let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
        if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(true);
        }
        Err(Failure::new(Exit::Usage, format!("did not {deed}"), "not confirmed"))
    }
}
