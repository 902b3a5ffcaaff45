//! `node demo [FOLDER]`: the engine at work on real input, with nothing to install and nothing left behind.
//!
//! A node on an embedded store counts the words of a folder: one chord, whose header counts files side by side and whose
//! body adds the counts up. The store is in a temporary folder that is removed at the end, unless `--data-dir` names one.

mod counts;
mod engine;
mod files;
mod folder;
mod progress;
mod report;
mod tasks;
mod words;

use std::{path::PathBuf, time::Duration};

use self::{
    counts::Unreadable,
    engine::{Place, Run},
    report::Report,
};
use super::{exit::Exit, failure::Failure, interrupt::Interrupt, output::Screen};

/// How long threads that still count may take to notice that nobody wants to know.
const THREADS_MAX: Duration = Duration::from_millis(200);

/// What is printed below the help of the verb.
const AFTER_HELP: &str = r#"What is counted:
  A word is a maximal run of Unicode letters, numbers and underscores, in lower case. In Python:
    [word.lower() for word in re.findall(r"\w+", text)]
  (as far as that Python knows the characters: this is Unicode 16 or newer).
  Bytes that are not UTF-8 separate words. Left out are binary files (a NUL byte among the first 8 KiB), folders whose
  name begins with a dot, folders with a CACHEDIR.TAG (cargo's target is one), and symbolic links. A file that cannot be
  read is named on standard error.

How it is counted:
  By one chord: a task for each file (for more than 2,000 files, a task for several), and one that adds the counts up
  (for more than 64 counts, by chords within the chord). The node's queues and results are in a store on disk, as those
  of any node are: in a temporary folder, or in the one that --data-dir names, where it is kept."#;

/// Count the words of a folder with a workflow on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The folder to count; without it, the repository: the sources this was built from when cargo runs it, else the git
    /// checkout around the current folder
    folder: Option<PathBuf>,
    /// How many words to print, the most frequent first (-o json prints all)
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

pub(super) fn run(args: Args, cluster: &super::place::Place, screen: &Screen) -> Result<(), Failure> {
    let folder = folder::choose(args.folder)?;
    let listing = folder::list(&folder)?;
    let (workflow, tasks) = tasks::workflow(&listing.files);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, "cannot start threads", error))?;
    let (place, outcome) = runtime.block_on(async {
        // Before there is anything that a signal could leave behind.
        let mut interrupt = Interrupt::listen()?;
        let place = Place::new(cluster.data_dir.clone())?;
        let outcome = engine::run(&place, workflow, tasks, screen, &mut interrupt).await;
        Ok((place, outcome))
    })?;
    runtime.shutdown_timeout(THREADS_MAX);
    let Run { mut counts, took } = outcome?;
    let folders = listing.unreadable.into_iter().map(|(path, reason)| Unreadable::new(path.as_path().into(), reason));
    counts.unreadable.extend(folders);
    let kept = match &place {
        Place::Kept(path) => Some(path.as_path()),
        Place::Temporary(_) => None,
    };
    Report { folder: &folder, counts: &counts, tasks, took, top: args.top, kept }.print(screen)
}
