//! What the pool has, task by task, and the ending of some of it: for remote control.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use tokio::time::Instant;
use umbel_proto::{Invocation, TaskId};
use umbel_scheduler::{admission::Refusal, revocation::texts};

use super::{
    super::held::{HeldTask, Stage, Which},
    State,
    runs::{EndedBy, Work},
};

/// The signal that leaves no grace.
const SIGKILL: i32 = 9;

impl State {
    /// Every task it has: those that run, then those that wait, in their order.
    pub(super) fn held(&self) -> Vec<HeldTask> {
        let running = self.seats.iter().filter_map(|seat| {
            let process = seat.process.as_ref().map(|process| process.load(Ordering::Relaxed)).filter(|process| *process > 0);
            match &seat.work {
                Work::Running(running) => Some(HeldTask::new(
                    running.task(),
                    Stage::Active { since: running.started_at(), process: process.or(Some(std::process::id())) },
                )),
                Work::Beginning { task, .. } => Some(HeldTask::new(task, Stage::Reserved)),
                Work::None => None,
            }
        });
        let handed = self.seats.iter().flat_map(|seat| seat.hand.tasks());
        running.chain(handed.chain(self.ahead.tasks()).chain(&self.waiting).map(|task| HeldTask::new(task, Stage::Reserved))).collect()
    }

    /// Ends tasks it has, and says which: those that run by `signal`, those that wait by refusing them.
    pub(super) fn terminate_some(&mut self, which: &Which, signal: i32) -> Vec<TaskId> {
        let mut ended = Vec::new();
        for index in 0..self.seats.len() {
            let running = match &mut self.seats[index].work {
                Work::Running(running) => running,
                Work::Beginning { task, ended: told, .. } if which.names(&task.invocation) && which.includes_waiting() => {
                    *told = true;
                    ended.push(task.invocation.headers.id.clone());
                    continue;
                }
                Work::Beginning { .. } | Work::None => continue,
            };
            let invocation = running.task().invocation.clone();
            if !which.names(&invocation) {
                continue;
            }
            ended.push(invocation.headers.id.clone());
            self.terminate(index, EndedBy::Revoke { signal: Some(signal) });
            if signal == SIGKILL {
                self.kill_now(index);
            }
        }
        if which.includes_waiting() {
            ended.extend(self.refuse_ahead(Some(which)));
            ended.extend(self.call_back_refused(Some((which, signal))));
        }
        for task in std::mem::take(&mut self.waiting) {
            if which.names(&task.invocation) && which.includes_waiting() {
                ended.push(task.invocation.headers.id.clone());
                self.refuse(task, Refusal::Revoked);
            } else {
                self.waiting.push_back(task);
            }
        }
        self.set_alarm();
        ended
    }

    /// Leaves a run that was told to end no grace.
    fn kill_now(&mut self, index: usize) {
        if let Work::Running(running) = &mut self.seats[index].work {
            let now = Instant::now();
            let before = running.hasten(now);
            if let Some(before) = before {
                self.deadlines.remove(before, index, super::deadlines::Deadline::Grace);
            }
            self.deadlines.insert(now, index, super::deadlines::Deadline::Grace);
        }
    }
}

impl Which {
    /// Whether a task is meant.
    pub(crate) fn names(&self, invocation: &Arc<Invocation>) -> bool {
        let headers = &invocation.headers;
        match self {
            Self::Ids(ids) => ids.contains(headers.id.as_str()),
            Self::Stamps(stamps) => {
                let meant = |(name, values): (&String, &Vec<String>)| {
                    headers.stamps.get(name).is_some_and(|stamp| texts(stamp).iter().any(|text| values.contains(text)))
                };
                stamps.iter().any(meant)
            }
        }
    }

    /// Which of the stamps a task has.
    pub(crate) fn matching(&self, invocation: &Invocation) -> BTreeMap<String, Vec<String>> {
        let Self::Stamps(stamps) = self else { return BTreeMap::new() };
        let of = |name: &String, values: &Vec<String>| -> Vec<String> {
            let own = invocation.headers.stamps.get(name).map(texts).unwrap_or_default();
            own.into_iter().filter(|text| values.contains(text)).collect()
        };
        stamps.iter().map(|(name, values)| (name.clone(), of(name, values))).filter(|(_, values)| !values.is_empty()).collect()
    }

    fn includes_waiting(&self) -> bool {
        matches!(self, Self::Ids(_))
    }
}
