//! The progress bar of the demo, on terminals only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::Screen;

/// Draws how many of a workflow's tasks are done; nothing where nobody watches.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(screen: &Screen, tasks: usize) -> Self {
        let target = if screen.live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(tasks as u64), target);
        let style = ProgressStyle::with_template("counting {bar:40} {pos}/{len} tasks  {elapsed}");
        bar.set_style(style.expect("the template is valid").progress_chars("━╸ "));
        bar.tick();
        Self(bar)
    }

    /// `done` tasks have ended.
    pub(super) fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    /// The line is the terminal's again, however the run ended.
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
