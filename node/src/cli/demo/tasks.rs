//! The tasks of the demo, and the workflow made of them.

use umbel_proto::Signature;

use super::{
    counts::Counts,
    files::{Found, WirePath, share},
};
use crate::{
    context::Context,
    executors::native::{Builder, TaskResult},
};

/// Counts the words of some files. Gives its message back when the node wants to stop: the files can be counted again.
#[crate::task(name = "umbel.demo.count_words")]
fn count_words(ctx: &Context, files: Vec<WirePath>) -> TaskResult<Counts> {
    let stop = || ctx.is_stopping();
    Counts::of(files, &stop).map_err(|stopped| ctx.reject(true, stopped.to_string()))
}

/// Adds counts up.
#[crate::task(name = "umbel.demo.merge_counts")]
fn merge_counts(parts: Vec<Counts>) -> Counts {
    Counts::sum(parts)
}

/// With the tasks of the demo.
pub(super) fn register(builder: Builder) -> Builder {
    builder.task(count_words).task(merge_counts)
}

/// A chord: count shares of `files` side by side, then add the counts up. And how many tasks that is.
pub(super) fn workflow(files: &[Found]) -> (Signature, usize) {
    let header: Vec<Signature> = share(files).into_iter().map(count_words::s).collect();
    let tasks = header.len() + 1;
    (Signature::chord(header, merge_counts::partial()), tasks)
}
