//! The task failed or was revoked: its own result, its chord, the rest of its chain, its errbacks.

use umbel_proto::{ErrbackLeft, State, TaskError, repr};

use super::{
    Ending, Settlement,
    errbacks::{self, Errbacks},
    run::Run,
};
use crate::{DeadReason, Effect, PartResult, Release, canvas::abandon::Abandon, retry::after_crash};

impl Run<'_> {
    /// FAILURE for good.
    ///
    /// With `acks_on_failure` off, or `dead_letter_on_failure` on, the message is kept among the dead letters as well.
    pub(super) fn fail(&self, error: TaskError) -> Settlement {
        let release = self.release(&error);
        self.fail_with(error, release)
    }

    /// As [`Self::fail`], with the errbacks that its process has left, and without what is `stored` by then ([`early`](super::early)).
    pub(super) fn fail_told(&self, error: TaskError, left: &[ErrbackLeft], stored: bool) -> Settlement {
        let release = self.release(&error);
        let mut settlement = self.fail_for_good(error, Errbacks::Left(left), release);
        if stored {
            settlement.stored_before();
        }
        settlement
    }

    fn release(&self, error: &TaskError) -> Release {
        let spec = self.context.spec;
        if spec.dead_letter_on_failure || !spec.acks_on_failure {
            Release::Dead { reason: DeadReason::RetriesExhausted, detail: repr::error_repr(error) }
        } else {
            Release::Ack
        }
    }

    /// FAILURE for good, paying the broker with `release`.
    pub(super) fn fail_with(&self, error: TaskError, release: Release) -> Settlement {
        self.fail_for_good(error, Errbacks::All(&self.invocation.embed().errbacks), release)
    }

    fn fail_for_good(&self, error: TaskError, errbacks: Errbacks<'_>, release: Release) -> Settlement {
        let mut effects = self.ended(&State::Failure, &error);
        let mut planner = self.planner();
        errbacks::call(&mut planner, self.id(), &error, errbacks);
        effects.append(&mut planner.effects);
        effects.push(Effect::Release(release));
        Settlement { effects, ending: Ending::Failed { error } }
    }

    /// The task's own result, its part of its chord, and the end of all that was to follow it (rule 16, W1, W6, W7).
    pub(super) fn ended(&self, state: &State, error: &TaskError) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.stores_errors() {
            effects.push(self.store(state.clone(), error.to_value(), Some(error), Some(Vec::new())));
        }
        effects.extend(self.part(PartResult::Error(error.clone())));
        let mut abandon = Abandon {
            specs: self.context.specs,
            state,
            error,
            root: Some(self.root()),
            seed: self.id().as_str(),
            now: self.context.now,
            effects: &mut effects,
        };
        abandon.rest(self.invocation.embed().chain.iter());
        effects
    }

    /// REVOKED: like a failure, but without errbacks (rule 18).
    pub(super) fn revoke(&self, reason: &str, signal: Option<i32>) -> Settlement {
        let error = TaskError::new("celery.exceptions", "TaskRevokedError", reason);
        let mut effects = self.ended(&State::Revoked, &error);
        effects.push(Effect::Release(Release::Ack));
        let (expired, terminated) = (reason == "expired", reason == "terminated");
        Settlement { effects, ending: Ending::Revoked { expired, terminated, signal, reason: reason.to_owned() } }
    }

    /// The task refused its message for good: Celery 5.7's FAILURE with `Reject(reason, False)`, and a dead letter.
    pub(super) fn reject(&self, reason: String) -> Settlement {
        let mut error = TaskError::new("celery.exceptions", "Reject", reason.clone());
        error.exc_message.push(false.into());
        let mut settlement = self.fail_with(error.clone(), Release::Dead { reason: DeadReason::Rejected, detail: reason });
        settlement.ending = Ending::Rejected { requeued: false, error: Some(error) };
        settlement
    }

    /// The executor died. The message runs again after a growing delay until it has killed `max_crashes` of them; one that was
    /// acknowledged early never runs again.
    pub(super) fn worker_lost(&self, detail: &str) -> Settlement {
        let context = self.context;
        let error = || worker_lost_error(&format!("Worker exited prematurely: {detail}."));
        if context.begun {
            return self.fail(error());
        }
        let crashes = context.crashes.saturating_add(1);
        if crashes >= context.spec.max_crashes {
            let detail = format!("{crashes} executors died under it, the last one: {detail}");
            return self.fail_with(error(), Release::Dead { reason: DeadReason::Crashed, detail });
        }
        let due = Some(after_crash(context.crashes, context.now));
        self.silent(Release::Requeue { due, crashes }, Ending::Requeued { detail: detail.to_owned() })
    }
}

pub(super) fn worker_lost_error(message: &str) -> TaskError {
    TaskError::new("billiard.exceptions", "WorkerLostError", message)
}
