//! What endings store: results, parts and conclusions of chords, and marks of what has ended.

use std::sync::Arc;

use umbel_proto::GroupId;
use umbel_scheduler::{Commit, Fence, ReadyChord};

use super::{PhasedLedger, backend_error, phases::Phases};
use crate::{
    backends::{ChordStep, Ending},
    ledgers::LedgerError,
};

impl PhasedLedger {
    /// Stores the failures that are about to be told, before whoever is told of one can ask for it. It is not the ending yet: whoever
    /// takes up what is cut off from here runs the task again. That of a chord's body stays in the one step with its conclusion, which
    /// may be somebody else's; Celery, too, calls its errbacks first (`Backend.chord_error_from_stack`).
    pub(super) async fn store_failures(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<(), LedgerError> {
        let endings = all.iter().filter(|at| matches!(batch[**at].fence, Fence::Delivery { .. }));
        let records: Vec<_> = endings.flat_map(|at| phases[*at].failures_told()).collect();
        if !records.is_empty() {
            self.backend.store_of(records).await.into_iter().collect::<Result<Vec<bool>, _>>().map_err(backend_error)?;
        }
        Ok(())
    }

    /// Stores results, records parts and concludes chords: in one step where the backend can. Which commits' chords were another's to
    /// conclude meanwhile.
    pub(super) async fn store(
        &self,
        batch: &[Commit],
        all: &[usize],
        phases: &mut [Phases],
        ready: &mut [Vec<ReadyChord>],
    ) -> Result<Vec<usize>, LedgerError> {
        let storing: Vec<usize> = all.iter().copied().filter(|at| phases[*at].stores()).collect();
        if storing.is_empty() {
            return Ok(Vec::new());
        }
        let Some(endings) = self.backend.endings() else {
            let records = storing.iter().flat_map(|at| std::mem::take(&mut phases[*at].store)).collect();
            self.backend.store_of(records).await.into_iter().collect::<Result<Vec<bool>, _>>().map_err(backend_error)?;
            for at in storing {
                ready[at].extend(self.chord_steps(std::mem::take(&mut phases[at].chord)).await?);
                if let Some((group, failed)) = phases[at].concludes.take() {
                    self.close(&group, failed).await?;
                }
            }
            return Ok(Vec::new());
        };
        let ending = |at: &usize| {
            let phases = &mut phases[*at];
            let mark = match &batch[*at].fence {
                Fence::Delivery { run: Some(run), .. } if phases.needs_mark() => Some(run.clone()),
                _ => None,
            };
            if let Some(run) = &mark {
                phases.remembered = Some(run.as_str().to_owned());
            }
            let records = std::mem::take(&mut phases.store).into_iter().map(|(_, record)| record).collect();
            Ending { concludes: phases.concludes.take(), mark, records, steps: std::mem::take(&mut phases.chord) }
        };
        let stored: Vec<Ending> = storing.iter().map(ending).collect();
        let mut refused = Vec::new();
        for (at, chords) in storing.into_iter().zip(endings.store(&stored).await.map_err(backend_error)?) {
            match chords {
                Some(chords) => ready[at].extend(chords),
                None => refused.push(at),
            }
        }
        Ok(refused)
    }

    pub(super) async fn chord_steps(&self, steps: Vec<ChordStep>) -> Result<Vec<ReadyChord>, LedgerError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        self.backend.chord_steps(steps).await.map_err(backend_error)
    }

    /// Concludes a chord. Publishing may have taken longer than a claim lasts; nobody may have noticed.
    pub(super) async fn close(&self, group: &GroupId, failed: bool) -> Result<(), LedgerError> {
        let closed = self.backend.close_chord(group, failed).await.map_err(backend_error)?;
        if !closed && self.backend.claim_chord(group).await.map_err(backend_error)? {
            self.backend.close_chord(group, failed).await.map_err(backend_error)?;
        }
        Ok(())
    }

    /// Lets the backend forget what is paid for. It goes by itself where that does not come about.
    pub(super) fn forget(&self, names: Vec<String>) {
        if names.is_empty() || self.backend.endings().is_none() {
            return;
        }
        let backend = Arc::clone(&self.backend);
        crate::task::spawn(async move {
            if let Some(endings) = backend.endings()
                && let Err(error) = endings.forget(&names).await
            {
                tracing::debug!(%error, "what is remembered of endings stays until it expires");
            }
        });
    }
}
