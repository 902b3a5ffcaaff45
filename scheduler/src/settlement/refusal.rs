//! Messages that never ran.

use umbel_proto::{State, TaskError};

use super::{Ending, Settlement, failure::worker_lost_error, run::Run};
use crate::{DeadReason, Effect, PartResult, Release, admission::Ended};

impl Run<'_> {
    pub(super) fn unknown(&self) -> Settlement {
        let task = self.invocation.headers.task.as_str();
        let error = TaskError::new("celery.exceptions", "NotRegistered", task);
        let mut effects = self.ended(&State::Failure, &error);
        let detail = format!("no task named {task:?} is registered on this node");
        effects.push(Effect::Release(Release::Dead { reason: DeadReason::UnknownTask, detail }));
        Settlement { effects, ending: Ending::Failed { error } }
    }

    pub(super) fn crashed(&self, detail: &str) -> Settlement {
        let release = Release::Dead { reason: DeadReason::Crashed, detail: detail.to_owned() };
        self.fail_with(worker_lost_error(&format!("Worker exited prematurely: {detail}.")), release)
    }

    pub(super) fn ended_before(&self, ended: &Ended) -> Settlement {
        let part = match ended {
            Ended::Stored(record) => self.part(PartResult::Value(record.result.clone())),
            Ended::Whole => None,
        };
        let mut effects: Vec<Effect> = part.into_iter().collect();
        effects.push(Effect::Release(Release::Ack));
        Settlement { effects, ending: Ending::Ignored }
    }

    pub(super) fn lost(&self) -> Settlement {
        self.fail(worker_lost_error("Worker exited prematurely: its node died after the message was acknowledged."))
    }
}
