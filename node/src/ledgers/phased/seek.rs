//! What others have done already: endings that are stored, copies that were taken before.

use umbel_proto::{State, TaskId};
use umbel_scheduler::{Commit, Fence, admission::Ended};

use super::{PhasedLedger, backend_error, phases::Phases};
use crate::{backends::Sought, ledgers::LedgerError};

impl PhasedLedger {
    /// Why there is nothing left to run of messages, where there is not.
    pub(super) async fn seek(&self, sought: Vec<Sought>) -> Result<Vec<Option<Ended>>, LedgerError> {
        if sought.is_empty() {
            return Ok(Vec::new());
        }
        let mut ended: Vec<Option<Ended>> = match self.backend.endings() {
            Some(endings) => {
                let over = endings.look(&sought).await.map_err(backend_error)?;
                over.into_iter().map(|over| over.then_some(Ended::Whole)).collect()
            }
            None => vec![None; sought.len()],
        };
        let unknown = sought.iter().enumerate().filter(|(at, sought)| sought.again && ended[*at].is_none());
        let (places, ids): (Vec<usize>, Vec<TaskId>) = unknown.map(|(at, sought)| (at, sought.run.task())).unzip();
        if !ids.is_empty() {
            let records = self.backend.get(&ids).await.map_err(backend_error)?;
            for (at, record) in places.into_iter().zip(records) {
                let success = record.filter(|record| record.status == State::Success);
                ended[at] = success.map(|record| Ended::Stored(Box::new(record)));
            }
        }
        Ok(ended)
    }

    /// Takes out of endings of messages that came again what another taking has done meanwhile.
    pub(super) async fn spare(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<(), LedgerError> {
        let mut places = Vec::new();
        let mut sought = Vec::new();
        for at in all {
            let Fence::Delivery { attempt: 2.., run: Some(run), .. } = &batch[*at].fence else { continue };
            if phases[*at].ends() {
                places.push(*at);
                sought.push(Sought { run: run.clone(), again: true, stamp: None });
            }
        }
        for (at, ended) in places.into_iter().zip(self.seek(sought).await?) {
            if ended.is_some() {
                phases[at].publish.clear();
                phases[at].store.clear();
                if matches!(ended, Some(Ended::Whole)) {
                    phases[at].chord.clear();
                }
            }
        }
        Ok(())
    }
}
