//! What endings send: moved in one step, stamped, published.

use umbel_scheduler::{Commit, Fence, Release, RunId};

use super::{PhasedLedger, backend_error, broker_error, phases::Phases};
use crate::{
    backends::Beginning,
    ledgers::{LedgerError, Stamp},
};

impl PhasedLedger {
    /// Sends on what is only moved (a later time, another turn), in one step with its acknowledgement; which commits found it not held
    /// any more.
    pub(super) async fn send_on(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<Vec<usize>, LedgerError> {
        let (mut places, mut moves) = (Vec::new(), Vec::new());
        for at in all {
            let Fence::Delivery { run: Some(run), .. } = &batch[*at].fence else { continue };
            let phases = &mut phases[*at];
            let moved = matches!(&phases.publish[..], [publish] if RunId::of(&publish.invocation) == *run);
            if moved && phases.store.is_empty() && phases.chord.is_empty() && matches!(phases.release, Some((_, Release::Ack))) {
                moves.extend(phases.release.take().map(|(held, _)| held).zip(phases.publish.pop()));
                places.push(*at);
            }
        }
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let sent = self.broker.send_on(moves).await.into_iter().collect::<Result<Vec<bool>, _>>().map_err(broker_error)?;
        Ok(places.into_iter().zip(sent).filter(|(_, sent)| !sent).map(|(at, _)| at).collect())
    }

    /// Writes on what endings send that they send it.
    pub(super) async fn stamp(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<(), LedgerError> {
        let Some(endings) = self.backend.endings() else { return Ok(()) };
        let mut places = Vec::new();
        let mut beginnings = Vec::new();
        for at in all {
            let beginning = match &batch[*at].fence {
                Fence::Delivery { tag, attempt, run: Some(run) } => {
                    if phases[*at].publish.iter().all(|publish| RunId::of(&publish.invocation) == *run) {
                        continue;
                    }
                    Beginning { what: run.as_str().to_owned(), name: format!("{}.{tag}.{attempt}", self.names.0), first: *attempt == 1 }
                }
                Fence::Chord { group, .. } if !phases[*at].publish.is_empty() => {
                    Beginning { what: format!("chord:{group}"), name: self.name(), first: false }
                }
                _ => continue,
            };
            places.push(*at);
            beginnings.push(beginning);
        }
        if beginnings.is_empty() {
            return Ok(());
        }
        let names = endings.begin(&beginnings).await.map_err(backend_error)?;
        for ((at, Beginning { what, .. }), ending) in places.into_iter().zip(beginnings).zip(names) {
            for publish in &mut phases[at].publish {
                if RunId::of(&publish.invocation).as_str() != what {
                    Stamp { ending: ending.clone(), copy: self.name() }.put(&mut publish.invocation);
                }
            }
            phases[at].sends = true;
            phases[at].remembered = Some(what);
        }
        Ok(())
    }

    /// Publishes. Who submits something and dies does not send it again, so that it must go whole; an ending is taken up by others.
    pub(super) async fn publish(&self, batch: &[Commit], all: &[usize], phases: &mut [Phases]) -> Result<(), LedgerError> {
        let (mut each, mut whole) = (Vec::new(), Vec::new());
        for at in all {
            let publish = std::mem::take(&mut phases[*at].publish);
            let submits = matches!(batch[*at].fence, Fence::Open | Fence::Once { .. });
            if submits && publish.len() > 1 { whole.extend(publish) } else { each.extend(publish) }
        }
        if !each.is_empty() {
            self.broker.publish(each).await.into_iter().collect::<Result<Vec<()>, _>>().map_err(broker_error)?;
        }
        if !whole.is_empty() {
            self.broker.publish_whole(whole).await.map_err(broker_error)?;
        }
        Ok(())
    }
}
