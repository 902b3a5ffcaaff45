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

/// How many counts one task adds up.
const MERGED_MAX: usize = 64;

/// Counts the words of some files. Nobody asks for the counts of some: only the chord gets them. Gives its message back when the node wants to stop: the files can be counted again.
#[crate::task(name = "umbel.demo.count_words", ignore_result)]
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
///
/// Where there are many, groups of them are added up first, by chords that are members of the outer one: adding up is done
/// side by side as well, and no message has to hold the words of every file.
pub(super) fn workflow(files: &[Found]) -> (Signature, usize) {
    let counts: Vec<Signature> = share(files).into_iter().map(count_words::s).collect();
    let mut tasks = counts.len() + 1;
    let header: Vec<Signature> = if counts.len() <= MERGED_MAX {
        counts
    } else {
        let groups = counts.chunks(MERGED_MAX).map(|group| Signature::chord(group.iter().cloned(), merge_counts::partial()));
        groups.collect()
    };
    tasks += if tasks > MERGED_MAX + 1 { header.len() } else { 0 };
    (Signature::chord(header, merge_counts::partial()), tasks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::files::list;

    /// Every file is in the workflow once, and no chord has more members than one task should add up.
    #[test]
    fn many_files_are_added_up_in_groups() {
        for (files, members, tasks) in [(0, 0, 1), (1, 1, 2), (MERGED_MAX, MERGED_MAX, MERGED_MAX + 1), (MERGED_MAX + 1, 2, MERGED_MAX + 4)]
        {
            let folder = tempfile::tempdir().unwrap();
            for n in 0..files {
                std::fs::write(folder.path().join(n.to_string()), "").unwrap();
            }
            let (workflow, counted) = workflow(&list(folder.path()).unwrap().files);
            let header = workflow.tasks().unwrap();
            assert_eq!((header.len(), counted), (members, tasks));
            let inner: usize = header.iter().map(|member| member.tasks().unwrap().len()).sum();
            assert_eq!(if files > MERGED_MAX { inner } else { header.len() }, files);
        }
    }
}
