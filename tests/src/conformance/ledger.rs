//! What every ledger promises (`umbel::ledgers`).

mod atomic;
mod chords;
mod model;

pub use self::{atomic::*, chords::*, model::*};

use umbel::{
    ledgers::Ledger,
    scheduler::{Answer, Commit, ReadyChord},
};

use crate::wait::soon;

/// Makes one test of every case of the ledger suite.
#[macro_export]
macro_rules! ledger_conformance {
    ($stage:ty) => {
        $crate::conformance_cases!(
            $stage,
            $crate::conformance::ledger,
            [
                an_ending_happens_whole,
                a_failure_is_there_before_its_errback,
                a_failure_that_was_stored_before_ends_its_task,
                a_refused_commit_does_nothing,
                an_old_attempt_is_refused,
                an_ending_cannot_happen_twice,
                a_refused_commit_harms_no_other,
                a_commit_without_a_release_keeps_the_delivery,
                a_begun_delivery_ends_under_its_fence,
                a_begun_delivery_of_a_dead_node_is_lost,
                an_ending_can_requeue_and_bury,
                a_submission_happens_whole,
                a_repeated_submission_happens_once,
                endings_survive,
                a_stored_success_stays,
                watchers_hear_of_endings,
                an_empty_batch_is_answered,
                parts_come_in_any_order,
                a_part_counts_once,
                equal_indexes_of_different_tasks_are_two_parts,
                a_failed_part_completes_like_any_other,
                a_chord_without_members_is_ready_at_once,
                a_grown_chord_waits_for_more,
                a_part_for_no_chord_is_ignored,
                the_last_part_is_told_once_among_many,
                a_chord_is_concluded_once,
                an_incomplete_chord_cannot_be_concluded,
                a_concluded_chord_is_forgotten,
                an_unconcluded_chord_is_found,
                an_unconcluded_chord_is_found_after_a_crash,
                chords_survive_half_way,
                a_large_chord_keeps_its_order,
                a_large_chord_may_have_any_indexes,
                it_behaves_like_the_model,
            ]
        );
    };
}

/// Commits a batch.
async fn commit(ledger: &dyn Ledger, batch: Vec<Commit>) -> Vec<Answer> {
    let count = batch.len();
    let answers = soon("a commit", ledger.commit(batch)).await.unwrap();
    assert_eq!(answers.len(), count);
    answers
}

/// Commits one, demands that it happens, and returns the chords it completed.
async fn done(ledger: &dyn Ledger, one: Commit) -> Vec<ReadyChord> {
    match commit(ledger, vec![one]).await.remove(0) {
        Answer::Done { ready } => ready,
        Answer::Refused => panic!("the commit was refused"),
    }
}

/// Commits one, and demands that it is refused.
async fn refused(ledger: &dyn Ledger, one: Commit) {
    assert_eq!(commit(ledger, vec![one]).await, [Answer::Refused]);
}
