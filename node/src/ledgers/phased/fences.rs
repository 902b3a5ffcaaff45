//! Who may: which commits of a batch still have what their fences ask for.

use std::sync::PoisonError;

use umbel_proto::GroupId;
use umbel_scheduler::{Commit, Fence};

use super::{
    PhasedLedger, backend_error, broker_error,
    phases::{delivery, ends},
};
use crate::{brokers::Held, ledgers::LedgerError};

/// Chords that one batch concludes, until it is dropped.
pub(super) struct Concluding<'a> {
    ledger: &'a PhasedLedger,
    groups: Vec<GroupId>,
}

impl<'a> Concluding<'a> {
    pub(super) fn new(ledger: &'a PhasedLedger) -> Self {
        Self { ledger, groups: Vec::new() }
    }

    /// Whether nobody else here concludes this chord.
    fn begin(&mut self, group: &GroupId) -> bool {
        let new = self.ledger.concluding.lock().unwrap_or_else(PoisonError::into_inner).insert(group.clone());
        if new {
            self.groups.push(group.clone());
        }
        new
    }
}

impl Drop for Concluding<'_> {
    fn drop(&mut self) {
        let mut concluding = self.ledger.concluding.lock().unwrap_or_else(PoisonError::into_inner);
        self.groups.iter().for_each(|group| {
            concluding.remove(group);
        });
    }
}

impl PhasedLedger {
    /// Which commits' fences hold now. A chord's is claimed by asking.
    pub(super) async fn fences(&self, batch: &[Commit], concluding: &mut Concluding<'_>) -> Result<Vec<bool>, LedgerError> {
        let deliveries: Vec<Held> = batch.iter().filter_map(delivery).collect();
        let mut held = self.broker.holds(&deliveries).await.map_err(broker_error)?.into_iter();
        let mut seen: Vec<Held> = Vec::new();
        let mut fences = Vec::with_capacity(batch.len());
        for commit in batch {
            fences.push(match &commit.fence {
                Fence::Open | Fence::Once { .. } => true,
                Fence::Chord { group, .. } => concluding.begin(group) && self.backend.claim_chord(group).await.map_err(backend_error)?,
                Fence::Delivery { .. } => {
                    let Some(delivery) = delivery(commit) else { continue };
                    // Of two endings of one delivery in a batch the first counts.
                    let first = !seen.contains(&delivery);
                    if commit.effects.iter().any(ends) {
                        seen.push(delivery);
                    }
                    held.next().unwrap_or(false) && first
                }
            });
        }
        Ok(fences)
    }
}
